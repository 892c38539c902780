"""How a tensor is made of others: a small algebra of moves that never look inside an element, and arithmetic.

An expression says where every element of a tensor comes from. The five moves (reshape, permute, gather, slice,
concat) are built by functions that keep expressions in a normal form, so that a move followed by its inverse *is* the
tensor that one started from. That is how a plan is proved before a byte is read: write each source tensor in terms of
the targets, the targets in terms of the sources, and see the source itself come out. Casts and arithmetic are the
declared exception: a cast can be undone where it is exact, arithmetic cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zooconv.mapping.arithmetic import ARITHMETIC, FLOATS, compute, decoded, encoded, holds
from zooconv.mapping.formulas import FORMULAS
from zooconv.tensor import DTYPES, Shape, nbytes, shape_text

if TYPE_CHECKING:
    from zooconv.tensor import Array


class ShapeError(ValueError):
    """An op was given shapes that it has no rule for."""


@dataclass(frozen=True, slots=True)
class Expr:
    """A tensor-valued expression. `shape` and `dtype` are its result's."""

    shape: Shape
    dtype: str

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)


@dataclass(frozen=True, slots=True)
class Leaf(Expr):
    """A tensor by name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Fill(Expr):
    """A tensor with one value everywhere: what no source has."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g} everywhere"


@dataclass(frozen=True, slots=True)
class Computed(Expr):
    """A tensor that follows from whole numbers by a formula (see `zooconv.mapping.formulas`)."""

    formula: str
    arguments: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.formula}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True, slots=True)
class Reshape(Expr):
    """The same elements in the same order, in another shape."""

    arg: Expr

    def __str__(self) -> str:
        return f"reshape({self.arg}, {shape_text(self.shape)})"


@dataclass(frozen=True, slots=True)
class Permute(Expr):
    """Axes in another order: result axis i is the argument's axis `axes[i]`."""

    arg: Expr
    axes: tuple[int, ...]

    def __str__(self) -> str:
        return f"permute({self.arg}, {' '.join(map(str, self.axes))})"


@dataclass(frozen=True, slots=True)
class Gather(Expr):
    """Positions along one axis in another order: result position i is the argument's `order[i]`."""

    arg: Expr
    axis: int
    order: tuple[int, ...]

    def __str__(self) -> str:
        return f"reorder({self.arg}, axis {self.axis})"


@dataclass(frozen=True, slots=True)
class Slice(Expr):
    """Positions `start` to `stop` along one axis."""

    arg: Expr
    axis: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"slice({self.arg}, axis {self.axis}, {self.start}:{self.stop})"


@dataclass(frozen=True, slots=True)
class Concat(Expr):
    """Tensors one after the other along one axis."""

    args: tuple[Expr, ...]
    axis: int

    def __str__(self) -> str:
        return f"cat({', '.join(map(str, self.args))}, axis {self.axis})"


@dataclass(frozen=True, slots=True)
class Arithmetic(Expr):
    """New values, computed of others by an operation of `zooconv.mapping.arithmetic`, and rounded to `dtype`."""

    operation: str
    args: tuple[Expr, ...]
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        dtype = () if self.dtype == self.args[0].dtype else (DTYPES[self.dtype].torch,)
        return f"{self.operation}({', '.join(map(str, (*self.args, *self.numbers, *dtype)))})"


def fill(shape: Shape, value: float, dtype: str = "F32") -> Fill:
    """`value` everywhere: a floating-point type, or I64.

    Raises ShapeError for any other dtype, or one that cannot hold the value.
    """
    whole = dtype == "I64" and abs(value) < 2**53 and float(value).is_integer()
    if not (whole or dtype in FLOATS):
        raise ShapeError(f"no {dtype} tensor is {value} everywhere")
    return Fill(shape, dtype, float(value))


def reshape(arg: Expr, shape: Shape) -> Expr:
    """`arg` in another shape. Raises ShapeError where the number of elements differs."""
    if math.prod(shape) != math.prod(arg.shape):
        raise ShapeError(f"{shape_text(arg.shape)} cannot be reshaped to {shape_text(shape)}")
    if isinstance(arg, Reshape):
        arg = arg.arg
    return arg if arg.shape == shape else Reshape(shape, arg.dtype, arg)


