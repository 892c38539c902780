"""Expressions as plain JSON data, for a certificate that anybody can check without the rules that led to it.

    "stem.0.weight"                                     a tensor, by name
    {"fill": 1.0, "shape": [96]}                        a float32 tensor with one value everywhere
    {"fill": 0.0, "shape": [], "dtype": "I64"}          the same, of whole numbers
    {"formula": "relative_position_index", "arguments": [7, 7], "dtype": "I64", "shape": [49, 49]}
                                                        a tensor that follows from whole numbers
    {"reshape": [80, 320], "of": …}                     the same elements in the same order, in another shape
    {"permute": [1, 0], "of": …}                        axes in another order
    {"reorder": [0, 2, 1, 3], "axis": 0, "of": …}       positions of one axis in another order
    {"slice": [0, 96], "axis": 0, "of": …}              positions of one axis, from, to
    {"cat": […, …], "axis": 0}                          tensors one after the other along one axis
    {"arithmetic": "scale", "of": […, …]}               new values (see zooconv.mapping.arithmetic)
    {"arithmetic": "bicubic", "of": […], "numbers": [2, 3, 16, 16]}
                                                        the same, of an operation that takes whole numbers besides
    {"arithmetic": "cast", "of": […], "dtype": "F16"}   the same numbers in another dtype, rounded where they must be
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zooconv.mapping import expr
from zooconv.mapping.expr import (
    Arithmetic,
    Computed,
    Concat,
    Expr,
    Fill,
    Gather,
    Leaf,
    Permute,
    Reshape,
    ShapeError,
    Slice,
)
from zooconv.mapping.formulas import FORMULAS
from zooconv.tensor import DTYPES


def to_data(value: Expr) -> Any:
    """An expression as JSON data."""
    match value:
        case Leaf(name=name):
            return name
        case Fill(shape=shape, dtype=dtype, value=number):
            return {"fill": number, "shape": list(shape)} | ({"dtype": dtype} if dtype != "F32" else {})
        case Computed(formula=formula, arguments=arguments):
            return {"formula": formula, "arguments": list(arguments), "dtype": value.dtype, "shape": list(value.shape)}
        case Reshape(shape=shape, arg=arg):
            return {"reshape": list(shape), "of": to_data(arg)}
        case Permute(axes=axes, arg=arg):
            return {"permute": list(axes), "of": to_data(arg)}
        case Gather(order=order, axis=axis, arg=arg):
            return {"reorder": list(order), "axis": axis, "of": to_data(arg)}
        case Slice(start=start, stop=stop, axis=axis, arg=arg):
            return {"slice": [start, stop], "axis": axis, "of": to_data(arg)}
        case Concat(args=args, axis=axis):
            return {"cat": [to_data(arg) for arg in args], "axis": axis}
        case Arithmetic(operation=operation, args=args, numbers=numbers, dtype=dtype):
            more = {"numbers": list(numbers)} if numbers else {"dtype": dtype} if operation == "cast" else {}
            return {"arithmetic": operation, "of": [to_data(arg) for arg in args], **more}
    raise TypeError(f"no notation for {value!r}")


def from_data(data: Any, leaves: Mapping[str, Leaf]) -> Expr:
    """The expression that JSON data say, over tensors of these shapes.

    Raises ShapeError (a ValueError) for data that say none: an unknown tensor, an unknown word, shapes that do not fit.
    """
    try:
        return _read(data, leaves)
    except (KeyError, TypeError, IndexError, OverflowError) as error:
        raise ShapeError(f"no expression: {data!r:.80} ({error})") from None


def _read(data: Any, leaves: Mapping[str, Leaf]) -> Expr:
    match data:
        case str():
            return leaves[data]
        case {"fill": float() | int() as number, "shape": list(shape)} if all(type(n) is int for n in shape):
            return expr.fill(tuple(shape), number, data.get("dtype", "F32"))
        case {"formula": formula, "arguments": list(numbers), "dtype": dtype, "shape": list(shape)} if (
                formula in FORMULAS and dtype in DTYPES and all(type(n) is int for n in (*numbers, *shape))):
            return Computed(tuple(shape), dtype, formula, tuple(numbers))
        case {"reshape": list(shape), "of": inner}:
            return expr.reshape(_read(inner, leaves), tuple(shape))
        case {"permute": list(axes), "of": inner}:
            return expr.permute(_read(inner, leaves), tuple(axes))
        case {"reorder": list(order), "axis": int() as axis, "of": inner}:
            return expr.gather(_read(inner, leaves), axis, tuple(order))
        case {"slice": [int() as start, int() as stop], "axis": int() as axis, "of": inner}:
            return expr.slice_(_read(inner, leaves), axis, start, stop)
        case {"cat": [_, *_] as parts, "axis": int() as axis}:
            return expr.concat(tuple(_read(part, leaves) for part in parts), axis)
        case {"arithmetic": str() as operation, "of": [_, *_] as parts} if all(
                type(n) is int for n in data.get("numbers", [])):
            return expr.arithmetic(operation, tuple(_read(part, leaves) for part in parts),
                                   tuple(data.get("numbers", [])), data.get("dtype"))
    raise ShapeError(f"no expression: {data!r:.80}")
