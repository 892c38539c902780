"""A backbone family as its author writes it: a canonical table of tensors, source dialects, Detectron2 layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from zooconv.mapping.change import Change, in_turn
from zooconv.mapping.dialect import Dialect, Files
from zooconv.mapping.expr import Computed, Expr, Fill, fill
from zooconv.mapping.forms import Forms
from zooconv.mapping.requires import Requires
from zooconv.mapping.rules import Drop, Rule
from zooconv.mapping.template import parse_template
from zooconv.tensor import Shape, TensorSpec

C = TypeVar("C")


class Shapes(Mapping[str, Shape]):
    """Canonical names and shapes, for a family's `infer` to read its config off.

    A name that is not there raises KeyError; recognition turns that into a plain message.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self._forms = Forms(shapes)

    def __getitem__(self, name: str) -> Shape:
        return self._shapes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def counts(self, template: str) -> tuple[int, ...]:
        """How many there are along the last index, for each value of the first: blocks per stage.

        `counts("stages.{s}.{b}.gamma")` is (3, 3, 9, 3) for a ConvNeXt-T. A hole in the middle is not one fewer.
        Raises KeyError for an index that so few tensors cannot count up to.
        """
        pattern = parse_template(template)
        first, last = (f.name for f in pattern.fields[:2])
        most: dict[int, int] = {}
        for name, bound in self._forms.named(pattern):
            if bound:
                outer, inner = int(bound[first]), int(bound[last])
                if max(outer, inner) >= len(self):
                    raise KeyError(f"{name}, and all before it")
                most[outer] = max(most.get(outer, 0), inner + 1)
        return tuple(most.get(i, 0) for i in range(max(most, default=-1) + 1))

    def usual(self, template: str, **where: int) -> Shape:
        """The most common shape among the names of a template, so that one odd tensor does not decide.

        Raises KeyError where no name fits.
        """
        pattern = parse_template(template)
        votes: dict[Shape, int] = {}
        for name, bound in self._forms.named(pattern):
            if all(bound[k] == v for k, v in where.items()):
                votes[self[name]] = votes.get(self[name], 0) + 1
        if not votes:
            raise KeyError(pattern.render({f.name: where.get(f.name, 0) for f in pattern.fields}))
        return max(votes, key=lambda shape: votes[shape])


@dataclass(frozen=True)
class Fresh:
    """A tensor that a layout adds: no source has it, it starts at `fill` everywhere.

    `dtype` is F32, or I64: then it is a counter, which takes no part in what the model computes.
    """

    name: str
    shape: Shape
    fill: float
    dtype: str = "F32"

    @property
    def start(self) -> Fill:
        """Its value."""
        return fill(self.shape, self.fill, self.dtype)


@dataclass(frozen=True)
class Derived:
    """A tensor that follows from the config, under its canonical name; whole numbers, by a formula of zooconv's.

    No source needs to hold it. One that does is compared with it; a layout whose rules have a place for it gets it.
    `formula` is a name in `zooconv.mapping.formulas`, `arguments` are whole numbers, `shape` is the result's.
    """

    name: str
    shape: Shape
    formula: str
    arguments: tuple[int, ...]

    @property
    def value(self) -> Computed:
        return Computed(self.shape, "I64", self.formula, self.arguments)


