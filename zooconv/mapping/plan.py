"""The plan of one conversion: every move, proved from headers alone.

    a fit    (source names -> canonical names)   every source tensor consumed once or dropped with a reason
    a layout (canonical names -> target names)   every target tensor produced once or declared fresh
    the proof                                    undoing each move gives back each source tensor, element for element

Between the two may stand declared changes, which compute new values: what goes into these is told, and not proved so.

No tensor byte is read to make a plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zooconv.digest import text_sha256
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.arithmetic import holds
from zooconv.mapping.cast import CAST, cast_title, casts, dtype_of, in_dtype
from zooconv.mapping.change import Change, Changed
from zooconv.mapping.expr import Expr, Fill, Leaf, cast, in_place, leaves
from zooconv.mapping.family import Family, Layout, config_facts
from zooconv.mapping.fit import Fit, Problem
from zooconv.mapping.like import MARK, Given, Like
from zooconv.mapping.rules import Drop
from zooconv.mapping.translate import Translation
from zooconv.tensor import DTYPES, TensorSpec


@dataclass(frozen=True)
class Move:
    """One target tensor, and the expression over source tensors that it is."""

    target: TensorSpec
    value: Expr


@dataclass(frozen=True)
class Moves:
    """What a pass over the bytes does, in the order in which it does it.

    `canonical` are the canonical tensors of the source, `placed` those of the target, both over source tensors.

    Some dropped tensors go on a condition, which is checked when they are read: those of `same_as` have the bytes of
    the tensor named there, those of `known` have this value: a start value, or one that follows from the config.

    `filled` are the tensors that come from an original (by marked names, see `zooconv.mapping.like`), with the
    reason.
    """

    moves: tuple[Move, ...]
    canonical: Mapping[str, Expr]
    placed: Mapping[str, Expr]
    dropped: Mapping[str, str]
    same_as: Mapping[str, str]
    known: Mapping[str, Expr]
    filled: Mapping[str, str]

    @property
    def title(self) -> str:
        """What is written, in a message."""
        return "the target"

    @property
    def targets(self) -> list[TensorSpec]:
        """Every tensor of the target file, in its order."""
        return [move.target for move in self.moves]

    @property
    def nbytes(self) -> int:
        return sum(spec.nbytes for spec in self.targets)


@dataclass(frozen=True)
class Plan(Moves):
    """All that a conversion will do.

    `config` is what the target file holds, `changes` says how it came to be another than the source's. `back` is the
    way back: every source tensor, over target tensors, that is neither dropped nor `computed` into new values.
    `missing` are tensors that files of an upstream have and this one will not, with the reason.
    """

    family: Family[Any]
    config: Any
    dialect: str
    prefix: str
    layout: Layout
    back: Mapping[str, Expr]
    computed: Mapping[str, str]
    changes: tuple[str, ...]
    turns_colours: bool
    missing: Mapping[str, str]
    rules: str

    @property
    def title(self) -> str:
        return self.layout.title

    @property
    def never(self) -> dict[str, str]:
        """What files of an upstream may have besides its backbone, by templates, each with what it is."""
        drops = (rule for rule in self.layout.body.rules if isinstance(rule, Drop) and rule.same_as is None)
        return {str(rule.source): rule.reason for rule in drops}

    @property
    def fresh(self) -> list[str]:
        """The target tensors that no source has."""
        return list(self.starts)

    @cached_property
    def starts(self) -> dict[str, str]:
        """What each of these starts at."""
        return {move.target.name: f"starts at {move.value.value:g}" if isinstance(move.value, Fill)
                else "follows from the config" for move in self.moves if not any(leaves(move.value))}

    @property
    def facts(self) -> dict[str, Any]:
        """What the target file says of itself, apart from its tree digest."""
        return {"format": 1, "family": self.family.name, "config": config_facts(self.config),
                "layout": self.layout.name}


def make_plan(found: Fit, layout: Layout, *, fresh: bool = True, choices: Mapping[str, Any] | None = None,
              like: Like | None = None, drop_trained: bool = False) -> Plan:
    """The proved plan from an exact fit to a layout, or to an upstream's dialect (`Layout.of`).

    `fresh=False` leaves out what the class itself starts with: the layout's fresh tensors, and those that follow from
    the config. `choices` are the values of the options that ask for changes. `like` is a file whose very names and
    shapes the target takes over, under `layout.mount`; an original gives what the source has not. What another layout
    has added must be at its start value where the target has no place for it, unless `drop_trained`.

    Raises UsageError for a choice that the family has not; CheckFailed, listing every offender, where the layout cannot
    hold what the file has, needs what it has not, or where the moves cannot be undone.
    """
    dtype, changed = _changed(found, layout, choices or {})
    must_hold(layout, found.family, changed.config)
    given = like.given(found, changed.canonical) if like else Given()
    derived = found.family.derived_values(changed.config) if like or (fresh and layout.files.derived) else {}
    omitted = {name: why for name in changed.canonical if (why := layout.omits(name)) is not None}
    kept = {**{name: value for name, value in changed.canonical.items() if name not in omitted}, **given.canonical}
    placed = like.fit.respelled(kept | derived) if like else layout.body.from_canonical(kept | derived)
    road = _Road(found, changed, placed)
    missing = {} if like else _missing(road, layout)
    problems = [*_lacking(road, layout, {*missing, *given.canonical}), *_misplaced(road, derived),
                *road.not_undone(derived)]
    if problems:
        raise CheckFailed(f"{layout.title} cannot be made of this file", why=map(str, problems),
                          next="zooconv inspect  (says in which names it can be written)" if layout.upstream
                          else f"zooconv layouts {found.family.name}")
    own = layout.added(changed.config, found.own) if fresh else {}
    added = {name: in_dtype(value, dtype) for name, value in own.items()}
    second = like.fit.translation.same_as if like else layout.body.second_names(placed.made)
    values = placed.made | added | {name: placed.made[first] for name, first in second.items()}
    whole = {**{layout.mount + name: value for name, value in values.items()}, **given.beside}
    return Plan(
        family=found.family, config=like.fit.config if like else changed.config, dialect=found.dialect.name,
        prefix=found.prefix, layout=layout,
        moves=tuple(Move(TensorSpec(name, value.shape, value.dtype), value) for name, value in whole.items()),
        canonical=found.canonical, placed=kept, turns_colours=changed.turns_colours,
        same_as={found.prefix + a: found.prefix + b for a, b in found.translation.same_as.items()},
        filled=given.reasons, missing=_spelled(missing, road, layout),
        rules=rules_digest(found, layout, changed, like, dtype),
        **_fates(road, placed.made, added, whole, layout.mount, changed.gone | omitted, drop_trained=drop_trained),
    )


LEFT = "added by another layout, still at its start value"
_TRAINED = "added by another layout, trained or not: --drop-trained"
_COUNTER = "counter, which takes no part in what a model computes"


def _fates(road: _Road, made: Collection[str], added: Collection[str], whole: Mapping[str, Expr], mount: str,
           gone: Mapping[str, str], *, drop_trained: bool) -> dict[str, Any]:
    """What becomes of each source tensor: dropped, perhaps on a condition; computed into others; or had `back`."""
    found = road.found
    targets = {name: Leaf(value.shape, value.dtype, name) for name, value in whole.items()}
    there = {name: targets[mount + name] for name in made}
    own, rounded = _own(found, {name: targets[mount + name] for name in added})
    left = {leaf.name: start for name, (leaf, start) in found.own.items() if name not in added}
    floating = {name: start for name, start in left.items() if DTYPES[start.dtype].floating}
    why = _TRAINED if drop_trained else LEFT
    implied = road.implied
    dropped = (found.dropped | road.sources_of(gone)
               | {name: f"{value}: these names take it for granted" for name, value in implied.items()}
               | {name: why if name in floating else _COUNTER for name in left})
    computed = {name: why for name, why in road.sources_of(road.changed.computed).items() if name not in dropped}
    computed |= rounded
    back = {name: value for name, value in road.back(there).items() if name not in dropped and name not in computed}
    given = {value.name: targets[name] for name, value in whole.items()
             if isinstance(value, Leaf) and value.name == MARK + name}
    return {"dropped": dropped, "computed": computed, "back": back | own | given,
            "changes": tuple(dict.fromkeys([*road.changed.titles, *rounded.values()])),
            "known": {**({} if drop_trained else floating), **implied, **found.derived_sources}}


def _missing(road: _Road, layout: Layout) -> dict[str, str]:
    """The canonical tensors that an upstream has, and this file, as its own layout or dialect is, has not."""
    found, changed = road.found, road.changed
    if layout.upstream is None:
        return {}
    absent = [name for name in road.table
              if name not in changed.canonical and found.dialect.lacking(name) and not layout.body.lacking(name)]
    why = {name: found.layout.omits(name) if found.layout else None for name in absent}
    return {name: f"{found.dialect.name}: {reason}" if reason else f"{found.dialect.name} has none"
            for name, reason in why.items()}


def _spelled(canonical: Mapping[str, str], road: _Road, layout: Layout) -> dict[str, str]:
    """What is said of canonical tensors, said of the target's."""
    whole = {name: Leaf(road.table[name].shape, road.table[name].dtype, name) for name in canonical}
    told = {made: canonical[firing.taken[0]] for firing in layout.body.from_canonical(whole).fired
            for made in firing.made}
    return told | {second: told[first] for second, first in layout.body.second_names(told).items()}


