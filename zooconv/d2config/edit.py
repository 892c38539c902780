"""A YAML text with some values changed, and not one other byte.

A value is replaced where it stands; a key that is missing comes last in its mapping, a mapping that is missing, in the
one around it. Afterwards the text is read again, and must say what it said before but for these values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zooconv.d2config.keys import merged
from zooconv.d2config.text import yaml_value
from zooconv.d2config.yaml import Document, parse, value_of
from zooconv.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@:=+-]*[A-Za-z0-9_/]")
_WORDS = {"y", "yes", "n", "no", "on", "off", "true", "false", "null"}


def changed(document: Document, values: Mapping[str, Any]) -> str:
    """The document's text with these values, by dotted key.

    Raises UsageError where that cannot be done without changing what else it says: for a value that others share by a
    YAML anchor, or one that stands where a mapping must.
    """
    text, wanted = document.text, dict(document.values)
    for key, value in values.items():
        parts = key.split(".")
        text = _set(text, parse(text, document.path), parts, value, document.path)
        wanted = merged(wanted, _nested(parts, value))
    root = parse(text, document.path)
    if _plain(value_of(root) if root is not None else {}) != _plain(wanted):
        raise by_hand(document.path, ", ".join(values), "an anchor or another rarity of YAML is in the way")
    return text


def by_hand(path: Path, key: str, why: str) -> UsageError:
    return UsageError(f"{path} cannot be given {key}", why=[why, "it was not touched"],
                      next="change it by hand; zooconv config NAME prints what it must say")


def _set(text: str, root: Any, parts: Sequence[str], value: Any, path: Path) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    if root is None:
        return _joined(text, len(text), _block(parts, value, "", newline), newline)
    node, holder = root, None
    for depth, part in enumerate(parts):
        pair = next(((k, v) for k, v in reversed(node.value) if k.value == part), None)
        if pair is None:
            return _inserted(text, node, parts[depth:], value, newline)
        holder, below = pair
        if depth == len(parts) - 1:
            return _replaced(text, holder, below, value)
        if below.id != "mapping":
            if below.id == "scalar" and not below.value:
                indent = " " * (holder.start_mark.column + 2)
                return _joined(text, _line_end(text, holder.end_mark.index),
                               _block(parts[depth + 1:], value, indent, newline), newline)
            raise by_hand(path, ".".join(parts), f"{'.'.join(parts[:depth + 1])} is no mapping")
        node = below
    raise AssertionError


def _inserted(text: str, node: Any, parts: Sequence[str], value: Any, newline: str) -> str:
    """`text` with a key at the end of a mapping."""
    if node.flow_style:
        end = node.end_mark.index - 1
        head = text[:end].rstrip()
        comma = "" if head[-1] in "{," else ","
        inner = yaml_value(value)
        for part in reversed(parts[1:]):
            inner = f"{{{part}: {inner}}}"
        return f"{head}{comma}{'' if head[-1] == '{' else ' '}{parts[0]}: {inner}{text[end:]}"
    indent = " " * node.value[0][0].start_mark.column if node.value else ""
    return _joined(text, _line_end(text, _content_end(text, node)), _block(parts, value, indent, newline), newline)


def _replaced(text: str, key: Any, old: Any, value: Any) -> str:
    """`text` with another value of a key."""
    after = text.index(":", key.end_mark.index) + 1
    start, end = old.start_mark.index, old.end_mark.index
    if start < key.start_mark.index:  # an alias: its node is the anchor's
        found = re.compile(r"[ \t]*\*[^\s,\]}]+").match(text, after)
        assert found is not None
        return f"{text[:after]} {yaml_value(value)}{text[found.end():]}"
    if old.id == "scalar":
        if start == end:
            return f"{text[:after]} {yaml_value(value)}{text[after:]}"
        body = text[start:end]
        end = start + len(body.rstrip()) if body[:1] in "|>" else end
        return text[:start] + _scalar(value, body) + text[end:]
    if old.flow_style:
        return text[:start] + yaml_value(value) + text[end:]
    items = old.value
    if old.id == "sequence" and isinstance(value, list | tuple) and len(value) == len(items) and all(
            item.id == "scalar" and item.start_mark.index >= start for item in items):
        for item, new in zip(reversed(items), reversed(value), strict=True):
            a, b = item.start_mark.index, item.end_mark.index
            text = text[:a] + _scalar(new, text[a:b]) + text[b:]
        return text
    first, last = text.rindex("\n", 0, start) + 1, _line_end(text, _content_end(text, old))
    return f"{text[:after]} {yaml_value(value)}{text[after:first].rstrip(chr(10)).rstrip(chr(13))}{text[last:]}"


def _block(parts: Sequence[str], value: Any, indent: str, newline: str) -> str:
    lines = [f"{indent}{'  ' * depth}{part}:" for depth, part in enumerate(parts)]
    return newline.join(lines) + f" {yaml_value(value)}"


def _joined(text: str, at: int, block: str, newline: str) -> str:
    """`text` with lines after the one that ends at `at`."""
    before = text[:at]
    if before and not before.endswith("\n"):
        return before + newline + block + (text[at:] or (newline if "\n" not in text else ""))
    return before + block + newline + text[at:]


def _content_end(text: str, node: Any) -> int:
    """Where the last thing of a node ends, comments and blank lines after it left out."""
    if node.id != "scalar" and not node.flow_style and node.value:
        last = node.value[-1]
        key, value = last if isinstance(last, tuple) else (None, last)
        if key is not None and value.start_mark.index < key.start_mark.index:  # an alias: its node is the anchor's
            return text.index(":", key.end_mark.index) + 1
        return max(_content_end(text, value), 0 if key is None else text.index(":", key.end_mark.index) + 1)
    return len(text[:node.end_mark.index].rstrip())


def _line_end(text: str, index: int) -> int:
    """Where the line ends in which `index` lies, before its line feed."""
    end = text.find("\n", index)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1] == "\r" else end


def _scalar(value: Any, old: str) -> str:
    """A value in the quotes, or in the plain style, of the one that it replaces."""
    if not isinstance(value, str) or old.startswith('"'):
        return yaml_value(value)
    if old.startswith("'"):
        return "'" + value.replace("'", "''") + "'"
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def _nested(parts: Sequence[str], value: Any) -> dict[str, Any]:
    return {parts[0]: _nested(parts[1:], value) if parts[1:] else value}


def _plain(value: Any) -> Any:
    """Lists for tuples, so that what was written can be compared with what is read; and no nothings for mappings."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
