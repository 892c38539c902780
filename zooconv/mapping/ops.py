"""Ops: what a rule does to its tensors on the way to the canonical naming, and how it is undone.

An op turns expressions into expressions in both directions; its shape rule is what it raises ShapeError on. Every op
here is lossless: it moves elements and never looks inside one, so bfloat16, float8 and int64 pass through it alike and
the way back gives the same bytes.

    identity                      the tensor as it is
    reshape("c 1 1 -> c")         the same elements under another shape; the first pattern that fits, either way
    permute(0, 3, 1, 2)           axes in another order
    transpose                     permute(1, 0)
    cat(axis=0)                   several tensors joined to one
    cut(axis=0)                   the inverse of cat: one tensor cut into several
    around_zeros(axis=0)          three equal parts, of which the middle is zero, without it
    group_order(axis, order)      equal groups along an axis in another order
    unfold_order(axis, order)     channel-major groups, as nn.Unfold gives them, made group-major
    square                        n² elements in a row, as an n x n matrix
    grid                          n² places in a row, channels last (1, n², c), as a map (1, c, n, n)
    constants(0, 1)               the tensor, and beside it what it means without holding it: constants of its shape
    chain(a, b)                   a, then b
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from math import isqrt

from zooconv.mapping import expr
from zooconv.mapping.expr import Expr, ShapeError
from zooconv.tensor import Shape, shape_text

Exprs = tuple[Expr, ...]


class Op(ABC):
    """A tensor operation of a rule: `forward` towards the canonical naming, `backward` away from it.

    Both take the expressions of one side of the rule and the number of tensors on the other side. `str(op)` is its
    canonical spelling, which the rules digest is made of.
    """

    lossless = True

    @abstractmethod
    def forward(self, args: Exprs, count: int) -> Exprs: ...

    @abstractmethod
    def backward(self, args: Exprs, count: int) -> Exprs: ...

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Identity(Op):
    """Tensor i of one side is tensor i of the other."""

    def forward(self, args: Exprs, count: int) -> Exprs:
        if len(args) != count:
            raise ShapeError(f"identity cannot make {count} tensors of {len(args)}")
        return args

    backward = forward

    def __str__(self) -> str:
        return "identity"


@dataclass(frozen=True)
class Pattern:
    """A pair of shapes with named sizes: `o i 1 1 -> o i`. Sizes keep their order; only ones come and go."""

    text: str

    def __post_init__(self) -> None:
        left, right = self.sides
        if [s for s in left if s != "1"] != [s for s in right if s != "1"]:
            raise ValueError(f"shape pattern {self.text!r}: the sizes differ between the sides")

    @cached_property
    def sides(self) -> tuple[list[str], list[str]]:
        left, arrow, right = self.text.partition("->")
        if not arrow:
            raise ValueError(f"shape pattern {self.text!r} has no arrow: write 'c 1 1 -> c'")
        return left.split(), right.split()

    @cache  # noqa: B019 - a table has few patterns, and a file few shapes
    def apply(self, shape: Shape, *, back: bool) -> Shape | None:
        """The other side's shape, or None where `shape` is not of this side's form."""
        here, there = reversed(self.sides) if back else self.sides
        if len(here) != len(shape) or any(s == "1" and n != 1 for s, n in zip(here, shape, strict=True)):
            return None
        sizes = iter(n for s, n in zip(here, shape, strict=True) if s != "1")
        return tuple(1 if s == "1" else next(sizes) for s in there)


@dataclass(frozen=True)
class Reshaped(Op):
    """The first pattern that fits, in either direction."""

    patterns: tuple[Pattern, ...]

    def _turn(self, args: Exprs, count: int, *, back: bool) -> Exprs:
        (arg,) = Identity().forward(args, count)
        for pattern in self.patterns:
            shape = pattern.apply(arg.shape, back=back)
            if shape is not None:
                return (expr.reshape(arg, shape),)
        raise ShapeError(f"{self} does not fit {shape_text(arg.shape)}")

    def forward(self, args: Exprs, count: int) -> Exprs:
        return self._turn(args, count, back=False)

    def backward(self, args: Exprs, count: int) -> Exprs:
        return self._turn(args, count, back=True)

    def __str__(self) -> str:
        return f"reshape({', '.join(p.text for p in self.patterns)})"


@dataclass(frozen=True)
class Permuted(Op):
    """Axes in another order."""

    axes: tuple[int, ...]

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = Identity().forward(args, count)
        return (expr.permute(arg, self.axes),)

    def backward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = Identity().forward(args, count)
        return (expr.permute(arg, _inverse(self.axes)),)

    def __str__(self) -> str:
        return f"permute({', '.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Cat(Op):
    """Several tensors joined along an axis. Without `sizes` the way back cuts into equal parts."""

    axis: int
    sizes: tuple[int, ...] | None = None

    def forward(self, args: Exprs, count: int) -> Exprs:
        if count != 1:
            raise ShapeError("cat makes one tensor")
        return (expr.concat(args, self.axis),)

    def backward(self, args: Exprs, count: int) -> Exprs:
        if len(args) != 1:
            raise ShapeError("cut takes one tensor")
        arg = args[0]
        if self.axis >= len(arg.shape):
            raise ShapeError(f"{shape_text(arg.shape)} has no axis {self.axis}")
        whole = arg.shape[self.axis]
        sizes = self.sizes or (whole // count,) * count
        if sum(sizes) != whole or len(sizes) != count:
            raise ShapeError(f"axis {self.axis} of {shape_text(arg.shape)} cannot be cut into {count} parts")
        ends = [sum(sizes[: i + 1]) for i in range(count)]
        return tuple(expr.slice_(arg, self.axis, end - size, end) for end, size in zip(ends, sizes, strict=True))

    def __str__(self) -> str:
        return f"cat(axis={self.axis}{f', sizes={list(self.sizes)}' if self.sizes else ''})"


@dataclass(frozen=True)
class AroundZeros(Op):
    """The first and the last third of a tensor; the middle one is zero, and is made again on the way back.

    A source that is something else there is refused when its bytes are read: it could not be had back.
    """

    axis: int

    def forward(self, args: Exprs, count: int) -> Exprs:
        first, _, last = Cat(self.axis).backward(args, 3)
        return Identity().forward((first, last), count)

    def backward(self, args: Exprs, count: int) -> Exprs:
        first, last = Identity().forward(args, 2)
        return Cat(self.axis).forward((first, expr.fill(first.shape, 0.0, first.dtype), last), count)

    def __str__(self) -> str:
        return f"around_zeros(axis={self.axis})"


@dataclass(frozen=True)
class GroupOrder(Op):
    """Groups along an axis in another order: result group g is the argument's group `order[g]`.

    With `interleaved`, position c·n + g of the argument belongs to group g (channel-major, as nn.Unfold writes
    patches); otherwise group g is the run of positions from g·C.
    """

    axis: int
    order: tuple[int, ...]
    interleaved: bool = False

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"{self.order} is no order of {len(self.order)} groups")

    def _positions(self, arg: Expr) -> tuple[int, ...]:
        groups = len(self.order)
        size = arg.shape[self.axis] if self.axis < len(arg.shape) else 0
        if size == 0 or size % groups:
            raise ShapeError(f"axis {self.axis} of {shape_text(arg.shape)} does not hold {groups} equal groups")
        each = size // groups
        step, jump = (groups, 1) if self.interleaved else (1, each)
        return tuple(g * jump + c * step for g in self.order for c in range(each))

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = Identity().forward(args, count)
        return (expr.gather(arg, self.axis, self._positions(arg)),)

    def backward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = Identity().forward(args, count)
        return (expr.gather(arg, self.axis, _inverse(self._positions(arg))),)

    def __str__(self) -> str:
        name = "unfold_order" if self.interleaved else "group_order"
        return f"{name}(axis={self.axis}, order={list(self.order)})"


@dataclass(frozen=True)
class Square(Op):
    """n² elements in a row, as an n x n matrix."""

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        side = isqrt(arg.shape[0]) if len(arg.shape) == 1 else 0
        return (expr.reshape(arg, (side, side)),)

    def backward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        return (expr.reshape(arg, (arg.shape[0] * arg.shape[-1],)),)

    def __str__(self) -> str:
        return "square"


@dataclass(frozen=True)
class Grid(Op):
    """The places of a square map in a row, each with its channels, as the map: (1, n², c) -> (1, c, n, n)."""

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        side = isqrt(arg.shape[1]) if len(arg.shape) == 3 else 0
        return (expr.permute(expr.reshape(arg, (1, side, side, arg.shape[-1])), (0, 3, 1, 2)),)

    def backward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        if len(arg.shape) != 4 or arg.shape[2] != arg.shape[3]:
            raise ShapeError(f"{shape_text(arg.shape)} is no square map")
        last = expr.permute(arg, (0, 2, 3, 1))
        return (expr.reshape(last, (1, arg.shape[2] * arg.shape[3], arg.shape[1])),)

    def __str__(self) -> str:
        return "grid"


@dataclass(frozen=True)
class Constants(Op):
    """A tensor, and for each further target one of its shape with one value everywhere.

    For a source that means more than it holds. The way back needs the tensor alone; so a dialect with such a rule
    `lacks` the further targets: files of other values cannot be spelled in it.
    """

    values: tuple[float, ...]

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = Identity().forward(args, 1)
        if count != 1 + len(self.values):
            raise ShapeError(f"{self} makes {1 + len(self.values)} tensors, and the rule wants {count}")
        return (arg, *(expr.fill(arg.shape, value) for value in self.values))

    def backward(self, args: Exprs, count: int) -> Exprs:
        return Identity().forward(args[:1], count)

    def __str__(self) -> str:
        return f"constants({', '.join(map(repr, self.values))})"


@dataclass(frozen=True)
class Chain(Op):
    """One op after another, each of one tensor."""

    ops: tuple[Op, ...]

    def forward(self, args: Exprs, count: int) -> Exprs:
        for op in self.ops:
            args = op.forward(args, count)
        return args

    def backward(self, args: Exprs, count: int) -> Exprs:
        for op in reversed(self.ops):
            args = op.backward(args, count)
        return args

    def __str__(self) -> str:
        return f"chain({', '.join(map(str, self.ops))})"


@dataclass(frozen=True)
class Inverse(Op):
    """Another op, run the other way."""

    op: Op

    def forward(self, args: Exprs, count: int) -> Exprs:
        return self.op.backward(args, count)

    def backward(self, args: Exprs, count: int) -> Exprs:
        return self.op.forward(args, count)

    def __str__(self) -> str:
        return f"inverse({self.op})"


identity = Identity()
square = Square()
grid = Grid()
transpose = Permuted((1, 0))


def reshape(*patterns: str) -> Op:
    """`reshape("c 1 1 -> c")`; with several patterns, the first that fits. Raises ValueError for a bad pattern."""
    return Reshaped(tuple(Pattern(text) for text in patterns))


def permute(*axes: int) -> Op:
    """Result axis i is the source's axis `axes[i]`."""
    if sorted(axes) != list(range(len(axes))):
        raise ValueError(f"{axes} does not permute {len(axes)} axes")
    return Permuted(axes)


