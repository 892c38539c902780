"""Dialects: a way of naming a family's tensors, as a table of rules.

    TIMM = Dialect("timm", [
        rename("stem.{i}.{wb}",                        "downsample_layers.0.{i}.{wb}"),
        rename("stages.{s}.blocks.{b}.mlp.fc{n}.{wb}", "stages.{s}.{b}.pwconv{n}.{wb}", linear),
        drop("head.fc.{wb}", "classifier"),
    ])

The first rule that matches a name has it. Where a dialect counts blocks within stages and the canonical names through
all of them, a `Flat` renumbers before the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from zooconv.mapping.expr import Computed, Expr
from zooconv.mapping.flat import AS_THEY_ARE, Flat
from zooconv.mapping.requires import Requires
from zooconv.mapping.rules import Drop, Rule, rename
from zooconv.mapping.template import Template, form, parse_template
from zooconv.mapping.translate import ByForm, Firing, Translation, by_form, fire, translate


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
        return by_form((source.forms, (source, reason)) for source, reason in drops)

    @cached_property
    def _inward(self) -> ByForm:
        return by_form((t.forms, rule) for rule in self.rules
                        for t in (rule.sources if isinstance(rule, Rule) else (rule.source,)))

    @cached_property
    def _outward(self) -> ByForm:
        return by_form((t.forms, rule) for rule in self.rules if isinstance(rule, Rule) for t in rule.targets)

    def to_canonical(self, tensors: Mapping[str, Expr]) -> Translation:
        """The canonical tensors that these make, and what became of each of them."""
        numbering = self.flat.counted(tensors) if self.flat else AS_THEY_ARE
        return translate(self._inward, tensors, numbering, back=False)

    def from_canonical(self, tensors: Mapping[str, Expr]) -> Translation:
        """This dialect's tensors, made of canonical ones."""
        numbering = self.flat.measured(tensors) if self.flat else AS_THEY_ARE
        return translate(self._outward, tensors, numbering, back=True)

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
                fire(result, Firing(rename(name, name), (name,), (name,)), tensors, back=False)
        return result

    from_canonical = to_canonical

    def knows(self, form: str) -> bool:
        return True
