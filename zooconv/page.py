"""The page beside an artifact, `<file>.md`: what it is, how it came to be, and the command that makes it again.

Written from the conversion's plain data, the same that `--json` prints, in any language of `zooconv.words`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from zooconv.options import Language
from zooconv.report import (
    Data,
    by_reason,
    changed_lines,
    checks_line,
    filled_lines,
    identity_line,
    missing_lines,
    source_line,
)
from zooconv.words import Words

SHOWN = 20


def page(data: Data, language: Language = "en") -> str:
    """A finished conversion as a Markdown page."""
    words, artifact = Words(language), data["artifact"]
    counts = data["counts"]
    columns = {"in source": "source", "kept": "kept", "dropped": "dropped", "fresh": "fresh", "in file": "written"}
    blocks = [
        f"# {artifact['file'].rsplit('/', 1)[-1]}",
        words("head", version=data["version"]),
        _table(["", ""], [[words(label), value] for label, value in _facts(data, words)]),
        f"## {words('count')}",
        _table([words(label) for label in columns], [[str(counts[key]) for key in columns.values()]], "--:"),
        *_tensors("dropped here", "reason", data["dropped"], data, words),
        *_tensors("fresh here", "start", data["starts"], data, words),
        words("own words"),
        *_config(data, words),
        f"## {words('again')}",
        _code(data["again"], "sh"),
        words("same bytes"),
        f"## {words('next')}",
        _code("\n".join(_next(data, words)), "sh"),
    ]
    return "\n\n".join(blocks) + "\n"


def _config(data: Data, words: Words) -> list[str]:
    """The config that goes with the weights, where they are for Detectron2."""
    if "config_text" not in data:
        return []
    form, text = data["config_text"]["form"], data["config_text"]["text"]
    return [f"## {words('config')}", _code(text, {"yaml": "yaml", "lazy": "python"}[form])]


def _facts(data: Data, words: Words) -> Iterator[tuple[str, str]]:
    """The rows of the first table, by the keys of their labels."""
    artifact, comma = data["artifact"], words("comma")
    amounts = [words("tensors", n=artifact["tensors"]), words("elements", n=f"{artifact['params']:,}"),
               *(f"{n} {dtype}" for dtype, n in artifact["dtypes"].items())]
    yield "source", source_line(data, words)
    yield "source sha256", "\n".join(file["sha256"] for file in data["source"]["files"])
    yield "is", identity_line(data, words)
    yield "layout", words("with", what=data["layout"], more=comma.join(amounts))
    yield "changed", "\n".join(changed_lines(data, words)) or words("unchanged")
    if "filled" in data:
        yield "filled", "\n".join(filled_lines(data))
    if missing := missing_lines(data):
        yield "missing", "\n".join(missing)
    yield "sha256", artifact["sha256"]
    yield "tree", artifact["tree"]
    yield "canonical", artifact["canonical"]
    yield "checked", checks_line(data, words)
    yield "recorded", data["name"]
    yield "licence", data["license"]
    if "note" in data:
        yield "note", data["note"]
    for note in data["mind"]:
        yield "mind", note


def _tensors(title: str, label: str, reasons: Mapping[str, str], data: Data, words: Words) -> list[str]:
    """A table of tensors by what is said of them, under its title; nothing where there are none."""
    if not reasons:
        return []
    rows = []
    for reason, names in by_reason(reasons).items():
        more = words("more", n=len(names) - SHOWN, file=f"{data['artifact']['file'].rsplit('/', 1)[-1]}.cert.json")
        listed = [f"`{name}`" for name in names[:SHOWN]] + ([more] if len(names) > SHOWN else [])
        rows.append([str(len(names)), ", ".join(listed), reason])
    return [f"### {words(title)}", _table(["", words("tensor"), words(label)], rows)]


def _next(data: Data, words: Words) -> list[str]:
    """What to do with the file, a command a line."""
    where = "" if data["registry"] == "registry.json" else " --registry " + shlex.quote(data["registry"])
    commands = {f"zooconv {verb} {data['name']}{where}": key
                for verb, key in (("verify --certificate", "verify"), ("parity", "parity"), ("card", "card"))}
    width = max(map(len, commands)) + 2
    return [f"{command:<{width}}# {words(key)}" for command, key in commands.items()]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---") -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"

    return "\n".join([line(header), "|" + f"{align}|" * len(header), *map(line, rows)])


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
