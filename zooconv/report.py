"""A conversion in words: the summary on the terminal, and the lines that the page beside the file shares with it.

Both are written from the conversion's plain data, the same that `--json` prints.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from zooconv.d2config.text import FORMS
from zooconv.mapping.family import config_text
from zooconv.mapping.like import MARK
from zooconv.output import facts, megabytes, some
from zooconv.words import ENGLISH, Words

Data = Mapping[str, Any]


def summary(data: Data) -> str:
    """What happened, a fact a line; of a preview, what would happen."""
    artifact, done = data["artifact"], "sha256" in data["artifact"]
    return facts(
        ("source", source_line(data)),
        ("fetched", fetched_line(data["source"])),
        ("is", identity_line(data)),
        ("changed", "\n".join(changed_lines(data))),
        ("dropped", "\n".join(dropped_lines(data["dropped"]))),
        ("fresh", f"{some(data['fresh'], 2)}  (start values; the source has none)" if data["fresh"] else ""),
        ("filled", "\n".join(filled_lines(data))),
        ("missing", "\n".join(missing_lines(data))),
        ("wrote" if done else "would write", artifact_line(data)),
        ("sha256", artifact.get("sha256", "")),
        ("checked", checks_line(data) if done else ""),
        ("recorded", f"{data['registry']}: {data['name']}" if done else ""),
        ("licence", data["license"] if data["license"] != "unknown" else ""),
        ("note", data.get("note", "")),
        ("mind", "\n".join(data["mind"])),
    )


def config_part(data: Data) -> str:
    """The config that goes with the weights."""
    told = data["config_text"]
    return f"In the Detectron2 config ({FORMS[told['form']]}):\n{textwrap.indent(told['text'], '  ')}"


def artifact_line(data: Data) -> str:
    """What is written, or would be."""
    artifact = data["artifact"]
    size = megabytes(artifact.get("size", artifact["bytes"]))
    return f"{artifact['file']}  ({target(data)}, {artifact['tensors']} tensors, {size})"


def target(data: Data) -> str:
    """What is written."""
    return f"layout {data['layout']}" if "detectron2" in data else f"{data['layout']} names"


def source_line(data: Data, words: Words = ENGLISH) -> str:
    """Where the weights come from."""
    source = data["source"]
    more = [source["format"], words("tensors", n=source["tensors"])]
    more += [words("under", key=".".join(source["wrapper"]))] if source["wrapper"] else []
    return words("with", what=where(source), more=words("comma").join(more))


def where(source: Data) -> str:
    """Where a file is: a commit and its name there, an address, or a path."""
    if "repo" in source:
        return f"{source['repo']} @ {source['revision'][:12]}, {source['file'].rsplit('/', 1)[-1]}"
    return str(source.get("url") or source["file"])


def fetched_line(source: Data) -> str:
    """How much came of a file that was read by ranges."""
    if "fetched" not in source:
        return ""
    came, of = source["fetched"]["received"], source["fetched"]["size"]
    return f"{came / 1e6:,.1f} of {of / 1e6:,.1f} MB, by ranges"


def identity_line(data: Data, words: Words = ENGLISH) -> str:
    """What the weights are."""
    prefix = data["source"]["prefix"]
    names = words("after prefix" if prefix else "names", dialect=data["dialect"], prefix=prefix)
    what = words("comma").join([f"{data['title']} {data['variant'] or words('no variant')}", names])
    return words("with", what=what, more=config_text(data["config"]))


def changed_lines(data: Data, words: Words = ENGLISH) -> list[str]:
    """What was done to the weights besides moving them, and how many of the source's tensors it went into."""
    went = list(data.get("computed", {}).values())
    return [words("with", what=title, more=words("anew", n=went.count(title))) if title in went else title
            for title in data.get("changes", ())]


def dropped_lines(dropped: Mapping[str, str]) -> list[str]:
    """What is left out, by reason."""
    return [f"{len(names)}: {some(names)}  ({reason})" for reason, names in by_reason(dropped).items()]


def filled_lines(data: Data) -> list[str]:
    """What came from an original, by reason, and from where."""
    if "filled" not in data:
        return []
    taken = {name.removeprefix(MARK): why for name, why in data["filled"]["tensors"].items()}
    return [*dropped_lines(taken), f"from {data['filled']['from']}"]


def missing_lines(data: Data) -> list[str]:
    """What a file of the upstream has, and this one has not."""
    never = by_reason(data.get("never", {}))
    lines = dropped_lines(data.get("missing", {}))
    lines += [f"{some(names)}  ({reason})" for reason, names in never.items()]
    return [*lines, "it is in the original: --fill-from NAME"] if lines else []


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """The names that share a reason, for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names


def checks_line(data: Data, words: Words = ENGLISH) -> str:
    """How the file was checked."""
    odd = data["checks"]["finite"].get("nonfinite", [])
    return " · ".join([
        words("read back", n=data["artifact"]["tensors"]),
        words("loads", version=data["torch"]) if data["torch"] else words("not loaded"),
        words("nonfinite", names=some(odd)) if odd else words("finite"),
        *([words("partial")] if "verified" in data["source"] else []),
    ])
