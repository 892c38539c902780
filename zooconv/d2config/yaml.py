"""A YAML config as Detectron2 reads it (fvcore/common/config.py, yacs/config.py), with the place of every value.

Nothing in it is executed: tags of Python objects are texts here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.d2config.keys import merged
from zooconv.errors import UsageError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

BASE = "_BASE_"
_ELSEWHERE = ("http://", "https://", "detectron2://", "catalog://", "s3://")


@dataclass(frozen=True)
class Document:
    """A YAML file: its path as it was named, its text, its root node if it has one, and its first bytes if a mark."""

    path: Path
    text: str
    root: Any
    mark: bytes = b""

    @cached_property
    def values(self) -> dict[str, Any]:
        """What it says, as nested mappings, without what it is based on."""
        found: dict[str, Any] = value_of(self.root) if self.root is not None else {}
        return found

    @cached_property
    def lines(self) -> dict[str, int]:
        """The line of every key, by its dotted name."""
        return dict(_lines(self.root, "")) if self.root is not None else {}


@dataclass(frozen=True)
class Chain:
    """A config and all that it is based on, the config first. `unread` are bases that are not on this disk."""

    documents: tuple[Document, ...]
    unread: tuple[str, ...]

    @property
    def values(self) -> dict[str, Any]:
        """What counts, where no default does."""
        values: dict[str, Any] = {}
        for document in reversed(self.documents):
            values = merged(values, document.values)
        return values

    def place(self, key: str) -> str:
        """Where the value that counts for a dotted key stands: `configs/x.yaml:7`, or nothing."""
        for document in self.documents:
            if key in document.lines:
                return f"{document.path}:{document.lines[key]}"
        return ""


def read_chain(path: Path) -> Chain:
    """Read a config and its bases. Raises UsageError for what is no config, is missing, or is its own base."""
    documents: list[Document] = []
    unread: list[str] = []
    _follow(path, (), documents, unread)
    return Chain(tuple(documents), tuple(unread))


def read(path: Path) -> Document:
    """Read one YAML config. Raises UsageError for a file that is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the config {path}: {error.strerror}",
                         next="name one that is there; for a new one: zooconv config NAME > FILE") from None
    if path.suffix == ".py":
        raise UsageError(f"{path} is a LazyConfig: a program, which zooconv does not edit",
                         next="zooconv config NAME --lazy  (prints what to paste into it)")
    mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    try:
        text = data[len(mark):].decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no YAML", why=[str(error)]) from None
    document = Document(path, text, parse(text, path), mark)
    if document.root is not None and document.root.id != "mapping":
        raise not_a_config(path)
    if not isinstance(document.values.get("MODEL", {}), Mapping | None):
        raise not_a_config(path)
    return document


def not_a_config(path: Path) -> UsageError:
    return UsageError(f"{path} is no Detectron2 config: a YAML mapping, with a mapping MODEL in it")


def parse(text: str, path: Path) -> Node | None:
    """The root node of a YAML text, of YAML 1.1 as PyYAML reads it. Raises UsageError, naming the file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    try:
        return yaml.compose(text)  # type: ignore[no-any-return]
    except (YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        told = f"{getattr(error, 'problem', error)}" + (f", line {where.line + 1}" if where else "")
        raise UsageError(f"{path} is no YAML", why=[told]) from None


def value_of(node: Any) -> Any:
    """A node's value, as yacs understands it: text that is a Python literal is that literal."""
    if node.id == "mapping":
        own = [(key.value, value) for key, value in node.value if key.id == "scalar"]
        inherited = [value_of(one) for key, value in own if key == "<<"
                     for one in (value.value if value.id == "sequence" else [value])]
        values = {key: value_of(value) for key, value in own if key != "<<"}
        return {k: v for one in reversed(inherited) for k, v in one.items()} | values
    if node.id == "sequence":
        return [value_of(item) for item in node.value]
    kind = str(node.tag).rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in ("yes", "true", "on", "y")
    return _literal(node.value)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _lines(node: Any, under: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        if key.id == "scalar":
            yield under + key.value, key.start_mark.line + 1
            if value.id == "mapping":
                yield from _lines(value, f"{under}{key.value}.")


def _follow(path: Path, above: tuple[Path, ...], documents: list[Document], unread: list[str]) -> None:
    if path.resolve() in above:
        raise UsageError(f"{path} is based on itself", why=[f"{BASE}: {' -> '.join(p.name for p in above)}"])
    document = read(path)
    documents.append(document)
    bases = document.values.get(BASE) or []
    for base in reversed(bases if isinstance(bases, list | tuple) else [bases]):  # of several, the last has the word
        if str(base).startswith(_ELSEWHERE):
            unread.append(str(base))
            continue
        place = path.parent / Path(str(base)).expanduser()
        if not place.is_file():
            raise UsageError(f"{path} is based on {base}, which is not there", why=[f"looked for {place}"],
                             next="check the config where its project has it")
        _follow(place, (*above, path.resolve()), documents, unread)
