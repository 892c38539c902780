"""An architecture's tables of rules, made of its tensors: as an author would write them, numbers taken out.

    stages.{a}.blocks.{b}.conv_dw.{wb} -> stages_{a}.blocks.{b}.conv_dw.{wb}
    head.fc.{wb} -> dropped: classifier
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator

from zooconv import Dialect, Drop, Rule, drop, keep, rename

from .architectures import Entry
from .tree import CLASSIFIER, COUNTER, KEPT, UNUSED, Row

REASONS = {CLASSIFIER: "classifier", UNUSED: "no feature map needs it"}
COUNTED = "counter, which takes no part in what a model computes"
_TOGETHER = {"wb": ("weight", "bias"), "bn": ("weight", "bias", "running_mean", "running_var")}


def dialect(entry: Entry) -> Dialect:
    """How timm's files name the tensors, to what the features call them."""
    kept = [row.name for row in entry.rows if row.fate == KEPT and row.kind != COUNTER]
    rules: list[Rule | Drop] = list(_drops(entry.rows, {templated(name) for name in kept}))
    # the longest first, so that recognition looks for a prefix by names of which there are few
    rules += [rename(text, entry.renamed(text)) for text in sorted(templates(kept), key=len, reverse=True)]
    return Dialect("timm", rules)


def features(entry: Entry) -> list[Rule]:
    """The features' own names."""
    kept = (entry.renamed(row.name) for row in entry.kept() if row.kind != COUNTER)
    return keep(*sorted(templates(kept), key=len, reverse=True))


def _drops(rows: Iterable[Row], kept: set[str]) -> Iterator[Drop]:
    """What goes: by templates, but where these would take what is kept elsewhere, name by name."""
    rows = tuple(rows)
    for fate, reason in REASONS.items():
        gone = [row.name for row in rows if row.fate == fate and row.kind != COUNTER]
        apart = [name for name in gone if templated(name) in kept]
        yield from (drop(name, reason) for name in apart)
        yield from (drop(text, reason) for text in templates(set(gone).difference(apart)))
    yield from (drop(text, COUNTED) for text in templates(row.name for row in rows if row.kind == COUNTER))


def templates(names: Iterable[str]) -> list[str]:
    """The templates of these names; weight and bias, and the parts of a batch norm, in one."""
    groups: dict[str, list[str]] = {}
    for text in dict.fromkeys(map(templated, sorted(names) if isinstance(names, set) else names)):
        head, _, last = text.rpartition(".")
        groups.setdefault(head, []).append(last)
    return [f"{head}.{last}" if head else last for head, leaves in groups.items() for last in _short(leaves)]


def _short(leaves: list[str]) -> list[str]:
    short = next((name for name, parts in reversed(_TOGETHER.items()) if set(parts) <= set(leaves)), None)
    if short is None:
        return leaves
    return [f"{{{short}}}", *(leaf for leaf in leaves if leaf not in _TOGETHER[short])]


def templated(name: str) -> str:
    """A name with a field for each of its numbers."""
    fields = iter(string.ascii_lowercase)
    return ".".join(f"{{{next(fields)}}}" if part.isdigit() else part for part in name.split("."))
