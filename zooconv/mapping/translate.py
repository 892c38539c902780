"""What a table of rules makes of a set of tensors, in either direction, and where it does not fit them.

A rule takes all the tensors of one of its sides, or none: those that it has a part of only are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from zooconv.mapping.expr import Expr, ShapeError
from zooconv.mapping.flat import Numbering
from zooconv.mapping.ops import identity
from zooconv.mapping.rules import Drop, Rule
from zooconv.mapping.template import form

Names = tuple[str, ...]
T = TypeVar("T")

ByForm = Mapping[str, Sequence[Rule | Drop]]
"""Rules by the forms of the names that they could be for, each list in the order of the table."""


class Firing(NamedTuple):
    """One use of a rule: these tensors of the one side made those of the other."""

    rule: Rule
    taken: Names
    made: Names

    def undone(self, values: Mapping[str, Expr], *, forward: bool) -> dict[str, Expr]:
        """What this took, made again of what it made; `forward` says in which direction of the rule that is.

        Nothing where the op has no way back, or none for these shapes.
        """
        back = tuple([values[name] for name in self.made])
        if self.rule.op is not identity:
            turn = self.rule.op.forward if forward else self.rule.op.backward
            try:
                back = turn(back, len(self.taken))
            except ShapeError:
                return {}
        return dict(zip(self.taken, back, strict=True))


@dataclass
class Translation:
    """What a table of rules makes of a set of tensors, and where it does not fit them."""

    made: dict[str, Expr] = field(default_factory=dict)
    fired: list[Firing] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    same_as: dict[str, str] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    incomplete: dict[str, Names] = field(default_factory=dict)
    stranded: dict[str, Names] = field(default_factory=dict)
    clashes: dict[str, Names] = field(default_factory=dict)
    misshapen: dict[str, str] = field(default_factory=dict)


def translate(rules: ByForm, tensors: Mapping[str, Expr], numbering: Numbering, *, back: bool) -> Translation:
    """Use these rules on tensors of their left side, or of their right side to go `back`. Their order is kept.

    The first rule that matches a name has it. `numbering` is how the left side's names are numbered in files.
    """
    result = Translation()
    gathered: dict[tuple[int, Names], tuple[Rule, Names, dict[str, Expr]]] = {}
    for name, value in tensors.items():
        read = name if back else numbering.inward(name)
        for rule in rules.get(form(read), ()):
            if isinstance(rule, Drop):
                if (bound := rule.source.match(read)) is not None:
                    result.dropped[name] = rule.reason
                    if rule.same_as is not None:
                        result.same_as[name] = numbering.outward(rule.same_as.render(bound) or "")
                    break
            elif (sides := _sides(rule, read, numbering, back=back)) is not None:
                takes, makes = sides
                gathered.setdefault((id(rule), makes), (rule, takes, {}))[2][name] = value
                break
        else:
            result.unmatched.append(name)
    for (_, makes), (rule, takes, values) in gathered.items():
        fire(result, Firing(rule, takes, makes), values, back=back)
    return result


def _sides(rule: Rule, name: str, numbering: Numbering, *, back: bool) -> tuple[Names, Names] | None:
    """All names that `rule` takes and makes where `name`, as it has it, is one of those it takes."""
    for template in rule.targets if back else rule.sources:
        if (bound := template.match(name)) is not None:
            sources = [name if t is template else t.render(bound) for t in rule.sources]
            targets = [name if t is template else t.render(bound) for t in rule.targets]
            if None not in sources and None not in targets:
                theirs = tuple([numbering.outward(s) for s in sources if s is not None])
                canonical = tuple([t for t in targets if t is not None])
                return (canonical, theirs) if back else (theirs, canonical)
    return None


def fire(result: Translation, firing: Firing, values: Mapping[str, Expr], *, back: bool) -> None:
    """Add to `result` what a rule makes of these values, or why it makes nothing of them."""
    absent = tuple([name for name in firing.taken if name not in values])
    if absent:
        result.incomplete.update(dict.fromkeys(firing.made, absent))
        result.stranded.update({name: firing.made for name in firing.taken if name in values})
        return
    op = firing.rule.op
    try:
        turn = op.backward if back else op.forward
        made = turn(tuple([values[name] for name in firing.taken]), len(firing.made))
    except ShapeError as error:
        result.misshapen.update(dict.fromkeys(firing.taken, str(error)))
        return
    for name, value in zip(firing.made, made, strict=True):
        if name in result.made:
            result.clashes[name] = (*result.clashes.get(name, ()), *firing.taken)
        result.made[name] = value
    result.fired.append(firing)


def by_form(pairs: Iterable[tuple[frozenset[str], T]]) -> dict[str, list[T]]:
    """What is for names of each form, in order."""
    result: dict[str, list[T]] = {}
    for forms, one in pairs:
        for known in forms:
            same = result.setdefault(known, [])
            if not same or same[-1] is not one:
                same.append(one)
    return result
