"""Does a dialect fit a set of tensors exactly? If not, everything that is in the way.

A dialect fits when every tensor under its prefix is consumed by a rule or dropped by one, every canonical tensor of
the config that the shapes imply is produced once, and every shape and dtype is as the family's table says. Nothing
less is accepted, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from zooconv.mapping.cast import in_dtype
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Computed, Expr, Leaf, reshape, stream
from zooconv.mapping.family import Family, Layout, Shapes
from zooconv.mapping.translate import Firing, Translation
from zooconv.tensor import DTYPES, TensorSpec, shape_text


class Problem(NamedTuple):
    """One reason why a dialect does not fit: what kind, of which tensor, and what is known about it."""

    kind: str
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind:<12}{self.name}" + (f"  ({self.detail})" if self.detail else "")


@dataclass
class Fit:
    """A family's dialect held against a file's tensors.

    Where the dialect is a layout's body, `own` holds the tensors that the layout adds to the family's, each with the
    value that it starts at.

    `sources` are the file's tensors under the prefix, by their names without it.
    """

    family: Family[Any]
    dialect: Dialect
    prefix: str
    sources: Mapping[str, Leaf]
    translation: Translation
    outside: dict[str, str]
    config: Any = None
    layout: Layout | None = None
    own: dict[str, tuple[Leaf, Expr]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not self.problems

    @property
    def fitted(self) -> int:
        """How many tensors found their rule."""
        return sum(len(firing.taken) for firing in self.translation.fired)

    @cached_property
    def table(self) -> dict[str, TensorSpec]:
        """Every canonical tensor of the config, in order."""
        return self.family.table(self.config)

    @cached_property
    def canonical(self) -> dict[str, Expr]:
        """The canonical tensors that the file makes, in the order of the table."""
        return {name: self.translation.made[name] for name in self.table if name in self.translation.made}

    @cached_property
    def derived(self) -> dict[str, Computed]:
        """The tensors that follow from the config, by canonical name."""
        return self.family.derived_values(self.config)

    @property
    def derived_sources(self) -> dict[str, Computed]:
        """The file's own copies of these, and what each must be."""
        copies = ((stream(self.translation.made[name]), value) for name, value in self.derived.items()
                  if name in self.translation.made)
        return {leaf.name: value for leaf, value in copies if leaf is not None}

    @property
    def dropped(self) -> dict[str, str]:
        """Source tensors that no backbone has, with the reason."""
        inside = {self.prefix + name: reason for name, reason in self.translation.dropped.items()}
        return inside | self.outside | dict.fromkeys(self.derived_sources, "follows from the config")

    @property
    def variant(self) -> str | None:
        return self.family.variant(self.config)

    @property
    def itself(self) -> Layout:
        """The target that this file is already: its layout or dialect, under its own prefix, with what it has of it."""
        mine = self.layout or Layout.of(self.dialect)
        return replace(mine, mount=self.prefix,
                       fresh=lambda config: [f for f in mine.fresh_tensors(config) if f.name in self.own])

    def respelled(self, canonical: Mapping[str, Expr]) -> Translation:
        """Canonical tensors of this config in the names and shapes of this very file, without the prefix.

        It is the file's own way to the canonical names, gone backwards: where a dialect leaves a choice, in names or in
        shapes, it is the file's.
        """
        result = Translation()
        for firing in self.translation.fired:
            if absent := tuple(name for name in firing.made if name not in canonical):
                result.incomplete.update(dict.fromkeys(firing.taken, absent))
                continue
            made = firing.undone(canonical, forward=False)
            result.made |= {name: reshape(value, self.sources[name].shape) for name, value in made.items()}
            result.fired.append(Firing(firing.rule, firing.made, firing.taken))
        placed = {name for firing in result.fired for name in firing.taken}
        result.unmatched = [name for name in canonical if name not in placed]
        return result

    @cached_property
    def spellings(self) -> dict[str, str]:
        """How the dialect would spell each canonical tensor of the config, under the prefix."""
        whole = {name: Leaf(spec.shape, spec.dtype, name) for name, spec in self.table.items()}
        return {name: " + ".join(self.prefix + made for made in firing.made)
                for firing in self.dialect.from_canonical(whole).fired for name in firing.taken}


def fit(family: Family[Any], dialect: Dialect, tensors: Mapping[str, TensorSpec], prefix: str = "",
        layout: Layout | None = None) -> Fit:
    """Hold `dialect` against the tensors under `prefix`. The result says whether it fits, and all that does not.

    `layout` is given when the dialect is a layout's body: then the layout's own fresh tensors are no strangers. A
    tensor's place in expressions is called as its spec is, which may be another name than that under which it is given.
    """
    places = tuple(prefix + part for part in (layout.parts if layout else ())) or prefix
    inside = {name.removeprefix(prefix): Leaf(spec.shape, spec.dtype, spec.name)
              for name, spec in tensors.items() if name.startswith(places)}
    where = places if isinstance(places, str) else " and ".join(places)
    outside = {name: dialect.drop_reason(name) or f"outside the backbone, which stands under {where}"
               for name in tensors if not name.startswith(places)}
    result = Fit(family, dialect, prefix, inside, dialect.to_canonical(inside), outside, layout=layout)
    made = result.translation.made
    try:
        config = family.infer(Shapes({name: value.shape for name, value in made.items()}))
        table = _table(family, config, STRANGE + 2 * len(made))
    except KeyError as error:
        result.problems = [Problem("missing", str(error.args[0]), "the config cannot be read without it")]
        return result
    except Exception as error:  # noqa: BLE001 - a family is asked about names of any other, and may stumble over them
        result.problems = [Problem("unreadable", "config", f"{type(error).__name__}: {error}")]
        return result
    result.config = config
    if layout is not None:
        _settle_fresh(result, layout, inside)
    derived = {name: TensorSpec(name, value.shape, value.dtype) for name, value in result.derived.items()}
    result.problems = [*_coverage(result, table), *_forms(made, table | derived)]
    return result


