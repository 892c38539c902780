"""Thousands of tensors' names and shapes on one line, as the tree of modules that they are.

    stem.0=64,3,4,4 stages.0-1(blocks.0-2(gamma:64 norm=64) downsample=128,64,2,2) ^head.fc=1000,128

    name:64,3      a tensor and its shape; i before the shape: whole numbers; # instead of it: a counter
    name=64,3,4,4  a weight of this shape, and a bias with one number for each of its rows
    name~64,3,4,4  a weight alone
    name*64        a batch norm: weight, bias, running mean and variance, and a counter
    name(…)        a module of these; name.…, of a single one
    0-11…          the same for each of these numbers
    -name…         no feature needs it; ^name…, it is the classifier
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

Shape = tuple[int, ...]
KEPT, UNUSED, CLASSIFIER = "", "-", "^"
FLOAT, WHOLE, COUNTER = "", "i", "#"


class Row(NamedTuple):
    """A tensor: its name, its shape, its kind (FLOAT, WHOLE or COUNTER) and its fate (KEPT, UNUSED or CLASSIFIER)."""

    name: str
    shape: Shape
    kind: str = FLOAT
    fate: str = KEPT


# -- writing ---------------------------------------------------------------------------------------------------------


def write(rows: Iterable[Row]) -> str:
    """The line of these tensors, whose order is that of a depth-first walk through their modules."""
    root: dict[str, object] = {}
    for row in rows:
        *path, last = row.name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})  # type: ignore[assignment]
        node[last] = row
    return " ".join(_children(root, KEPT))


def _children(node: Mapping[str, object], above: str) -> Iterator[str]:
    """Each child, equal ones that are numbered through as one."""
    run: list[str] = []
    before = ("", "")
    for name, child in [*node.items(), ("", Row("", ()))]:
        fate = above or _fate(child)
        this = ("" if above else fate, _body(child, fate))
        if run and (this != before or not name.isdigit() or int(name) != int(run[-1]) + 1):
            yield before[0] + (run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}") + before[1]
            run = []
        if name and not name.isdigit():
            yield this[0] + name + this[1]
        elif name:
            run.append(name)
        before = this


def _fate(node: object) -> str:
    """The fate that all tensors under a node share, if it is not to be kept."""
    if isinstance(node, Row):
        return node.fate
    fates = {_fate(child) for child in node.values()} if isinstance(node, dict) else set()
    return fates.pop() if len(fates) == 1 else KEPT


def _body(node: object, above: str) -> str:
    if isinstance(node, Row):
        return ":" + (COUNTER if node.kind == COUNTER else node.kind + _text(node.shape))
    assert isinstance(node, dict)
    leaves = {name: (leaf.shape, leaf.kind) for name, leaf in node.items() if isinstance(leaf, Row)}
    alike = len({leaf.fate for leaf in node.values() if isinstance(leaf, Row)}) == 1
    if len(leaves) == len(node) and alike and leaves.get("weight", ((), ""))[0]:
        shape = leaves["weight"][0]
        for mark, wanted in _marks(shape).items():
            if list(leaves.items()) == list(wanted.items()):
                return mark + _text(shape)
    children = list(_children(node, above))
    return "." + children[0] if len(children) == 1 else f"({' '.join(children)})"


def _marks(shape: Shape) -> dict[str, dict[str, tuple[Shape, str]]]:
    """What the short marks stand for, with a weight of this shape."""
    weight, rows = (shape, FLOAT), (shape[:1], FLOAT)
    norm = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), rows)
    return {"=": {"weight": weight, "bias": rows}, "~": {"weight": weight},
            "*": {**norm, "num_batches_tracked": ((), COUNTER)}}


def _text(shape: Shape) -> str:
    return ",".join(map(str, shape))


# -- reading ---------------------------------------------------------------------------------------------------------

_ITEM = re.compile(r"([-^]?)(\w+)(?:-(\d+))?([:=~*(.])", re.ASCII)
_END = re.compile(r"[ )]|$")


def read(text: str) -> list[Row]:
    """The tensors of a line, in their order. Raises ValueError for a text that is none."""
    rows, at = _read(text, 0)
    if at != len(text):
        raise ValueError(f"there is too much at {at}: {text[at:at + 20]!r}")
    return rows


def _read(text: str, at: int) -> tuple[list[Row], int]:
    """Siblings from `at` on, and where they end."""
    rows: list[Row] = []
    while at < len(text) and text[at] != ")":
        more, at = _item(text, at + (text[at] == " "))
        rows += more
    return rows, at


def _item(text: str, at: int) -> tuple[list[Row], int]:
    found = _ITEM.match(text, at)
    if found is None:
        raise ValueError(f"there is no tensor at {at}: {text[at:at + 20]!r}")
    fate, name, last, mark = found.groups()
    names = [str(i) for i in range(int(name), int(last) + 1)] if last else [name]
    at = found.end()
    if mark == ".":
        inner, at = _item(text, at)
    elif mark == "(":
        inner, at = _read(text, at)
        at += 1
    else:
        end = _END.search(text, at)
        assert end is not None
        inner, at = list(_leaves(mark, text[at:end.start()])), end.start()
    return [Row(f"{n}.{r.name}" if r.name else n, r.shape, r.kind, fate or r.fate) for n in names for r in inner], at


@lru_cache(4096)
def _leaves(mark: str, text: str) -> tuple[Row, ...]:
    if mark == ":":
        kind = text[:1] if text[:1] in (WHOLE, COUNTER) and text else FLOAT
        return (Row("", _shape(text.removeprefix(kind)), kind),)
    return tuple(Row(name, shape, kind) for name, (shape, kind) in _marks(_shape(text))[mark].items())


def _shape(text: str) -> Shape:
    return tuple(map(int, text.split(","))) if text else ()
