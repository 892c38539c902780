"""Forward parity: does an artifact compute what its source's own implementation computes?

    theirs = the upstream's module  <- the source's tensors
    ours   = the family's backbone  <- the artifact's tensors, under canonical names
    the same images through both, in float64: every output must agree to 1e-12 of its largest value

A sum in another order costs about 1e-15 in float64; a wrong permutation, a forgotten scale or a swapped pair costs
1e-3 and more. There is no tolerance in between to hide in. float32, in which people run it, is measured beside it.

Where a layout made declared changes, the upstream runs as they say (without its class token, for one), and new values
were rounded to float32 once: then that change's own limit holds, and the changes are told with the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zooconv.checkpoint.open import Checkpoint
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.arithmetic import holds
from zooconv.mapping.cast import casts, dtype_of
from zooconv.mapping.change import Change, in_turn
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Expr, Leaf
from zooconv.mapping.family import Family, config_text
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import chosen_changes
from zooconv.modules import Weights, fill, need_memory, threads_for, unseen, weights, without_values
from zooconv.tensor import DTYPES, LazyTensor
from zooconv.upstream import Upstream, code, import_package, package_version, upstream

if TYPE_CHECKING:
    from torch import Tensor, nn

Outputs = Mapping[str, "Tensor"]
EXACT = 1e-12  # relative, in float64: the verdict
SEED = 0


@dataclass(frozen=True)
class Difference:
    """How far apart one output is: the largest difference, and the same relative to the output's largest value."""

    output: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    absolute32: float
    relative32: float

    def within(self, limit: float) -> bool:
        return self.relative <= limit  # and not NaN


@dataclass(frozen=True)
class Parity:
    """The outcome: `skipped` outputs with the reason, and tensors that no compared output depends on (`unseen`).

    `changes` are the declared ones between source and artifact, and `limit` is what they leave for the verdict.
    """

    against: str
    package: str
    version: str
    spelled: str
    images: tuple[int, ...]
    tensors: int
    differences: tuple[Difference, ...]
    skipped: Mapping[str, str]
    unseen: tuple[str, ...]
    changes: tuple[str, ...] = ()
    limit: float = EXACT

    @property
    def apart(self) -> tuple[Difference, ...]:
        """The outputs that differ by more than the limit."""
        return tuple(d for d in self.differences if not d.within(self.limit))

    @property
    def passed(self) -> bool:
        return not self.apart

    @property
    def summary(self) -> dict[str, Any]:
        """What the registry keeps: nothing that a machine's rounding decides."""
        return {"status": "pass" if self.passed else "fail", "version": self.version, "limit": self.limit,
                "outputs": [d.output for d in self.differences], "unseen": list(self.unseen)}

    @property
    def data(self) -> dict[str, Any]:
        """Everything that was measured, as plain data."""
        return {
            "against": self.against, "package": self.package, "version": self.version, "weights": self.spelled,
            "images": list(self.images), "seed": SEED, "limit": self.limit, "passed": self.passed,
            "changes": list(self.changes),
            "outputs": {d.output: {"shape": list(d.shape), "float64": {"abs": d.absolute, "rel": d.relative},
                                   "float32": {"abs": d.absolute32, "rel": d.relative32}} for d in self.differences},
            "skipped": dict(self.skipped), "tensors": self.tensors, "unseen": list(self.unseen),
        }


def parity(source: Checkpoint, found: Fit, artifact: Checkpoint, ours: Fit, against: str | None = None, *,
           memory: int | None = None, chosen: Mapping[str, Any] | None = None) -> Parity:
    """Hold an artifact (`ours` is its reading) against the upstream's module with the source's weights (`found`).

    `against` is a name of the family's upstreams; None is the one whose names the source has, else the first. `memory`
    is how many bytes may be used, None what is free. `chosen` are the changes that were asked for with options: where
    they make another function of it, there is nothing to compare. Raises UsageError for these, or where the two do not
    belong together, the family has no backbone, a package is missing or memory is short; CheckFailed where weights do
    not fit or outputs are NaN.
    """
    changes = (*_demanded(found, chosen or {}), *_between(found, ours))
    expected = expect(source.tensors, found, against, memory=memory, changes=changes)
    return compare(expected, ours, weights(ours.canonical, artifact.tensors))


