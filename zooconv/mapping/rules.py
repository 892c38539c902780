"""Rules: which tensor of one way of naming is which of the canonical one, running in both directions.

    rename("stem.{i}.{wb}",                        "downsample_layers.0.{i}.{wb}")
    rename("stages.{s}.blocks.{b}.mlp.fc{n}.{wb}", "stages.{s}.{b}.pwconv{n}.{wb}", linear)
    drop("head.fc.{wb}", "classifier")

The left side is a dialect's, the right side the family's canonical naming. A merge or a split has several templates on
one side; all templates of a rule bind the same variables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zooconv.mapping.ops import Op, identity
from zooconv.mapping.template import Template, parse_template


@dataclass(frozen=True)
class Rule:
    """Tensors of a dialect (`sources`) and the canonical tensors (`targets`) that `op` makes of them."""

    sources: tuple[Template, ...]
    targets: tuple[Template, ...]
    op: Op = identity

    def __post_init__(self) -> None:
        first = self.sources[0]
        for side in (*self.sources, *self.targets):
            if side is not first and side.variables != first.variables:
                odd = ", ".join(sorted(side.variables ^ first.variables))
                raise ValueError(f"rule {self}: {{{odd}}} stands on one side only, so the rule has no inverse")

    def __str__(self) -> str:
        left, right = (" + ".join(map(str, side)) for side in (self.sources, self.targets))
        return f"{left} -> {right}" + ("" if self.op == identity else f"  [{self.op}]")


@dataclass(frozen=True)
class Drop:
    """A tensor of a dialect that no backbone has, and why.

    With `same_as`, it is a second name of another tensor: its bytes are compared with that tensor's before it goes.
    """

    source: Template
    reason: str
    same_as: Template | None = None

    def __str__(self) -> str:
        return f"{self.source} -> dropped: {self.reason}"


def _templates(texts: str | Iterable[str]) -> tuple[Template, ...]:
    return tuple(map(parse_template, [texts] if isinstance(texts, str) else texts))


def rename(source: str, target: str, op: Op = identity) -> Rule:
    """One tensor, under the canonical name, through `op`."""
    return Rule(_templates(source), _templates(target), op)


def keep(*names: str) -> list[Rule]:
    """Tensors whose names are canonical already."""
    return [rename(name, name) for name in names]


def merge(sources: Iterable[str], target: str, op: Op) -> Rule:
    """Several tensors that are one in the canonical naming."""
    return Rule(_templates(sources), _templates(target), op)


def split(source: str, targets: Iterable[str], op: Op) -> Rule:
    """One tensor that is several in the canonical naming."""
    return Rule(_templates(source), _templates(targets), op)


def together(sources: Iterable[str], targets: Iterable[str]) -> Rule:
    """Several tensors that come together or not at all: each is one in the canonical naming."""
    return Rule(_templates(sources), _templates(targets))


def compute(sources: Iterable[str], targets: Iterable[str], op: Op) -> Rule:
    """Several canonical tensors of which others are computed: a rule of a `Change`."""
    return Rule(_templates(sources), _templates(targets), op)


def drop(source: str, reason: str) -> Drop:
    """A tensor that no backbone has, and why."""
    return Drop(parse_template(source), reason)


def same_as(source: str, other: str) -> Drop:
    """A second name of the dialect's tensor `other`: proved equal to it, then dropped."""
    return Drop(parse_template(source), f"second name of {other}", parse_template(other))
