"""Changes: declared steps after which the weights are not the source's any more, each named wherever it is told of.

    FOLDED = Change(
        "LayerScale folded into attn.proj and mlp.fc2",
        becomes=lambda config: replace(config, layerscale=False),
        rules=[compute(["blocks.{b}.attn.proj.weight", "blocks.{b}.attn.proj.bias", "blocks.{b}.ls1.gamma"],
                       ["blocks.{b}.attn.proj.weight", "blocks.{b}.attn.proj.bias"], fold_scale), …],
        limit=ROUNDED)

A change leads from the canonical tensors of one config to those of another. Its rules say what is computed of what; a
tensor that no rule takes stays as it is where the config afterwards has it, and goes where it has not. A layout's own
changes are made whenever it is asked for; those that are a choice need their option.

The ops here compute, so they have no way back:

    fold_scale                        the last tensor's elements, multiplied into the rows of each of the others
    resample(axes, to)                two axes, resampled bicubically
    resample_grid(axis, kept, …)      the same for a grid whose places are numbered along one axis
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zooconv.mapping import expr
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Expr, ShapeError
from zooconv.mapping.ops import Exprs, Op, group_order
from zooconv.mapping.rules import Rule, rename
from zooconv.mapping.translate import Translation

ROUNDED = 5e-6  # what rounding new values to float32 may cost at the outputs, relative, measured in float64


@dataclass(frozen=True)
class Change:
    """A declared step from one config to another.

    `title` says what is done and why, in a few words. `becomes` gives the config afterwards; where that is the config
    before, there is nothing to do, unless it is None: a step that no config shows. `limit` is how far outputs may then
    be from the upstream's, relative to their largest value; None where it is another function: then an upstream has to
    follow (see `Upstream.follow`), or cannot be held against it. `turns_colours` says that images must come with their
    channels the other way round.
    """

    title: str
    becomes: Callable[[Any], Any] | None = None
    rules: Sequence[Rule] = ()
    limit: float | None = None
    turns_colours: bool = False

    def after(self, config: Any) -> Any:
        """The config afterwards."""
        return self.becomes(config) if self.becomes else config

    def needed(self, config: Any) -> bool:
        """Is there anything to do?"""
        return self.becomes is None or self.becomes(config) != config

    def __str__(self) -> str:
        """The canonical spelling, which the rules digest is made of."""
        return "\n".join([self.title, *map(str, self.rules)])


def in_turn(config: Any, changes: Iterable[Change]) -> tuple[tuple[Change, ...], Any]:
    """Those changes that are needed, each after the ones before it, and the config after all of them."""
    needed = []
    for change in changes:
        if change.needed(config):
            needed.append(change)
            config = change.after(config)
    return tuple(needed), config


@dataclass(frozen=True)
class Step:
    """A change as it was made: what its rules did, and the names that stayed."""

    change: Change
    translation: Translation
    stayed: tuple[str, ...]

    @property
    def computed(self) -> dict[str, str]:
        """The canonical tensors that went into new values, with the change's title."""
        return {name: self.change.title for firing in self.translation.fired if not firing.rule.op.lossless
                for name in firing.taken}

    def undo(self, values: Mapping[str, Expr]) -> dict[str, Expr]:
        """The tensors before the change, as far as they can be had of those after it."""
        before = {name: values[name] for name in self.stayed if name in values}
        for firing in self.translation.fired:
            if firing.rule.op.lossless and all(name in values for name in firing.made):
                before.update(firing.undone(values, forward=False))
        return before


@dataclass
class Changed:
    """The canonical tensors after some changes, over source tensors, and what became of the others."""

    config: Any
    canonical: dict[str, Expr]
    steps: list[Step] = field(default_factory=list)
    gone: dict[str, str] = field(default_factory=dict)
    misshapen: dict[str, str] = field(default_factory=dict)

    def make(self, changes: Iterable[Change], table: Callable[[Any], Mapping[str, Any]]) -> None:
        """Make those changes that are needed, in turn. `table` gives the canonical tensors of a config by name."""
        for change in in_turn(self.config, changes)[0]:
            _make(change, self, table(change.after(self.config)))

    @property
    def computed(self) -> dict[str, str]:
        """The canonical tensors whose values went into new ones, with the title of the first change that did so."""
        return {name: title for step in reversed(self.steps) for name, title in step.computed.items()}

    @property
    def titles(self) -> tuple[str, ...]:
        return tuple(step.change.title for step in self.steps)

    @property
    def turns_colours(self) -> bool:
        return any(step.change.turns_colours for step in self.steps)