def _demanded(found: Fit, chosen: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes that options asked for. Raises UsageError where they leave nothing to compare."""
    dtype = dtype_of(chosen)
    changes = [*(change for exact in (True, False) for change in casts(found.canonical, dtype, exact=exact)),
               *chosen_changes(found.family, found.config, chosen)]
    if others := [change.title for change in changes if change.limit is None]:
        raise UsageError("weights that were changed on demand are another function, which no upstream computes",
                         why=others, next="zooconv verify --certificate  (proves an artifact tensor by tensor)")
    return tuple(changes)


def _between(found: Fit, ours: Fit) -> tuple[Change, ...]:
    """The changes that the artifact's layout made. Raises UsageError where they do not explain what differs."""
    changes = ours.layout.changes if ours.layout else ()
    needed, after = in_turn(found.config, changes)
    if (found.family.name, after) != (ours.family.name, ours.config):
        raise UsageError("the source and the artifact are different models",
                         why=[f"{f.family.title}: {config_text(f.config)}" for f in (found, ours)])
    coarse = {DTYPES[value.dtype].torch for value in ours.canonical.values() if not holds(value.dtype, "F32")}
    if coarse and (rounded := [change.title for change in needed if change.limit]):
        raise UsageError(f"new values were rounded to {' and '.join(sorted(coarse))}, for which no limit is set",
                         why=rounded, next="convert the source with --dtype float32: its values are kept")
    return needed


@dataclass(frozen=True)
class Expected:
    """What an upstream's module, given the source's weights, makes of the images."""

    found: Fit
    name: str
    upstream: Upstream
    images: Tensor
    changes: tuple[Change, ...]
    run: _Run


def expect(source: Mapping[str, LazyTensor], found: Fit, against: str | None = None, *,
           memory: int | None = None, changes: tuple[Change, ...] = ()) -> Expected:
    """Run the upstream's side, as the member is after `changes`. Raises UsageError and CheckFailed as `parity`."""
    family = found.family
    if not family.backbone:
        raise UsageError(f"{family.title} has no reference backbone, so there is nothing to run",
                         next="zooconv verify --certificate  (proves its artifacts tensor by tensor)")
    name = against or default_upstream(found)
    other = upstream(family, name)
    need_memory(found.table.values(), f"the parity of this {family.title}", memory)
    import_package(other.package)
    images = _images(family, found.config)

    def follow(module: nn.Module) -> None:
        if others := [change.title for change in changes if change.limit is None]:
            try:
                other.follow(module, in_turn(found.config, changes)[1])
            except ValueError as error:
                raise UsageError(f"{name} cannot be held against what layouts have changed",
                                 why=[*others, f"{name}: {error}"]) from None

    run = _run(_theirs(found, other, name, source), images, alter=follow)
    return Expected(found, name, other, images, changes, run)


def compare(expected: Expected, ours: Fit, given: Weights, *, thorough: bool = True,
            alter: Callable[[nn.Module], None] = lambda module: None) -> Parity:
    """Run the reference backbone with `given`, the canonical tensors of an artifact read as `ours`, and compare.

    Without `thorough`, neither float32 nor the reach is measured. `alter` is done to the module first: a wrong setting,
    to see that it is noticed.
    """
    theirs, name, other = expected.run, expected.name, expected.upstream
    common = theirs.float64.keys() - theirs.skipped.keys()
    mine = _run(_ours(ours, given), expected.images, common, thorough=thorough, alter=alter)
    absent = {n: other.absent.get(n, f"{name} has none") for n in mine.float64 if n not in theirs.float64}
    skipped = {**absent, **theirs.skipped, **mine.skipped}
    differences = tuple(_difference(n, mine, theirs) for n in mine.float64 if n not in skipped)
    if not differences:
        raise UsageError(f"{name} and the reference backbone have no output in common", why=skipped.values())
    unseen_here = tuple(n for n in mine.unseen if n in ours.canonical)
    return Parity(name, other.package, package_version(other.package), _spelling(expected.found, other),
                  tuple(expected.images.shape), len(ours.canonical), differences, skipped, unseen_here,
                  tuple(c.title for c in expected.changes), max([EXACT, *(c.limit or 0 for c in expected.changes)]))


def default_upstream(found: Fit) -> str:
    """The upstream whose names the source has, else the family's first. Raises UsageError where it has none."""
    family = found.family
    for name in family.upstreams:
        if upstream(family, name).spelling(found.config) == found.dialect.name:
            return name
    if not family.upstreams:
        raise UsageError(f"{family.title} names no upstream to hold it against",
                         next="zooconv verify --certificate  (proves its artifacts tensor by tensor)")
    return next(iter(family.upstreams))


# -- the two sides ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """A module to be built, the tensors to fill it with, why it may lack one of its own, and what it computes."""

    what: str
    build: Callable[[], nn.Module]
    given: Weights
    lacking: Callable[[str], str | None]
    outputs: Callable[[Any, Tensor], Outputs]


def _theirs(found: Fit, other: Upstream, name: str, source: Mapping[str, LazyTensor]) -> _Side:
    spelled, dialect = _spelled(found, other), _dialect(found, other)
    shapes = {n: value.shape for n, value in spelled.items()}
    whole = {n: Leaf(spec.shape, spec.dtype, n) for n, spec in found.table.items()}
    unmade = {other.inside(n) for n in dialect.from_canonical(whole).made if n not in spelled}
    respelled = found.dialect.name != dialect.name

    def build() -> nn.Module:
        try:
            return other.build(found.config, shapes)
        except ValueError as error:
            raise UsageError(f"{name} cannot build this {found.family.title}", why=[str(error)]) from None

    def lacking(inside: str) -> str | None:
        return f"the source has nothing for {inside}" if respelled and inside in unmade else dialect.drop_reason(inside)

    given = {other.inside(n): value for n, value in spelled.items()}
    return _Side(f"{name}'s module", build, weights(given, source), lacking, other.outputs)


def _ours(ours: Fit, given: Weights) -> _Side:
    lacking = {n: f"layout {ours.dialect.name} has no {n}" for n in ours.table if n not in ours.canonical}
    return _Side("the reference backbone", lambda: code(ours.family.backbone)(ours.config), given, lacking.get,
                 lambda module, x: module.outputs(x))


def _spelled(found: Fit, other: Upstream) -> Mapping[str, Expr]:
    """The source's tensors in the upstream's names: its own where they are, else by the tables."""
    if found.dialect.name == other.spelling(found.config):
        return {n: found.sources[n] for firing in found.translation.fired for n in firing.taken}
    return _dialect(found, other).from_canonical(found.canonical).made


def _spelling(found: Fit, other: Upstream) -> str:
    wanted = other.spelling(found.config)
    return f"{found.dialect.name} names" + ("" if found.dialect.name == wanted else f", spelled as {wanted}'s")


def _dialect(found: Fit, other: Upstream) -> Dialect:
    return next(d for d in found.family.dialects if d.name == other.spelling(found.config))


# -- running them ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    float64: Outputs
    float32: Outputs
    skipped: Mapping[str, str]
    unseen: tuple[str, ...]


def _run(side: _Side, images: Tensor, compare: Collection[str] = (), *, thorough: bool = True,
         alter: Callable[[nn.Module], None] = lambda module: None) -> _Run:
    """Build one side, run it in both precisions, and let it go.

    `compare` names the outputs that will be compared: the tensors that take no part in these are told as unseen.
    Without `thorough`, there is only the run in float64.
    """
    import torch

    with without_values():
        module = side.build()
    lacking = fill(module, side.given, lacking=side.lacking, what=side.what)
    alter(module)
    with threads_for(module), torch.no_grad():
        double = side.outputs(module, images)
        skipped = _needing(lacking, side, module, images, double) if lacking else {}
        used = [n for n in double if n not in skipped]
        if odd := [n for n in used if _broken(double[n])]:
            raise CheckFailed(f"{side.what} gives NaN or Inf in {', '.join(odd)}",
                              why=["on images of standard normal noise"], next="zooconv inspect  (look at the weights)")
        if not thorough:
            return _Run(double, double, skipped, ())
        compared = [n for n in used if n in compare]
        blind = unseen(module, lambda m: {n: f for n, f in side.outputs(m, images).items() if n in compared}
                       ) if compared else []
        single = side.outputs(module.float(), images.float())
    return _Run(double, single, skipped, tuple(n for n in blind if n not in lacking))


def _needing(lacking: Mapping[str, str], side: _Side, module: nn.Module, images: Tensor,
             found: Outputs) -> dict[str, str]:
    """The outputs that need a tensor that is lacking: NaN while it is NaN, and finite once it is not."""
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in lacking:
            tensor.data.fill_(1)
    finite = {n for n, f in side.outputs(module, images).items() if not _broken(f)}
    return {n: next(iter(lacking.values())) for n, f in found.items() if _broken(f) and n in finite}


def _images(family: Family[Any], config: Any) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(1, 3, *family.image_size(config), dtype=torch.float64, generator=generator)


def _broken(output: Tensor) -> bool:
    return not bool(output.isfinite().all())


def _difference(name: str, mine: _Run, theirs: _Run) -> Difference:
    a, b = mine.float64[name], theirs.float64[name]
    if a.shape != b.shape:
        raise CheckFailed(f"{name} is {tuple(a.shape)} here and {tuple(b.shape)} there")
    numbers = []
    for x, y in ((a, b), (mine.float32[name], theirs.float32[name])):
        apart = float((x - y).abs().max())
        numbers += [apart, apart / float(y.abs().max())]
    return Difference(name, tuple(a.shape), *numbers)