def cat(axis: int = 0, sizes: tuple[int, ...] | None = None) -> Op:
    """Join the rule's sources along `axis`."""
    return Cat(axis, sizes)


def cut(axis: int = 0, sizes: tuple[int, ...] | None = None) -> Op:
    """Cut the rule's source along `axis`."""
    return Inverse(Cat(axis, sizes))


def around_zeros(axis: int = 0) -> Op:
    """The outer two of three equal parts along `axis`: a bias of queries, keys and values, where keys have none."""
    return AroundZeros(axis)


def constants(*values: float) -> Op:
    """Keep the rule's source, and give its further targets these values, everywhere."""
    return Constants(tuple(map(float, values)))


def group_order(axis: int, order: tuple[int, ...]) -> Op:
    """Reorder equal groups along `axis`: result group g is source group `order[g]`."""
    return GroupOrder(axis, order)


def unfold_order(axis: int, order: tuple[int, ...] = (0, 2, 1, 3)) -> Op:
    """From nn.Unfold's channel-major patches to the group-major concatenation of Swin's patch merging.

    Source: `correct_unfold_reduction_order`, open-mmlab/mmdetection `tools/model_converters/swinv1_to_mmdet.py`.
    """
    return GroupOrder(axis, order, interleaved=True)


def chain(*ops: Op) -> Op:
    """Each op in turn."""
    return Chain(ops)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    back = [0] * len(order)
    for position, source in enumerate(order):
        back[source] = position
    return tuple(back)


# Two spellings that many families share: a 1x1 convolution that acts as a linear layer, and a per-channel scale that
# is stored ready to broadcast over an image.
linear = reshape("o i -> o i", "o -> o", "o i 1 1 -> o i")
flatten = reshape("c 1 1 -> c")