def chosen_changes(family: Family[Any], config: Any, choices: Mapping[str, Any]) -> list[Change]:
    """The changes that options ask for, but for a cast. Raises UsageError for one that the family has not."""
    options = {option: value for option, value in choices.items() if option != CAST}
    for option in options:
        if option not in family.choices:
            known = ", ".join(f"--{name}" for name in family.choices)
            raise UsageError(f"{family.title} has nothing that --{option} could change",
                             why=[f"what it has: {known}"] if known else ())
    return [family.choices[option](config, value) for option, value in options.items()]


def must_hold(layout: Layout, family: Family[Any], config: Any) -> None:
    """Raise CheckFailed where the layout's implementation cannot hold a member of this config."""
    if reason := layout.refusal(config):
        raise CheckFailed(f"{layout.title} cannot hold this {family.title}", why=[reason],
                          next=f"zooconv layouts {family.name}  (for one that can)")


def _changed(found: Fit, layout: Layout, choices: Mapping[str, Any]) -> tuple[str | None, Changed]:
    """The dtype that was asked for, and the canonical tensors after all changes."""
    dtype, table = dtype_of(choices), found.family.table
    changed = Changed(found.config, {name: value if dtype is None or any(leaves(value)) else in_dtype(value, dtype)
                                     for name, value in found.canonical.items()})
    changed.make(casts(changed.canonical, dtype, exact=True), table)
    changed.make([*chosen_changes(found.family, found.config, choices), *layout.changes], table)
    changed.make(casts(changed.canonical, dtype, exact=False), table)
    return dtype, changed


