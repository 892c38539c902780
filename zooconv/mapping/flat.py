"""Blocks that a dialect numbers stage by stage, and the canonical names through all stages.

    stages.0.blocks.0.   stages.1.blocks.0.   stages.1.blocks.1.   stages.2.blocks.0.     in files of the dialect
    blocks.0.            blocks.1.            blocks.2.            blocks.3.              in the canonical naming

No name alone tells one number from the other: how many blocks the stages before it have does. On the way to the
canonical names that is counted on the files' own names; on the way back it is seen on the blocks' widths.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Protocol

from zooconv.mapping.template import Integer, Template, parse_template
from zooconv.tensor import Shape


class Shaped(Protocol):
    @property
    def shape(self) -> Shape: ...


class Numbering:
    """How a dialect's names are numbered in the rules, and back: here, as they are."""

    def inward(self, name: str) -> str:
        """A file's name, as the left sides of the rules have it."""
        return name

    def outward(self, name: str) -> str:
        """The inverse of `inward`."""
        return name


AS_THEY_ARE = Numbering()


@dataclass(frozen=True)
class Flat:
    """`Flat("stages.{s}.blocks.{b}.", "blocks.{n}.", by="norm2.weight")`: a cumulative index.

    `staged` is how names of blocks begin in files of the dialect, stage before block; `flat` is how they begin in the
    canonical naming, and on both sides of the rules. `by` is a tensor of every block, after `flat`, that has one shape
    throughout a stage, and another in the next.
    """

    staged: str
    flat: str
    by: str

    def __post_init__(self) -> None:
        for text, count in ((self.staged, 2), (self.flat, 1)):
            fields = parse_template(text).fields
            if len(fields) != count or not all(isinstance(field, Integer) for field in fields):
                raise ValueError(f"{text!r} must have {count} integer{'s' if count > 1 else ''}: {self}")

    @cached_property
    def theirs(self) -> Template:
        return parse_template(self.staged)

    @cached_property
    def ours(self) -> Template:
        return parse_template(self.flat)

    def counted(self, names: Iterable[str]) -> Stages:
        """The numbering of a file with these names. A hole in the middle of a stage is not one block fewer."""
        depths: dict[int, int] = {}
        for name in names:
            if found := self.theirs.begins(name):
                stage, block = self.place(found[0])
                depths[stage] = max(depths.get(stage, 0), block + 1)
        stages = sorted(depths) or [0]
        return Stages(self, tuple(stages), (0, *accumulate(depths[s] for s in stages[:-1])))

    def measured(self, tensors: Mapping[str, Shaped]) -> Stages:
        """The numbering of a member with these canonical tensors: a stage starts where the shape of `by` changes."""
        by = parse_template(self.flat + self.by)
        found = ((by.match(name), tensor.shape) for name, tensor in tensors.items())
        widths = sorted((self.number(bound), shape) for bound, shape in found if bound is not None)
        starts = (0, *(number for (_, width), (number, other) in pairwise(widths) if other != width))
        return Stages(self, tuple(range(len(starts))), starts)

    def place(self, bound: Mapping[str, int | str]) -> tuple[int, int]:
        """Stage and block, of what `staged` binds."""
        stage, block = (int(bound[field.name]) for field in self.theirs.fields)
        return stage, block

    def number(self, bound: Mapping[str, int | str]) -> int:
        """The block's number, of what `flat` binds."""
        return int(bound[self.ours.fields[0].name])

    def in_files(self, source: Template) -> Template:
        """A left side of the rules, as files of the dialect have it."""
        if not source.text.startswith(self.flat):
            return source
        rest = parse_template(source.text.removeprefix(self.flat))
        if taken := rest.variables & self.theirs.variables:
            raise ValueError(f"{source}: {{{', '.join(sorted(taken))}}} stands for something else in {self.staged}")
        return parse_template(self.staged + rest.text)

    def __str__(self) -> str:
        return f"{self.staged} = {self.flat}, a stage for each shape of {self.by}"


@dataclass(frozen=True)
class Stages(Numbering):
    """A `Flat` of which it is known which stages there are, and with which block each of them starts."""

    flat: Flat
    stages: tuple[int, ...]
    starts: tuple[int, ...]

    def inward(self, name: str) -> str:
        """Numbered through. A name that is so already is none of the dialect's, and no rule may take it for one."""
        if found := self.flat.theirs.begins(name):
            stage, block = self.flat.place(found[0])
            number = self.starts[bisect_left(self.stages, stage)] + block
            return f"{self.flat.ours.render({self.flat.ours.fields[0].name: number})}{found[1]}"
        return "" if self.flat.ours.begins(name) else name

    def outward(self, name: str) -> str:
        found = self.flat.ours.begins(name)
        if not found:
            return name
        number = self.flat.number(found[0])
        at = bisect_right(self.starts, number) - 1
        names = (field.name for field in self.flat.theirs.fields)
        there = dict(zip(names, (self.stages[at], number - self.starts[at]), strict=True))
        return f"{self.flat.theirs.render(there)}{found[1]}"