@dataclass(frozen=True)
class Layout:
    """A dialect that a Detectron2 project loads, and the four facts that go with it.

    `names` are the projects that share it, the first being its own name; `mount` stands before every name;
    `rules` is the body, from its names to the canonical ones; `omit` is what the implementation lacks, with the
    reason, and `fresh` what it adds. `source` says which code this was read off. `refuses` says of a config why the
    implementation cannot hold it, or nothing. `changes` are steps that the implementation cannot do without, after
    which the weights are not the source's any more: they are made in turn, and told. `projects` says what a project
    requires instead, by its name, where that is not what the layout's others do.

    Two facts are for reading the checkpoint of a whole model. `parts`: where a backbone stands in several places of it,
    what their names begin with; all else is outside. `carries`: tensors that the class adds in shapes that no config
    tells (templates), each with its start value: they are not written, only told apart from strangers.

    An upstream's dialect is a target, too: see `Layout.of`.
    """

    names: tuple[str, ...]
    mount: str
    rules: Sequence[Rule]
    source: str
    omit: Mapping[str, str] = field(default_factory=dict)
    fresh: Callable[[Any], Iterable[Fresh]] | None = None
    requires: Requires = Requires()
    refuses: Callable[[Any], str | None] | None = None
    changes: Sequence[Change] = ()
    projects: Mapping[str, Requires] = field(default_factory=dict)
    parts: Sequence[str] = ()
    carries: Mapping[str, float] = field(default_factory=dict)
    upstream: Dialect | None = None

    @classmethod
    def of(cls, dialect: Dialect) -> Layout:
        """An upstream's own naming as a target: no mount, nothing added, and nothing that a backbone has left out."""
        rules = [rule for rule in dialect.rules if isinstance(rule, Rule)]
        return cls((dialect.name,), "", rules, f"files in {dialect.name} names", upstream=dialect)

    @property
    def name(self) -> str:
        return self.names[0]

    def required_by(self, project: str) -> Requires:
        """What the project of one of the layout's names requires of a config."""
        return self.projects.get(project, self.requires)

    @cached_property
    def body(self) -> Dialect:
        """The layout's names without the mount, as a dialect."""
        return self.upstream or Dialect(self.name, self.rules, tuple(self.omit))

    @property
    def files(self) -> Files:
        """How the weights are kept when they are written so."""
        return self.body.kept if self.upstream else Files()

    @property
    def title(self) -> str:
        """What it is, and its name."""
        return f"a file in {self.name} names" if self.upstream else f"layout {self.name}"

    def omits(self, name: str) -> str | None:
        """Why this layout has no place for a canonical tensor, if it has none."""
        for text, reason in self.omit.items():
            if parse_template(text).match(name) is not None:
                return reason
        return None

    def after(self, config: Any) -> Any:
        """What a config has become when the layout's changes are made."""
        return in_turn(config, self.changes)[1]

    def refusal(self, config: Any) -> str | None:
        """Why the implementation cannot hold a member of this config, if it cannot."""
        return self.refuses(config) if self.refuses else None

    def fresh_tensors(self, config: Any) -> tuple[Fresh, ...]:
        return tuple(self.fresh(config)) if self.fresh else ()

    def added(self, config: Any, own: Mapping[str, tuple[Expr, Expr]]) -> dict[str, Expr]:
        """What the class adds to a member's tensors, at its start, or as a file already has it as its `own`."""
        fresh: dict[str, Expr] = {f.name: f.start for f in self.fresh_tensors(config)}
        return fresh | {name: value for name, (value, _) in own.items()
                        if name in fresh or self.start(name, value.shape) is not None}

    def start(self, name: str, shape: Shape) -> Fill | None:
        """The start value of a tensor of this name that the class adds in any shape, if it is one."""
        values = (value for text, value in self.carries.items() if parse_template(text).match(name) is not None)
        value = next(values, None)
        return None if value is None else fill(shape, value)


@dataclass(frozen=True)
class Refusal:
    """A relative of the family that its layouts cannot hold: recognised by a name it has, or by one it lacks.

    It is looked for where a dialect's anchor stands; `anywhere`, wherever the name that it has does: for a relative
    without an anchor, and a name that nothing else has.
    """

    reason: str
    has: str
    lacks: str = ""
    anywhere: bool = False

    def applies(self, names: Iterable[str], prefix: str) -> bool:
        """Does a file with these names, under `prefix`, hold this relative?"""
        has, lacks = parse_template(self.has), parse_template(self.lacks) if self.lacks else None
        found = False
        for name in names:
            inner = name.removeprefix(prefix)
            found = found or has.match(inner) is not None
            if lacks and lacks.match(inner) is not None:
                return False
        return found