def permute(arg: Expr, axes: tuple[int, ...]) -> Expr:
    """`arg` with its axes in another order. Raises ShapeError where `axes` is no permutation of its axes."""
    if sorted(axes) != list(range(len(arg.shape))):
        raise ShapeError(f"{axes} does not permute the axes of {shape_text(arg.shape)}")
    if isinstance(arg, Permute):
        axes, arg = tuple(arg.axes[a] for a in axes), arg.arg
    if axes == tuple(range(len(axes))):
        return arg
    return Permute(tuple(arg.shape[a] for a in axes), arg.dtype, arg, axes)


def gather(arg: Expr, axis: int, order: tuple[int, ...]) -> Expr:
    """`arg` with the positions of one axis reordered. Raises ShapeError where `order` is no permutation of them."""
    size = _axis(arg, axis)
    if sorted(order) != list(range(size)):
        raise ShapeError(f"the order does not permute the {size} positions of axis {axis}")
    if isinstance(arg, Gather) and arg.axis == axis:
        order, arg = tuple(arg.order[i] for i in order), arg.arg
    return arg if order == tuple(range(size)) else Gather(arg.shape, arg.dtype, arg, axis, order)


def slice_(arg: Expr, axis: int, start: int, stop: int) -> Expr:
    """Positions `start:stop` of one axis. Raises ShapeError where they lie outside."""
    size = _axis(arg, axis)
    if not 0 <= start < stop <= size:
        raise ShapeError(f"{start}:{stop} does not lie in axis {axis} of {shape_text(arg.shape)}")
    if (start, stop) == (0, size):
        return arg
    if isinstance(arg, Slice) and arg.axis == axis:
        return slice_(arg.arg, axis, arg.start + start, arg.start + stop)
    if isinstance(arg, Concat) and arg.axis == axis:
        begin = 0
        for part in arg.args:
            end = begin + part.shape[axis]
            if begin <= start and stop <= end:
                return slice_(part, axis, start - begin, stop - begin)
            begin = end
    shape = (*arg.shape[:axis], stop - start, *arg.shape[axis + 1:])
    return Slice(shape, arg.dtype, arg, axis, start, stop)


def concat(args: tuple[Expr, ...], axis: int) -> Expr:
    """Tensors joined along one axis. Raises ShapeError where the other axes or the dtypes differ."""
    first = args[0]
    for arg in args:
        _axis(arg, axis)
        if _without(arg.shape, axis) != _without(first.shape, axis) or arg.dtype != first.dtype:
            raise ShapeError("cannot join " + " and ".join(f"{a.dtype} {shape_text(a.shape)}" for a in args)
                             + f" along axis {axis}")
    joined: list[Expr] = []
    for arg in args:
        last = joined[-1] if joined else None
        if (isinstance(last, Slice) and isinstance(arg, Slice) and last.arg == arg.arg
                and last.axis == arg.axis == axis and last.stop == arg.start):
            joined[-1] = slice_(arg.arg, axis, last.start, arg.stop)
        else:
            joined.append(arg)
    if len(joined) == 1:
        return joined[0]
    shape = (*first.shape[:axis], sum(a.shape[axis] for a in joined), *first.shape[axis + 1:])
    return Concat(shape, first.dtype, tuple(joined), axis)


def cast(arg: Expr, dtype: str) -> Expr:
    """`arg` in another floating-point dtype. Raises ShapeError where either is none.

    Moves do not care when it is done: it is done to the tensors that they move. A cast that was exact is passed over.
    """
    if arg.dtype == dtype:
        return arg
    if odd := [one for one in (arg.dtype, dtype) if one not in FLOATS]:
        raise ShapeError(f"{odd[0]} is none of {', '.join(sorted(FLOATS))}, between which numbers are cast")
    match arg:
        case Fill(shape=shape, value=value):
            return fill(shape, _as_held(value, arg.dtype), dtype)
        case Reshape(arg=inner, shape=shape):
            return reshape(cast(inner, dtype), shape)
        case Permute(arg=inner, axes=axes):
            return permute(cast(inner, dtype), axes)
        case Gather(arg=inner, axis=axis, order=order):
            return gather(cast(inner, dtype), axis, order)
        case Slice(arg=inner, axis=axis, start=start, stop=stop):
            return slice_(cast(inner, dtype), axis, start, stop)
        case Concat(args=args, axis=axis):
            return concat(tuple(cast(inner, dtype) for inner in args), axis)
        case Arithmetic(operation="cast", args=(inner,)) if holds(arg.dtype, inner.dtype):
            return cast(inner, dtype)
    return Arithmetic(arg.shape, dtype, "cast", (arg,))


