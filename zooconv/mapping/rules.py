"""Rules and dialects: a way of naming a family's tensors, as a table that runs in both directions.

    TIMM = Dialect("timm", [
        rename("stem.{i}.{wb}",                        "downsample_layers.0.{i}.{wb}"),
        rename("stages.{s}.blocks.{b}.mlp.fc{n}.{wb}", "stages.{s}.{b}.pwconv{n}.{wb}", linear),
        drop("head.fc.{wb}", "classifier"),
    ])

The left side is the dialect's, the right side the family's canonical naming. The first rule that matches a name has
it. A merge or a split has several templates on one side; all templates of a rule bind the same variables. Where a
dialect counts blocks within stages and the canonical names through all of them, a `Flat` renumbers before the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

from zooconv.mapping.expr import Computed, Expr, ShapeError
from zooconv.mapping.flat import AS_THEY_ARE, Flat, Numbering
from zooconv.mapping.ops import Op, identity
from zooconv.mapping.requires import Requires
from zooconv.mapping.template import Template, form, parse_template

Names = tuple[str, ...]
T = TypeVar("T")


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


ByForm = Mapping[str, Sequence[Rule | Drop]]


@dataclass(frozen=True)
class Files:
    """How an upstream keeps its weights, for those who write them in its names.

    `container` is pth or safetensors; `key` is the one under which the tensors stand in a .pth, none where they stand
    at the top; `derived` says whether its files hold the tensors that follow from the config.
    """

    container: Literal["pth", "safetensors"] = "pth"
    key: str = "model"
    derived: bool = True


# What these projects publish, and their loaders take. Others wrap their weights in {"model": …}, as most papers' code.
PROJECTS = {
    "timm": Files("safetensors", ""), "transformers": Files("safetensors", ""), "torchvision": Files("pth", ""),
    "openmmlab": Files("pth", "state_dict"),
}


@dataclass(frozen=True)
class Dialect:
    """A named table of rules from a way of naming to the canonical one.

    `lacks` names canonical tensors that this dialect never holds (a layout without the final norm, say). The first
    rule is the anchor: recognition looks for its names to find the prefix under which a backbone stands. `requires` is
    what a Detectron2 config must say of weights that come in these names, over what the layout says. `toy` is the
    config that it is tried on where it has no names for the family's.

    With `flat`, files of this dialect number their blocks stage by stage; the rules see them numbered through. `files`
    says how weights are kept that are written in these names; by default as the project does whose name comes first in
    the dialect's.
    """

    name: str
    rules: Sequence[Rule | Drop]
    lacks: Sequence[str] = ()
    flat: Flat | None = None
    requires: Requires | None = None
    toy: Any = None
    files: Files | None = None

    @property
    def anchor(self) -> Template:
        for rule in self.rules:
            if isinstance(rule, Rule):
                return self.in_files(rule.sources[0])
        raise ValueError(f"dialect {self.name!r} has no rule")

    @property
    def kept(self) -> Files:
        """How weights are kept that are written in these names."""
        return self.files or PROJECTS.get(self.name.split("-")[0], Files())

    @property
    def aliases(self) -> tuple[Drop, ...]:
        """The rules for second names. A file of this dialect has them all; without them it is another dialect's."""
        return tuple(replace(rule, source=self.in_files(rule.source), same_as=self.in_files(rule.same_as))
                     for rule in self.rules if isinstance(rule, Drop) and rule.same_as)

    def second_names(self, names: Iterable[str]) -> dict[str, str]:
        """The second names that go with these names of the dialect, each with its first."""
        pairs = ((alias.source.render(bound), name) for alias in self.aliases for name in names
                 if alias.same_as is not None and (bound := alias.same_as.match(name)) is not None)
        return {second: name for second, name in pairs if second is not None}

    def in_files(self, source: Template) -> Template:
        """The left side of a rule, as files of this dialect have it."""
        return self.flat.in_files(source) if self.flat else source

    def lacking(self, name: str) -> bool:
        return any(template.match(name) is not None for template in self._lacks)

    @cached_property
    def _lacks(self) -> tuple[Template, ...]:
        return tuple(map(parse_template, self.lacks))

    def drop_reason(self, name: str) -> str | None:
        """Why a tensor of this name is dropped, if a drop rule says so."""
        reasons = (reason for source, reason in self._drops.get(form(name), ()) if source.match(name) is not None)
        return next(reasons, None)

    def knows(self, form: str) -> bool:
        """Could there be a rule for a name of this form (see `zooconv.mapping.template.form`)?"""
        return form in self._known

    @cached_property
    def _known(self) -> frozenset[str]:
        """The forms of all names that files of this dialect may have."""
        sides = (rule.sources if isinstance(rule, Rule) else (rule.source,) for rule in self.rules)
        return frozenset().union(*(self.in_files(source).forms for side in sides for source in side))

    @cached_property
    def _drops(self) -> dict[str, list[tuple[Template, str]]]:
        drops = ((self.in_files(rule.source), rule.reason) for rule in self.rules if isinstance(rule, Drop))
        return _by_form((source.forms, (source, reason)) for source, reason in drops)

    @cached_property
    def _inward(self) -> ByForm:
        return _by_form((t.forms, rule) for rule in self.rules
                        for t in (rule.sources if isinstance(rule, Rule) else (rule.source,)))

    @cached_property
    def _outward(self) -> ByForm:
        return _by_form((t.forms, rule) for rule in self.rules if isinstance(rule, Rule) for t in rule.targets)

    def to_canonical(self, tensors: Mapping[str, Expr]) -> Translation:
        """The canonical tensors that these make, and what became of each of them."""
        numbering = self.flat.counted(tensors) if self.flat else AS_THEY_ARE
        return _translate(self._inward, tensors, numbering, back=False)

    def from_canonical(self, tensors: Mapping[str, Expr]) -> Translation:
        """This dialect's tensors, made of canonical ones."""
        numbering = self.flat.measured(tensors) if self.flat else AS_THEY_ARE
        return _translate(self._outward, tensors, numbering, back=True)

    def __str__(self) -> str:
        """The canonical spelling of the table, which the rules digest is made of."""
        return "\n".join([self.name, *([str(self.flat)] if self.flat else []), *map(str, self.rules),
                          *(f"lacks {t}" for t in self.lacks)])


class AsItIs(Dialect):
    """The canonical names themselves, without what follows from a config."""

    def to_canonical(self, tensors: Mapping[str, Expr]) -> Translation:
        result = Translation()
        for name, value in tensors.items():
            if isinstance(value, Computed):
                result.unmatched.append(name)
            else:
                _fire(result, Firing(rename(name, name), (name,), (name,)), tensors, back=False)
        return result

    from_canonical = to_canonical

    def knows(self, form: str) -> bool:
        return True


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


def _by_form(pairs: Iterable[tuple[frozenset[str], T]]) -> dict[str, list[T]]:
    """What is for names of each form, in order."""
    result: dict[str, list[T]] = {}
    for forms, one in pairs:
        for known in forms:
            same = result.setdefault(known, [])
            if not same or same[-1] is not one:
                same.append(one)
    return result


def _translate(rules: ByForm, tensors: Mapping[str, Expr], numbering: Numbering, *,
               back: bool) -> Translation:
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
        _fire(result, Firing(rule, takes, makes), values, back=back)
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


def _fire(result: Translation, firing: Firing, values: Mapping[str, Expr], *, back: bool) -> None:
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
