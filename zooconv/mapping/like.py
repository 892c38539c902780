"""A file whose spelling a target takes over: the source itself, or the original that a backbone once came from.

An original gives what a Detectron2 project never had, its classifier for one. Its tensors stand in expressions beside
those of the source, under marked names:

    fill-from:head.fc.weight

Two kinds are taken of it, and no others: those that its dialect drops by a rule, and canonical tensors that the layout
of the source leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zooconv.errors import CheckFailed
from zooconv.mapping.change import in_turn
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Expr, Leaf, leaves
from zooconv.mapping.family import Family, config_text
from zooconv.mapping.fit import Fit, explained, fit
from zooconv.mapping.forms import Forms
from zooconv.output import some
from zooconv.tensor import TensorSpec

MARK = "fill-from:"


@dataclass(frozen=True)
class Given:
    """What an original gives: canonical tensors, those `beside` the backbone by their names, and why each is taken.

    `reasons` are by marked names.
    """

    canonical: Mapping[str, Expr] = field(default_factory=dict)
    beside: Mapping[str, Leaf] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Like:
    """A file whose names and shapes the target has. `tensors` are those of an original; a source gives nothing more."""

    fit: Fit
    tensors: Mapping[str, TensorSpec] = field(default_factory=dict)

    def given(self, found: Fit, canonical: Mapping[str, Expr]) -> Given:
        """What this has, and these canonical tensors of `found` have not.

        Raises CheckFailed where the two are no backbone of one kind, or this has what nobody accounts for.
        """
        if not self.tensors:
            return Given()
        excused = self._excused(found, canonical)
        if strange := [name for name in self.fit.outside if self.fit.dialect.drop_reason(name) is None]:
            raise CheckFailed(f"the file to fill from has {len(strange)} tensors that no rule of "
                              f"{self.fit.dialect.name} knows", why=[some(strange, 8)],
                              next="take the file of the model that the backbone was, and nothing beside it")
        second = {self.fit.prefix + name for name in self.fit.translation.same_as}
        dropped = {name: why for name, why in self.fit.dropped.items() if name in self.tensors and name not in second}
        beside = {name: Leaf(self.tensors[name].shape, self.tensors[name].dtype, MARK + name) for name in dropped}
        lent = {name: self.fit.canonical[name] for name in excused}
        reasons = {leaf.name: excused[name] for name, value in lent.items() for leaf in leaves(value)}
        return Given(lent, beside, reasons | {MARK + name: why for name, why in dropped.items()})

    def _excused(self, found: Fit, canonical: Mapping[str, Expr]) -> dict[str, str]:
        """The canonical tensors that only this has, and why `found` has none."""
        mine = self.fit.canonical
        excused = {name: why for name in mine if name not in canonical and (why := self._left_out(name, found))}
        odd = [name for name, value in canonical.items() if name not in mine or mine[name].shape != value.shape]
        odd += [name for name in mine if name not in canonical and name not in excused]
        if odd:
            raise CheckFailed("the backbone cannot have come from the file to fill from",
                              why=[f"here:  {config_text(found.config)}", f"there: {config_text(self.fit.config)}",
                                   f"{len(odd)} tensors differ: {some(odd)}"])
        return excused

    def _left_out(self, name: str, found: Fit) -> str | None:
        """Why `found` has no such canonical tensor, if it was left out and nothing computed in its place."""
        if found.dialect.lacking(name):
            return (found.layout.omits(name) if found.layout else None) or f"{found.dialect.name} has none"
        if found.layout is None:
            return None
        changes, after = in_turn(self.fit.config, found.layout.changes)
        plain = not any(change.rules for change in changes)
        return changes[-1].title if changes and plain and name not in found.family.table(after) else None


def original(family: Family[Any], dialect: Dialect, tensors: Mapping[str, TensorSpec], what: str) -> Like:
    """The file `what`, read in the dialect that is to be written. Raises CheckFailed where it is in no such names."""
    there = {name: TensorSpec(MARK + name, spec.shape, spec.dtype) for name, spec in tensors.items()}
    fits = [fit(family, dialect, there, prefix) for prefix in Forms(tensors).prefixes(dialect.anchor)]
    for one in fits:
        if one.exact:
            return Like(one, tensors)
    near = min(fits, key=lambda one: len(one.problems), default=None)
    raise CheckFailed(f"{what}, the file to fill from, is no {family.title} in {dialect.name} names",
                      why=[str(problem) for problem in explained(near)[:10]] if near else (),
                      next=f"zooconv inspect {what}  (what it is)")