@dataclass(frozen=True)
class Family(Generic[C]):
    """An architecture with one canonical naming.

    `infer` reads a config off canonical shapes; `tensors` is the table of every canonical tensor of a config, in the
    order of the reference module, and the single truth for names and shapes. `variants` are the known configs, `toy` is
    one that costs nothing to try things on. `derived` are tensors that follow from a config, which files may hold or
    leave out. `choices` are changes that a user may ask for, by the name of their option (see `Options`): each is made
    of a config and the option's value.

    Two kinds of code are named as `package.module:name`, and imported only when somebody asks for a proof. `backbone`
    makes the reference module of a config: a torch module with the canonical names, whose `outputs(images)` is a dict
    of everything that its tensors take part in. Detectron2 can use it where it also takes options as keywords
    (`out_features`, `drop_path` …), gives a dict of maps, and has `output_shape()` and `freeze(at)` (FREEZE_AT).
    `upstreams` are the packages that it is held against, by name (see `zooconv.Upstream`), on images of `image` pixels,
    height and width, which may depend on the config.

    A family may stand for many architectures that have no naming in common. Then it has no dialects of its own, and its
    layouts no rules; `members` makes of a file's tensors a family for each architecture that they could be of, called
    the same, with dialects and layouts of rules. It is asked only where no other family has the file, or where none
    that has it has the layout that is asked for.
    """

    name: str
    title: str
    infer: Callable[[Shapes], C]
    tensors: Callable[[C], Iterable[TensorSpec]]
    variants: Mapping[str, C]
    dialects: Sequence[Dialect]
    layouts: Sequence[Layout]
    refusals: Sequence[Refusal] = ()
    toy: C | None = None
    derived: Callable[[C], Iterable[Derived]] | None = None
    choices: Mapping[str, Callable[[C, Any], Change]] = field(default_factory=dict)
    backbone: str = ""
    upstreams: Mapping[str, str] = field(default_factory=dict)
    image: tuple[int, int] | Callable[[C], tuple[int, int]] = (64, 96)
    members: Members | None = None

    def table(self, config: C) -> dict[str, TensorSpec]:
        """The canonical tensors of `config` by name."""
        return {spec.name: spec for spec in self.tensors(config)}

    def derived_values(self, config: C) -> dict[str, Computed]:
        """The tensors that follow from `config`, by name."""
        return {one.name: one.value for one in self.derived(config)} if self.derived else {}

    def image_size(self, config: C) -> tuple[int, int]:
        """Height and width of the images that a member is run on."""
        return self.image(config) if callable(self.image) else self.image

    def variant(self, config: C) -> str | None:
        """The name of a known config."""
        return next((name for name, known in self.variants.items() if known == config), None)

    def layout(self, name: str) -> Layout | None:
        return next((layout for layout in self.layouts if name in layout.names), None)

    @property
    def layout_names(self) -> tuple[str, ...]:
        return tuple(name for layout in self.layouts for name in layout.names)


Members = Callable[[Mapping[str, TensorSpec]], Iterable[Family[Any]]]


def config_facts(config: Any) -> dict[str, Any]:
    """A config as plain JSON data: tuples as lists."""
    facts: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return facts


def config_text(config: Any) -> str:
    """A config, or its facts, in one line: `depths 3,3,9,3  dims 96,192,384,768`."""
    values = ((key, ",".join(map(str, value)) if isinstance(value, list) else str(value))
              for key, value in (config if isinstance(config, dict) else config_facts(config)).items())
    return "  ".join(f"{key} {value}" for key, value in values)


__all__ = ["Dialect", "Drop", "Family", "Files", "Fresh", "Layout", "Refusal", "Requires", "Rule", "Shapes",
           "config_facts", "config_text"]