def arithmetic(operation: str, args: tuple[Expr, ...], numbers: tuple[int, ...] = (),
               dtype: str | None = None) -> Expr:
    """New values: of the first argument's dtype, or, where it is a cast, of `dtype`.

    Raises ShapeError where the arguments do not go together.
    """
    if odd := [arg.dtype for arg in args if arg.dtype not in FLOATS]:
        raise ShapeError(f"{operation} computes with floating-point numbers, not with {odd[0]}")
    if (operation == "cast") != (dtype is not None):
        raise ShapeError("a cast, and nothing else, says to which dtype")
    try:
        shape = ARITHMETIC[operation].shape(*(arg.shape for arg in args), *numbers)
    except ValueError as error:
        raise ShapeError(str(error)) from None
    return Arithmetic(shape, args[0].dtype, operation, args, numbers) if dtype is None else cast(args[0], dtype)


def leaves(expr: Expr) -> Iterator[Leaf]:
    """The tensors that an expression reads, in order, each as often as it does."""
    match expr:
        case Leaf():
            yield expr
        case Concat(args=args) | Arithmetic(args=args):
            for arg in args:
                yield from leaves(arg)
        case Reshape(arg=arg) | Permute(arg=arg) | Gather(arg=arg) | Slice(arg=arg):
            yield from leaves(arg)


def bytes_of(expr: Expr) -> Expr:
    """The expression without its last reshape: two tensors of equal bytes have equal ones."""
    return expr.arg if isinstance(expr, Reshape) else expr


def stream(expr: Expr) -> Leaf | None:
    """The one tensor whose bytes, in their order, are this expression's bytes, if there is one.

    Such a move needs no memory of its own, however large the tensor.
    """
    inner = bytes_of(expr)
    return inner if isinstance(inner, Leaf) else None


def in_place(expr: Expr) -> Leaf | None:
    """The one tensor that this expression is, but for constants between parts of it, each part in its own place.

    Whether it has these constants there, only its bytes can tell.
    """
    inner = bytes_of(expr)
    if not isinstance(inner, Concat):
        return stream(expr)
    found: set[Leaf] = set()
    begin = 0
    for part in inner.args:
        match part:
            case Fill():
                pass
            case Slice(arg=Leaf() as leaf, axis=inner.axis, start=start) if start == begin:
                found.add(leaf)
            case _:
                return None
        begin += part.shape[inner.axis]
    return found.pop() if {source.shape for source in found} == {inner.shape} and len(found) == 1 else None


def no_leaf(name: str) -> Array:
    """The leaves of an expression that has none."""
    raise KeyError(name)


def evaluate(expr: Expr, load: Callable[[str], Array] = no_leaf) -> Array:
    """The expression's value, elements opaque; `load` gives a leaf's array by name."""
    import numpy as np

    match expr:
        case Leaf(name=name):
            return load(name)
        case Fill():
            return _filled(expr)
        case Reshape(arg=arg, shape=shape):
            return evaluate(arg, load).reshape(shape)
        case Computed(formula=formula, arguments=arguments):
            return FORMULAS[formula](*arguments)
        case Arithmetic(operation=operation, args=args, numbers=numbers, dtype=dtype):
            return compute(operation, [(evaluate(arg, load), arg.dtype) for arg in args], numbers, dtype)
        case Permute(arg=arg, axes=axes):
            return evaluate(arg, load).transpose(axes)
        case Gather(arg=arg, axis=axis, order=order):
            return evaluate(arg, load).take(order, axis)
        case Slice(arg=arg, axis=axis, start=start, stop=stop):
            return evaluate(arg, load)[(slice(None),) * axis + (slice(start, stop),)]
        case Concat(args=args, axis=axis):
            return np.concatenate([evaluate(arg, load) for arg in args], axis)
    raise TypeError(f"no value for {expr!r}")


def _filled(expr: Fill) -> Array:
    import numpy as np

    if expr.dtype == "I64":
        return np.full(expr.shape, expr.value, "<i8").view("<u8")
    one = encoded(np.array([expr.value], "<f8"), expr.dtype)
    return np.full(expr.shape, one[0], one.dtype)


def _as_held(value: float, dtype: str) -> float:
    """A number as a dtype holds it."""
    import numpy as np

    return float(decoded(encoded(np.array([value], "<f8"), dtype), dtype)[0])


def _axis(arg: Expr, axis: int) -> int:
    if not 0 <= axis < len(arg.shape):
        raise ShapeError(f"{shape_text(arg.shape)} has no axis {axis}")
    return arg.shape[axis]


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1:]