STRANGE = 1000  # tensors more than twice as many as a file has: no file means a table of so many


def _table(family: Family[Any], config: Any, most: int) -> dict[str, TensorSpec]:
    """The family's table of a config that a file's header implies: a hostile one may imply any number of blocks."""
    specs = list(islice(family.tensors(config), most))
    if len(specs) == most:
        raise ValueError(f"names and shapes imply more than {most} tensors")
    return {spec.name: spec for spec in specs}


def _settle_fresh(result: Fit, layout: Layout, inside: Mapping[str, Leaf]) -> None:
    unmatched = result.translation.unmatched
    for fresh in layout.fresh_tensors(result.config):
        found = inside.get(fresh.name)
        if found and fresh.name in unmatched and found.shape == fresh.shape and _same_kind(fresh.dtype, found.dtype):
            unmatched.remove(fresh.name)
            result.own[fresh.name] = found, in_dtype(fresh.start, found.dtype)
    for name in list(unmatched):
        if (start := layout.start(name, inside[name].shape)) is not None and DTYPES[inside[name].dtype].floating:
            unmatched.remove(name)
            result.own[name] = inside[name], in_dtype(start, inside[name].dtype)


def _coverage(result: Fit, table: Mapping[str, TensorSpec]) -> Iterable[Problem]:
    """Every source tensor consumed once or dropped; every canonical tensor produced once or lacking by rule."""
    told, prefix = result.translation, result.prefix
    for name in table:
        if name not in told.made and not result.dialect.lacking(name):
            absent = told.incomplete.get(name)
            yield Problem("missing", name, f"made of {', '.join(absent)}, not in the file" if absent else "")
    for name in told.unmatched:
        yield Problem("unexpected", prefix + name)
    yield from _stranded(result, table)
    for name in told.made:
        if name not in table and name not in result.derived:
            yield Problem("unexpected", _origin(told, name, prefix), f"would be {name}, which this config has not")
    for name, sources in told.clashes.items():
        yield Problem("twice", name, f"also made of {', '.join(prefix + s for s in sources)}")
    for name, why in told.misshapen.items():
        yield Problem("shape", prefix + name, why)
    for alias in result.dialect.aliases:
        if not any(alias.source.match(name) for name in told.same_as):
            yield Problem("missing", str(alias.source), f"{result.dialect.name} files have it")


def _stranded(result: Fit, table: Mapping[str, TensorSpec]) -> Iterable[Problem]:
    """Parts of tensors whose other parts are not there, unless the whole is told as missing already."""
    told, prefix = result.translation, result.prefix
    for name, made in told.stranded.items():
        if not any(whole in table and not result.dialect.lacking(whole) for whole in made):
            absent = ", ".join(prefix + part for part in told.incomplete[made[0]])
            yield Problem("unexpected", prefix + name, f"means nothing without {absent}")


def _forms(made: Mapping[str, Expr], table: Mapping[str, TensorSpec]) -> Iterable[Problem]:
    """Every shape as the table says; every number a floating-point one."""
    for name, value in made.items():
        spec = table.get(name)
        if spec is not None and value.shape != spec.shape:
            yield Problem("shape", str(value), f"is {shape_text(value.shape)}, must be {shape_text(spec.shape)}")
        elif spec is not None and not _same_kind(spec.dtype, value.dtype):
            wanted = "a floating-point type" if DTYPES[spec.dtype].floating else spec.dtype
            yield Problem("dtype", str(value), f"is {value.dtype}, must be {wanted}")


def _same_kind(wanted: str, found: str) -> bool:
    """Any floating-point type will do for another; whole numbers must be of the type that the table says."""
    return DTYPES[found].floating if DTYPES[wanted].floating else wanted == found


def _origin(told: Translation, made: str, prefix: str) -> str:
    return next((prefix + " + ".join(f.taken) for f in told.fired if made in f.made), made)


def explained(result: Fit) -> list[Problem]:
    """The problems in the file's own spelling, each unexpected name beside the missing one that it most resembles."""
    import difflib

    names = result.spellings if result.config is not None else {}
    spelled = [p._replace(name=names.get(p.name, p.name)) if p.kind == "missing" else p for p in result.problems]
    named = {kind: [p.name for p in spelled if p.kind == kind] for kind in ("missing", "unexpected")}
    other = {"missing": named["unexpected"], "unexpected": named["missing"]}
    return [p._replace(detail=_join(p.detail, difflib.get_close_matches(p.name, other.get(p.kind, [])[:200], 1)))
            for p in spelled]


def _join(detail: str, nearest: list[str]) -> str:
    return "; ".join(filter(None, [detail, f"nearest: {nearest[0]}" if nearest else ""]))