def _own(found: Fit, targets: Mapping[str, Leaf]) -> tuple[dict[str, Expr], dict[str, str]]:
    """Tensors that a layout adds, where the source has them: the way back, and what is said of those rounded."""
    back: dict[str, Expr] = {}
    rounded: dict[str, str] = {}
    for name, (leaf, _) in found.own.items():
        if name in targets and holds(targets[name].dtype, leaf.dtype):
            back[leaf.name] = cast(targets[name], leaf.dtype)
        elif name in targets:
            rounded[leaf.name] = cast_title((leaf.dtype,), targets[name].dtype, exact=False)
    return back, rounded


def rules_digest(found: Fit, layout: Layout, changed: Changed, like: Like | None = None,
                 dtype: str | None = None) -> str:
    """SHA-256 of all that decides which bytes go where: both tables, changes, mount, omissions, fresh tensors."""
    lines = [found.family.name, str(found.dialect), *(f"change {step.change}" for step in changed.steps),
             layout.mount, str(layout.body), *([f"as a file in {like.fit.dialect.name} names"] if like else []),
             *(f"fresh {f.name} {f.shape} {f.fill}{'' if f.dtype == 'F32' else f' {f.dtype}'}"
               for f in layout.fresh_tensors(changed.config)),
             *(f"derived {name} {value}" for name, value in found.family.derived_values(changed.config).items()),
             *([f"cast {dtype}"] if dtype else [])]
    return text_sha256("\n".join(lines))