def _make(change: Change, result: Changed, table: Mapping[str, Any]) -> None:
    told = Dialect(change.title, change.rules).to_canonical(result.canonical)
    stay = {name: result.canonical[name] for name in told.unmatched if name in table}
    result.gone |= {name: change.title for name in told.unmatched if name not in table}
    result.misshapen |= told.misshapen
    if change.rules and not told.fired and not result.misshapen:
        result.misshapen[change.title] = "there is no tensor that it could change"
    result.misshapen |= {name: f"needs {', '.join(absent)}" for name, absent in told.incomplete.items()}
    result.config = change.after(result.config)
    after = told.made | stay
    result.canonical = {name: after[name] for name in table if name in after}
    result.steps.append(Step(change, told, tuple(stay)))


def turn_colours(first_convolution: str) -> Callable[[Any, bool], Change]:
    """The choice `--bgr` of a family whose images go into the convolution of this name, weight (O, 3, H, W)."""
    rule = rename(first_convolution, first_convolution, group_order(1, (2, 1, 0)))
    change = Change("colour channels of the first convolution turned round", rules=[rule], turns_colours=True)
    return lambda config, asked: change


# -- ops that compute --------------------------------------------------------------------------------------------------


class Lossy(Op):
    """An op without a way back."""

    lossless = False

    def backward(self, args: Exprs, count: int) -> Exprs:
        raise ShapeError(f"{self} cannot be undone")


@dataclass(frozen=True)
class FoldScale(Lossy):
    """The last tensor's elements, multiplied into the rows of each of the others."""

    def forward(self, args: Exprs, count: int) -> Exprs:
        *rows, factors = args
        if len(rows) != count:
            raise ShapeError(f"{self} makes {len(rows)} tensors of {len(args)}")
        return tuple(expr.arithmetic("scale", (value, factors)) for value in rows)

    def __str__(self) -> str:
        return "fold_scale"


@dataclass(frozen=True)
class Resample(Lossy):
    """Two axes resampled bicubically to other sizes."""

    axes: tuple[int, int]
    to: tuple[int, int]

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        return (expr.arithmetic("bicubic", (arg,), (*self.axes, *self.to)),)

    def __str__(self) -> str:
        return f"resample(axes={list(self.axes)}, to={list(self.to)})"


@dataclass(frozen=True)
class ResampleGrid(Lossy):
    """A grid whose places are numbered along one axis, after `kept` positions that are no places, resampled."""

    axis: int
    kept: int
    old: tuple[int, int]
    to: tuple[int, int]

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        size = arg.shape[self.axis] if self.axis < len(arg.shape) else 0
        if size != self.kept + self.old[0] * self.old[1]:
            raise ShapeError(f"axis {self.axis} has {size} positions, not {self.kept} and {self.old[0]}x{self.old[1]}")
        before, after = arg.shape[:self.axis], arg.shape[self.axis + 1:]
        places = expr.reshape(expr.slice_(arg, self.axis, self.kept, size), (*before, *self.old, *after))
        new = expr.arithmetic("bicubic", (places,), (self.axis, self.axis + 1, *self.to))
        flat = expr.reshape(new, (*before, self.to[0] * self.to[1], *after))
        return (expr.concat((expr.slice_(arg, self.axis, 0, self.kept), flat), self.axis) if self.kept else flat,)

    def __str__(self) -> str:
        return f"resample_grid(axis={self.axis}, kept={self.kept}, old={list(self.old)}, to={list(self.to)})"


fold_scale = FoldScale()


def resample(axes: tuple[int, int], to: tuple[int, int]) -> Op:
    """Resample two axes to the sizes `to`, as `interpolate_patch_14to16.py` of baaivision/EVA does with patches."""
    return Resample(axes, to)


def resample_grid(axis: int, *, old: tuple[int, int], to: tuple[int, int], kept: int = 0) -> Op:
    """Resample a grid of `old` places, numbered row by row along `axis` after `kept` other positions, to `to`."""
    return ResampleGrid(axis, kept, old, to)
