"""The plan of one conversion: every move, proved from headers alone.

    a fit    (source names -> canonical names)   every source tensor consumed once or dropped with a reason
    a layout (canonical names -> target names)   every target tensor produced once or declared fresh
    the proof                                    undoing each move gives back each source tensor, element for element

No tensor byte is read to make a plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zooconv.digest import text_sha256
from zooconv.errors import CheckFailed
from zooconv.mapping.expr import Expr, Leaf, ShapeError, in_place, leaves
from zooconv.mapping.family import Family, Layout, config_facts
from zooconv.mapping.fit import Fit, Problem
from zooconv.mapping.rules import Firing, Translation
from zooconv.tensor import DTYPES, TensorSpec


@dataclass(frozen=True)
class Move:
    """One target tensor, and the expression over source tensors that it is."""

    target: TensorSpec
    value: Expr


@dataclass(frozen=True)
class Plan:
    """All that a conversion will do, in the order in which it will do it.

    `canonical` holds every canonical tensor of the source, over source tensors, and `kept` the names of those that the
    layout has a place for. `back` is the way back: every source tensor that is not dropped, over target tensors.

    Some dropped tensors go on a condition, which is checked when they are read: those of `same_as` have the bytes of
    the tensor named there, those of `known` have this value: a start value, or one that follows from the config.
    """

    family: Family[Any]
    config: Any
    dialect: str
    prefix: str
    layout: Layout
    moves: tuple[Move, ...]
    canonical: dict[str, Expr]
    kept: frozenset[str]
    back: dict[str, Expr]
    dropped: dict[str, str]
    same_as: dict[str, str]
    known: Mapping[str, Expr]
    rules: str

    @property
    def targets(self) -> list[TensorSpec]:
        """Every tensor of the target file, in its order."""
        return [move.target for move in self.moves]

    @property
    def fresh(self) -> list[str]:
        """The target tensors that no source has."""
        return [move.target.name for move in self.moves if not any(leaves(move.value))]

    @property
    def nbytes(self) -> int:
        return sum(spec.nbytes for spec in self.targets)

    @property
    def facts(self) -> dict[str, Any]:
        """What the target file says of itself, apart from its tree digest."""
        return {"format": 1, "family": self.family.name, "config": config_facts(self.config),
                "layout": self.layout.name}


def make_plan(found: Fit, layout: Layout, *, fresh: bool = True) -> Plan:
    """The proved plan from an exact fit to a layout; `fresh=False` leaves out the layout's fresh tensors.

    Raises CheckFailed, listing every offender, where the layout cannot hold what the file has, needs what it has
    not, or where the moves cannot be undone.
    """
    if reason := layout.refusal(found.config):
        raise CheckFailed(f"layout {layout.name} cannot hold this {found.family.title}", why=[reason],
                          next=f"zooconv layouts {found.family.name}  (for one that can)")
    omitted = {name: why for name in found.canonical if (why := layout.omits(name)) is not None}
    kept = {name: value for name, value in found.canonical.items() if name not in omitted}
    placed = layout.body.from_canonical(kept | found.derived)
    problems = [*_lacking(found, layout), *_misplaced(found, placed), *_not_undone(found, placed)]
    if problems:
        raise CheckFailed(f"layout {layout.name} cannot be made of this file",
                          why=map(str, problems), next=f"zooconv layouts {found.family.name}")
    added = layout.fresh_tensors(found.config) if fresh else ()
    values = placed.made | {f.name: found.own.get(f.name, (f.start,))[0] for f in added}
    left = {leaf.name: start for name, (leaf, start) in found.own.items() if name not in values}
    untrained = {name: start for name, start in left.items() if DTYPES[start.dtype].floating}
    targets = {name: Leaf(value.shape, value.dtype, layout.mount + name) for name, value in values.items()}
    own = {leaf.name: targets[name] for name, (leaf, _) in found.own.items() if name in values}
    back = {name: value for name, value in _way_back(found, placed, targets).items()
            if name not in found.derived_sources}
    return Plan(
        family=found.family, config=found.config, dialect=found.dialect.name, prefix=found.prefix, layout=layout,
        moves=tuple(Move(TensorSpec(layout.mount + name, value.shape, value.dtype), value)
                    for name, value in values.items() if fresh or any(leaves(value))),
        canonical=found.canonical, kept=frozenset(kept), back=back | own,
        dropped=found.dropped | _omitted_sources(found, omitted)
        | {name: _LEFT if name in untrained else _COUNTER for name in left},
        same_as={found.prefix + a: found.prefix + b for a, b in found.translation.same_as.items()},
        known={**untrained, **found.derived_sources},
        rules=rules_digest(found, layout),
    )


_LEFT = "added by another layout, still at its start value"
_COUNTER = "counter, which takes no part in what a model computes"


def rules_digest(found: Fit, layout: Layout) -> str:
    """SHA-256 of everything that decides which bytes go where: both tables, mount, omissions, fresh tensors."""
    lines = [found.family.name, str(found.dialect), layout.mount, str(layout.body),
             *(f"fresh {f.name} {f.shape} {f.fill}{'' if f.dtype == 'F32' else f' {f.dtype}'}"
               for f in layout.fresh_tensors(found.config)),
             *(f"derived {name} {value}" for name, value in found.derived.items())]
    return text_sha256("\n".join(lines))


def _lacking(found: Fit, layout: Layout) -> Iterator[Problem]:
    for name in found.table:
        if name not in found.canonical and layout.omits(name) is None:
            yield Problem("missing", name, f"{found.dialect.name} has none; another layout may do without")


def _misplaced(found: Fit, placed: Translation) -> Iterator[Problem]:
    for name in placed.unmatched:
        if name not in found.derived:
            yield Problem("unplaced", name, "no rule of the layout has a place for it")
    for name, absent in placed.incomplete.items():
        yield Problem("incomplete", name, f"needs {', '.join(absent)}")
    for name, why in placed.misshapen.items():
        yield Problem("shape", name, why)
    for name in placed.clashes:
        yield Problem("twice", name, "two canonical tensors claim it")


def _not_undone(found: Fit, placed: Translation) -> Iterator[Problem]:
    """Undo every move, symbolically: the layout's rules forwards, then the source's rules backwards."""
    undone = _way_back(found, placed, placed.made)
    has_place = {name for firing in placed.fired for name in firing.taken}
    for firing in found.translation.fired:
        there = [name in has_place for name in firing.made]
        if not any(there) or all(name in found.derived for name in firing.made):
            continue
        if not all(there):
            yield Problem("torn", " + ".join(firing.taken), "only a part of it has a place in the layout")
            continue
        for name in firing.taken:
            if not _is_source(found.prefix + name, undone.get(found.prefix + name)):
                yield Problem("not undone", found.prefix + name,
                              f"the way back gives {undone.get(found.prefix + name)}")


def _way_back(found: Fit, placed: Translation, targets: Mapping[str, Expr]) -> dict[str, Expr]:
    """Source tensors in terms of the layout's, which are given by `targets`."""
    canonical: dict[str, Expr] = {}
    for firing in placed.fired:
        canonical.update(_undo(firing, targets, forward=True))
    back: dict[str, Expr] = {}
    for firing in found.translation.fired:
        if all(name in canonical for name in firing.made):
            back.update(_undo(firing, canonical, forward=False))
    return {found.prefix + name: value for name, value in back.items()}


def _undo(firing: Firing, values: Mapping[str, Expr], *, forward: bool) -> dict[str, Expr]:
    """What a firing took, made again of what it made."""
    op = firing.rule.op
    turn = op.forward if forward else op.backward
    try:
        back = turn(tuple(values[name] for name in firing.made), len(firing.taken))
    except ShapeError:
        return {}
    return dict(zip(firing.taken, back, strict=True))


def _is_source(name: str, value: Expr | None) -> bool:
    """Is this expression the source tensor itself, up to its shape, every byte in its place?

    Where it has a constant instead of a part of the source, the bytes decide, once they are written (`certify`).
    """
    if value is None:
        return False
    source = in_place(value)
    return source is not None and source.name == name and source.nbytes == value.nbytes


def _omitted_sources(found: Fit, omitted: dict[str, str]) -> dict[str, str]:
    return {found.prefix + taken: omitted[firing.made[0]]
            for firing in found.translation.fired if firing.made[0] in omitted
            for taken in firing.taken}