@dataclass(frozen=True)
class _Road:
    """From source tensors to canonical ones, through changes, to the layout's; and back."""

    found: Fit
    changed: Changed
    placed: Translation

    def back(self, targets: Mapping[str, Expr]) -> dict[str, Expr]:
        """Source tensors in terms of the layout's, which are given by `targets`."""
        canonical: dict[str, Expr] = {}
        for firing in self.placed.fired:
            canonical.update(firing.undone(targets, forward=True))
        for step in reversed(self.changed.steps):
            canonical = step.undo(canonical)
        back: dict[str, Expr] = {}
        for firing in self.found.translation.fired:
            if not [name for name in firing.made if name not in canonical]:
                back.update(firing.undone(canonical, forward=False))
        return {self.found.prefix + name: value for name, value in back.items()}

    @cached_property
    def table(self) -> dict[str, TensorSpec]:
        """Every canonical tensor after the changes."""
        return self.found.table if self.changed.config == self.found.config else self.found.family.table(
            self.changed.config)

    @cached_property
    def undone(self) -> dict[str, Expr]:
        """Source tensors, there and back: in terms of themselves, where every move can be undone."""
        return self.back(self.placed.made)

    @property
    def implied(self) -> dict[str, Expr]:
        """Source tensors that the target has no place for, because it takes them to have one value everywhere."""
        filled = {name: value for name, value in self.undone.items() if isinstance(value, Fill)}
        taken = {self.found.prefix + name for firing in self.found.translation.fired for name in firing.taken}
        return {name: value for name, value in filled.items() if name in taken}

    def not_undone(self, derived: Mapping[str, Expr]) -> Iterator[Problem]:
        """Undo every move, symbolically: the layout's rules forwards, then the source's rules backwards."""
        prefix, undone, computed = self.found.prefix, self.undone, {*self.changed.computed}
        used = [*self.placed.fired, *(firing for step in self.changed.steps for firing in step.translation.fired)]
        canonical = {name for firing in used for name in firing.taken}
        for firing in self.found.translation.fired:
            made = {*firing.made}
            if made.isdisjoint(canonical) or made <= derived.keys():
                continue
            if not made <= canonical:
                yield Problem("torn", " + ".join(firing.taken), "only a part of it has a place in the layout")
                continue
            if not made.isdisjoint(computed):
                continue
            for name in firing.taken:
                value = undone.get(prefix + name)
                if not isinstance(value, Fill) and not _is_source(prefix + name, value):
                    yield Problem("not undone", prefix + name, f"the way back gives {undone.get(prefix + name)}")

    def sources_of(self, canonical: Mapping[str, str]) -> dict[str, str]:
        """The source tensors that canonical ones are made of, with what is said of these."""
        return {self.found.prefix + taken: canonical[name] for firing in self.found.translation.fired
                for name in firing.made if name in canonical for taken in firing.taken}


def _lacking(road: _Road, layout: Layout, excused: Collection[str]) -> Iterator[Problem]:
    found, changed = road.found, road.changed
    there = {*changed.canonical, *excused, *changed.misshapen}
    for name in road.table:
        if name not in there and not layout.body.lacking(name):
            yield Problem("missing", name, f"{found.dialect.name} has none; another layout may do without")
    for name, why in changed.misshapen.items():
        yield Problem("unchanged", name, why)


def _misplaced(road: _Road, derived: Mapping[str, Expr]) -> Iterator[Problem]:
    placed = road.placed
    for name in placed.unmatched:
        if name not in derived:
            yield Problem("unplaced", name, "no rule of the layout has a place for it")
    for name, absent in placed.incomplete.items():
        yield Problem("incomplete", name, f"needs {', '.join(absent)}")
    for name, why in placed.misshapen.items():
        yield Problem("shape", name, why)
    for name in placed.clashes:
        yield Problem("twice", name, "two canonical tensors claim it")


def _is_source(name: str, value: Expr | None) -> bool:
    """Is this expression the source tensor itself, up to its shape, every byte in its place?

    Where it has a constant instead of a part of the source, the bytes decide, once they are written (`certify`).
    """
    if isinstance(value, Leaf):
        return value.name == name
    source = None if value is None else in_place(value)
    return source is not None and value is not None and source.name == name and source.nbytes == value.nbytes
