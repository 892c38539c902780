"""A conversion in words: the summary on the terminal, and the page beside the file.

Both are written from the conversion's plain data, the same that `--json` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zooconv.d2config.text import config_yaml
from zooconv.mapping.family import config_text
from zooconv.output import facts, megabytes, some

Data = Mapping[str, Any]


def summary(data: Data) -> str:
    """What happened, a fact a line; of a preview, what would happen."""
    artifact, done = data["artifact"], "sha256" in data["artifact"]
    return facts(
        ("source", source_line(data)),
        ("is", identity_line(data)),
        ("changed", "\n".join(changed_lines(data))),
        ("dropped", "\n".join(dropped_lines(data["dropped"]))),
        ("fresh", f"{some(data['fresh'], 2)}  (start values; the source has none)" if data["fresh"] else ""),
        ("wrote" if done else "would write", artifact_line(data)),
        ("sha256", artifact.get("sha256", "")),
        ("checked", checks_line(data) if done else ""),
        ("recorded", f"{data['registry']}: {data['name']}" if done else ""),
        ("licence", data["license"] if data["license"] != "unknown" else ""),
        ("note", data.get("note", "")),
        ("mind", "\n".join(data["mind"])),
    )


def page(data: Data) -> str:
    """The summary as a Markdown page, with the config that goes with the weights."""
    artifact, source = data["artifact"], data["source"]
    rows = [("source", source_line(data)), ("source sha256", "<br>".join(f["sha256"] for f in source["files"])),
            ("recognised as", identity_line(data)),
            ("changed", "<br>".join(changed_lines(data)) or "nothing: every value is the source's"),
            ("dropped", "<br>".join(dropped_lines(data["dropped"])) or "nothing"),
            ("fresh", some(data["fresh"], 8) or "nothing"),
            ("layout", f"{data['layout']}: {artifact['tensors']} tensors, {artifact['params']:,} elements, "
                       + ", ".join(f"{n} {d}" for d, n in artifact["dtypes"].items())),
            ("sha256", artifact["sha256"]), ("tree digest", artifact["tree"]), ("checked", checks_line(data)),
            ("recorded as", data["name"]), ("licence of the weights", data["license"])]
    rows += [("note", data["note"])] if "note" in data else []
    rows += [("mind", note) for note in data["mind"]]
    table = "\n".join(f"| {label} | {value} |" for label, value in rows)
    return (f"# {artifact['file']}\n\n| | |\n|---|---|\n{table}\n\n"
            f"In the Detectron2 config:\n\n```yaml\n{config_yaml(data['detectron2'])}\n```\n\n"
            f"Check it at any time: `zooconv verify {data['name']}`\n")


def artifact_line(data: Data) -> str:
    """What is written, or would be."""
    artifact = data["artifact"]
    size = megabytes(artifact.get("size", artifact["bytes"]))
    return f"{artifact['file']}  (layout {data['layout']}, {artifact['tensors']} tensors, {size})"


def source_line(data: Data) -> str:
    """Where the weights come from."""
    source = data["source"]
    inside = f", under {'.'.join(source['wrapper'])}" if source["wrapper"] else ""
    where = (f"{source['repo']} @ {source['revision'][:12]}, {source['file'].rsplit('/', 1)[-1]}" if "repo" in source
             else source.get("url") or source["file"])
    return f"{where}  ({source['format']}, {source['tensors']} tensors{inside})"


def identity_line(data: Data) -> str:
    """What the weights are."""
    config = config_text(data["config"])
    under = f" under {data['source']['prefix']}" if data["source"]["prefix"] else ""
    return f"{data['title']} {data['variant'] or '(no known variant)'}, {data['dialect']} names{under}  ({config})"


def changed_lines(data: Data) -> list[str]:
    """What was done to the weights besides moving them, and how many of the source's tensors it went into."""
    went = list(data.get("computed", {}).values())
    return [title + (f"  ({went.count(title)} tensors computed anew)" if title in went else "")
            for title in data.get("changes", ())]


def dropped_lines(dropped: Mapping[str, str]) -> list[str]:
    """What is left out, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in dropped.items():
        reasons.setdefault(reason, []).append(name)
    return [f"{len(names)}: {some(names)}  ({reason})" for reason, names in reasons.items()]


def checks_line(data: Data) -> str:
    """How the file was checked."""
    odd = data["checks"]["finite"].get("nonfinite", [])
    return " · ".join([
        f"read back, {data['artifact']['tensors']} tensors as planned, every CRC-32 right",
        f"torch {data['torch']} loads it" if data["torch"] else "not loaded with torch (--no-load-check)",
        f"NaN or Inf in {some(odd)} (--allow-nonfinite)" if odd else "all finite",
    ])

