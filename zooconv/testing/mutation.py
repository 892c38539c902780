"""Wrong conversions, made on purpose: does every one that changes what a model computes get caught?

A mutant is a conversion with one mistake of a kind that people make: two tensors swapped, a square matrix transposed,
a bias lost, heads or groups in another order, blocks shifted by one, an op forgotten, a wrong epsilon, a wrong mount.
Most load without a word. A mutant is killed by *structure*, where the tensors are not what the layout holds, or by
*parity*, where the outputs differ from the upstream's. One whose bytes are those of the right conversion is no mutant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from zooconv.errors import CheckFailed
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Leaf, evaluate
from zooconv.mapping.family import Family
from zooconv.mapping.fit import Fit, fit
from zooconv.mapping.ops import identity
from zooconv.mapping.rules import Rule
from zooconv.parity import Expected, compare
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import Array, Arrays, dtype_of, spelled

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Mutant:
    """One mistake: its kind, what it is, and its outcome: canonical tensors, a mount, or a change to the module.

    `weights` gives None where the mistake does not even make a whole set; `alter` says whether there was anything to
    change.
    """

    kind: str
    what: str
    weights: Callable[[Arrays], Arrays | None] = lambda weights: weights
    alter: Callable[[nn.Module], bool] | None = None
    mount: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass
class Score:
    """What became of the mutants.

    `unreached` ones touch only tensors that no compared output depends on, as the parity has told; for these another
    upstream must be asked. `same` ones changed no byte.
    """

    killed: list[tuple[Mutant, str]] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    same: int = 0

    @property
    def total(self) -> int:
        return len(self.killed) + len(self.survivors)

    @property
    def text(self) -> str:
        """The score, a line a kind, and every survivor."""
        lines = [f"{len(self.killed)} of {self.total} mutants killed ({self.same} more changed no byte)"]
        for kind in dict.fromkeys(mutant.kind for mutant, _ in self.killed):
            by = Counter(how for mutant, how in self.killed if mutant.kind == kind)
            lines.append(f"  {kind}: {by.total()} ({', '.join(f'{n} by {how}' for how, n in by.items())})")
        lines += [f"  out of reach: {name}" for name in self.unreached]
        return "\n".join([*lines, *(f"  SURVIVED {name}" for name in self.survivors)])


def score(expected: Expected, ours: Fit, weights: Arrays, chosen: Iterable[Mutant], unseen: Container[str]) -> Score:
    """Hold mutants of a right conversion, `weights`, against what its upstream computes.

    `ours` is how the right artifact is read, `unseen` are the tensors that the right one's parity did not reach.
    """
    result = Score()
    for mutant in chosen:
        mutated = mutant.weights(dict(weights))
        touched = _touched(mutated, weights) if mutated is not None else ["everything"]
        by = _killer(mutant, mutated, expected, ours) if touched or mutant.mount is not None or mutant.alter else "same"
        if by == "same":
            result.same += 1
        elif by:
            result.killed.append((mutant, by))
        elif touched and all(name in unseen for name in touched):
            result.unreached.append(str(mutant))
        else:
            result.survivors.append(str(mutant))
    return result


def _killer(mutant: Mutant, mutated: Arrays | None, expected: Expected, ours: Fit) -> str:
    """What catches a mutant: `structure`, `parity` or nothing; `same` for one that turned out to change nothing."""
    if mutated is None or not _fits(mutated, ours, mutant.mount):
        return "structure"
    changed = mutant.alter is None

    def alter(module: nn.Module) -> None:
        nonlocal changed
        changed = changed or (mutant.alter is not None and mutant.alter(module))

    given = {name: partial(_tensor, array) for name, array in mutated.items()}
    try:
        passed = compare(expected, ours, given, thorough=False, alter=alter).passed
    except CheckFailed:
        return "parity"
    if not changed:
        return "same"
    return "" if passed else "parity"


def _tensor(array: Array) -> Any:
    import torch

    return torch.from_numpy(np.array(array, order="C"))


def _fits(mutated: Arrays, ours: Fit, mount: str | None) -> bool:
    """Would zooconv take a file of these tensors for an artifact of the layout? As `zooconv parity` asks."""
    layout, family = ours.layout, ours.family
    assert layout is not None
    leaves = {name: Leaf(array.shape, dtype_of(array), name) for name, array in mutated.items()}
    placed = layout.body.from_canonical(leaves)
    prefix = layout.mount if mount is None else mount
    specs = {prefix + n: TensorSpec(prefix + n, v.shape, v.dtype) for n, v in placed.made.items()}
    found = fit(family, layout.body, specs, layout.mount, layout)
    return found.exact and found.config == ours.config and not placed.unmatched


def _touched(mutated: Arrays, weights: Arrays) -> list[str]:
    """The tensors that a mutant changed."""
    others = [name for name in {**weights, **mutated} if mutated.get(name) is not weights.get(name)]
    return [name for name in others if name not in weights or name not in mutated
            or mutated[name].shape != weights[name].shape or mutated[name].tobytes() != weights[name].tobytes()]


# -- the mistakes ----------------------------------------------------------------------------------------------------


def mutants(family: Family[Any], weights: Arrays) -> Iterator[Mutant]:
    """Every mistake of every kind that these canonical tensors allow."""
    yield from _swaps(weights)
    for name, array in weights.items():
        yield from _of_one(name, array)
    yield from _shifts(weights)
    for dialect in family.dialects:
        yield from _of_rules(family, dialect)
    yield Mutant("wrong epsilon", "every norm's, ten times too large", alter=_larger_eps)
    for layout in family.layouts[:1]:
        yield Mutant("wrong mount", "none", mount="")
        yield Mutant("wrong mount", f"a letter of {layout.mount} missing", mount=layout.mount[1:])


def _swaps(weights: Arrays) -> Iterator[Mutant]:
    """Each tensor with the next one of its shape."""
    last: dict[tuple[int, ...], str] = {}
    for name, array in weights.items():
        if other := last.get(array.shape):
            yield Mutant("two tensors swapped", f"{other} and {name}", partial(_swapped, a=other, b=name))
        last[array.shape] = name


def _swapped(weights: Arrays, a: str, b: str) -> Arrays:
    return weights | {a: weights[b], b: weights[a]}


def _of_one(name: str, array: Array) -> Iterator[Mutant]:
    """What can be done wrong to one tensor."""
    rows = array.shape[0] if array.shape else 1
    if array.ndim >= 2 and array.shape[-1] == array.shape[-2]:
        yield Mutant("transposed", name, partial(_changed, name=name, change=lambda a: a.swapaxes(-1, -2)))
    if rows % 2 == 0:
        yield Mutant("halves in the wrong order", name, partial(_changed, name=name, change=partial(_rolled, parts=2)))
        yield Mutant("groups folded the wrong way", name, partial(_changed, name=name, change=_refolded))
    if rows % 3 == 0:
        yield Mutant("thirds in the wrong order", name, partial(_changed, name=name, change=partial(_rolled, parts=3)))
    if name.endswith("bias"):
        yield Mutant("bias zeroed", name, partial(_changed, name=name, change=np.zeros_like))
    yield Mutant("dropped", name, partial(_without, name=name))


def _changed(weights: Arrays, name: str, change: Callable[[Array], Array]) -> Arrays:
    return weights | {name: np.require(change(weights[name]), requirements="C")}


def _rolled(array: Array, parts: int) -> Array:
    return np.roll(array, len(array) // parts, 0)


def _refolded(array: Array) -> Array:
    return array.reshape(2, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def _without(weights: Arrays, name: str) -> Arrays:
    return {other: array for other, array in weights.items() if other != name}


def _shifts(weights: Arrays) -> Iterator[Mutant]:
    """Everything under `prefix.0`, `prefix.1` … one further: blocks of a stage, stages, layers of a stem."""
    found: dict[str, set[int]] = {}
    for name in weights:
        for match in re.finditer(r"(?<=\.)\d+(?=\.|$)", name):
            found.setdefault(name[:match.start()], set()).add(int(match[0]))
    for prefix, indices in found.items():
        order = sorted(indices)
        if len(order) > 1:
            then = dict(zip(order, [*order[1:], order[0]], strict=True))
            yield Mutant("shifted by one", f"{prefix}*", partial(_renumbered, prefix=prefix, then=then))


def _renumbered(weights: Arrays, prefix: str, then: Mapping[int, int]) -> Arrays:
    pattern = re.compile(rf"(?<={re.escape(prefix)})\d+(?=\.|$)")
    return {(pattern.sub(lambda m: str(then[int(m[0])]), name, count=1) if name.startswith(prefix) else name): array
            for name, array in weights.items()}


def _of_rules(family: Family[Any], dialect: Dialect) -> Iterator[Mutant]:
    """Each rule without its op, and with its parts in reverse order."""
    for i, rule in enumerate(dialect.rules):
        if not isinstance(rule, Rule):
            continue
        wrong = [("op forgotten", replace(rule, op=identity))] if rule.op != identity else []
        if len(rule.sources) > 1:
            wrong.append(("parts in the wrong order", replace(rule, sources=rule.sources[::-1])))
        if len(rule.targets) > 1:
            wrong.append(("parts in the wrong order", replace(rule, targets=rule.targets[::-1])))
        for kind, bad in wrong:
            table = replace(dialect, rules=[*dialect.rules[:i], bad, *dialect.rules[i + 1:]])
            yield Mutant(kind, f"{dialect.name}, {rule}",
                         partial(_converted, family=family, right=dialect, wrong=table))


def _converted(weights: Arrays, family: Family[Any], right: Dialect, wrong: Dialect) -> Arrays | None:
    """The canonical tensors that the wrong table makes of a file in the right spelling; None where it does not fit."""
    arrays = spelled(right, weights)
    specs = {name: TensorSpec(name, array.shape, dtype_of(array)) for name, array in arrays.items()}
    found = fit(family, wrong, specs)
    if not found.exact:
        return None
    return {name: evaluate(value, arrays.__getitem__) for name, value in found.canonical.items()}


def _larger_eps(module: nn.Module) -> bool:
    norms: list[Any] = [part for part in module.modules() if isinstance(getattr(part, "eps", None), float)]
    for norm in norms:
        norm.eps *= 10
    return bool(norms)
