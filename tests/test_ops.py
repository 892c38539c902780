"""Ops move elements and nothing else: what they do is what numpy does, and their inverse gives back the same bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zooconv.mapping import expr, ops
from zooconv.mapping.expr import Concat, Leaf, ShapeError, evaluate, in_place, stream

DTYPES = {"BF16": "<u2", "F16": "<u2", "F8_E4M3": "<u1", "F32": "<u4", "I64": "<u8", "BOOL": "<u1"}


def leaf(shape, dtype="F32", name="x"):
    return Leaf(tuple(shape), dtype, name)


def counted(shape, dtype="F32", start=0):
    """Elements that differ from one another, as opaque integers."""
    return (np.arange(math.prod(shape)) + start).astype(DTYPES[dtype]).reshape(shape)


def permutations(n):
    return st.permutations(range(n)).map(tuple)


@st.composite
def one_to_one(draw):
    """An op on one tensor, and a shape that it takes."""
    kind = draw(st.sampled_from(["permute", "reshape", "linear", "flatten", "group", "unfold", "chain", "identity",
                                 "grid"]))
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    match kind:
        case "permute":
            return ops.permute(*draw(permutations(len(sizes)))), sizes
        case "reshape":
            return ops.reshape("a b -> 1 a 1 b"), sizes[:2]
        case "linear":
            return ops.linear, [*sizes[:2], 1, 1]
        case "flatten":
            return ops.flatten, [sizes[0], 1, 1]
        case "group" | "unfold":
            order = draw(permutations(draw(st.integers(2, 4))))
            make = ops.group_order if kind == "group" else ops.unfold_order
            return make(1, order), [sizes[0], sizes[1] * len(order)]
        case "grid":
            return ops.grid, [1, sizes[0] ** 2, sizes[1]]
        case "chain":
            return ops.chain(ops.transpose, ops.group_order(0, (1, 0))), [sizes[0], 2 * sizes[1]]
    return ops.identity, sizes


def test_a_grid_is_what_swin_makes_of_its_positions():
    array = counted((1, 9, 2))
    (made,) = ops.grid.forward((leaf((1, 9, 2)),), 1)
    assert np.array_equal(evaluate(made, {"x": array}.__getitem__), array.reshape(1, 3, 3, 2).transpose(0, 3, 1, 2))
    for shape, turn in (((1, 8, 2), ops.grid.forward), ((9, 2), ops.grid.forward), ((1, 2, 3, 4), ops.grid.backward),
                        ((1, 9, 2), ops.grid.backward)):
        with pytest.raises(ShapeError):
            turn((leaf(shape),), 1)


def test_constants_stand_beside_the_tensor_and_the_way_back_needs_it_alone():
    op = ops.constants(0, 1 - 1e-5)
    x, zeros, ones = op.forward((leaf((3,)),), 3)
    assert x == leaf((3,))
    assert evaluate(zeros).view("<f4").tolist() == [0, 0, 0]
    assert evaluate(ones).view("<f4").tolist() == [np.float32(0.99999)] * 3
    assert op.backward((x, leaf((3,), name="m"), leaf((3,), name="v")), 1) == (x,)
    assert str(op) == "constants(0.0, 0.99999)"
    with pytest.raises(ShapeError, match="makes 3 tensors, and the rule wants 2"):
        op.forward((leaf((3,)),), 2)


@given(one_to_one(), st.sampled_from(sorted(DTYPES)))
def test_an_op_undone_is_the_tensor_itself_byte_for_byte(case, dtype):
    op, shape = case
    array = counted(shape, dtype)
    (there,) = op.forward((leaf(shape, dtype),), 1)
    (back,) = op.backward((leaf(there.shape, dtype),), 1)
    moved = evaluate(there, {"x": array}.__getitem__)
    undone = evaluate(back, {"x": moved}.__getitem__)
    assert moved.shape == there.shape
    assert undone.tobytes() == array.tobytes()


@given(one_to_one())
def test_an_op_undone_is_known_for_the_tensor_itself_without_reading_it(case):
    op, shape = case
    (there,) = op.forward((leaf(shape),), 1)
    (back,) = op.backward((there,), 1)
    assert stream(back) == leaf(shape)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(0, 1), st.integers(1, 3))
def test_cut_undoes_cat_whatever_the_sizes(sizes, axis, other):
    shapes = [(n, other) if axis == 0 else (other, n) for n in sizes]
    parts = tuple(leaf(shape, name=str(i)) for i, shape in enumerate(shapes))
    op = ops.cat(axis, tuple(sizes))
    (whole,) = op.forward(parts, 1)
    assert op.backward((whole,), len(parts)) == parts
    assert ops.cut(axis, tuple(sizes)).forward((whole,), len(parts)) == parts


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 1))
def test_cat_undoes_cut(parts, size, axis):
    shape = (parts * size, 2) if axis == 0 else (2, parts * size)
    pieces = ops.cat(axis).backward((leaf(shape),), parts)
    assert ops.cat(axis).forward(pieces, 1) == (leaf(shape),)
    array = counted(shape)
    for piece, expected in zip(pieces, np.split(array, parts, axis), strict=True):
        assert evaluate(piece, {"x": array}.__getitem__).tolist() == expected.tolist()


@given(permutations(4), st.integers(1, 3), st.integers(1, 3))
def test_unfold_order_is_openmmlabs_correction(order, out, channels):
    """`correct_unfold_reduction_order` of mmdetection, written with numpy."""
    array = counted((out, 4 * channels))
    expected = array.reshape(out, channels, 4).transpose(0, 2, 1)[:, list(order)].reshape(out, 4 * channels)
    (moved,) = ops.unfold_order(1, order).forward((leaf(array.shape),), 1)
    assert evaluate(moved, {"x": array}.__getitem__).tolist() == expected.tolist()


@given(permutations(3), st.integers(1, 3))
def test_group_order_reorders_runs(order, each):
    array = counted((3 * each,))
    (moved,) = ops.group_order(0, order).forward((leaf(array.shape),), 1)
    assert evaluate(moved, {"x": array}.__getitem__).tolist() == array.reshape(3, each)[list(order)].ravel().tolist()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).flatmap(
    lambda sizes: st.tuples(st.just(sizes), permutations(len(sizes)))))
def test_permute_is_numpys_transpose(case):
    sizes, axes = case
    array = counted(sizes)
    (moved,) = ops.permute(*axes).forward((leaf(sizes),), 1)
    assert evaluate(moved, {"x": array}.__getitem__).tolist() == array.transpose(axes).tolist()


def test_a_move_that_keeps_the_order_of_bytes_is_a_stream_and_any_other_is_none():
    (flat,) = ops.flatten.forward((leaf((5, 1, 1)),), 1)
    (turned,) = ops.transpose.forward((leaf((2, 3)),), 1)
    assert stream(flat) == leaf((5, 1, 1))
    assert stream(turned) is None


def test_split_of_merge_is_each_part_without_joining_them():
    parts = tuple(leaf((2, 3), name=name) for name in "qkv")
    (joined,) = ops.cat(0).forward(parts, 1)
    assert isinstance(joined, Concat)
    assert ops.cut(0).forward((joined,), 3) == parts


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_what_lies_around_zeros_is_the_source_but_for_them(dtype):
    outer = ops.around_zeros(0).forward((leaf((6,), dtype),), 2)
    (back,) = ops.around_zeros(0).backward(outer, 1)
    assert [str(part) for part in outer] == ["slice(x, axis 0, 0:2)", "slice(x, axis 0, 4:6)"]
    assert in_place(back) == leaf((6,), dtype)
    array = np.arange(1, 7).astype({"BF16": "<u2", "F16": "<u2", "F32": "<u4", "F64": "<u8"}[dtype])
    assert evaluate(back, {"x": array}.__getitem__).tolist() == [1, 2, 0, 0, 5, 6]
    assert ops.around_zeros(0).forward((back,), 2) == outer


def test_a_part_that_is_not_in_its_own_place_is_not_the_source():
    first, last = ops.around_zeros(0).forward((leaf((6,)),), 2)
    (other,) = ops.cut(0).forward((leaf((6,), name="y"),), 3)[2:]
    for parts in [(last, first), (first, other), (first, first)]:
        (back,) = ops.around_zeros(0).backward(parts, 1)
        assert in_place(back) is None


@pytest.mark.parametrize(("op", "shapes", "count"), [
    (ops.around_zeros(0), [(5,)], 2),
    (ops.around_zeros(0), [(6,)], 3),
    (ops.flatten, [(3, 2, 1)], 1),
    (ops.linear, [(3, 2, 3, 3)], 1),
    (ops.transpose, [(3,)], 1),
    (ops.cat(0), [(2, 3), (2, 4)], 1),
    (ops.cut(0), [(5, 3)], 2),
    (ops.unfold_order(1), [(2, 6)], 1),
    (ops.group_order(2, (0, 1)), [(2, 6)], 1),
    (ops.identity, [(2,), (2,)], 1),
])
def test_a_shape_that_an_op_has_no_rule_for_is_refused(op, shapes, count):
    with pytest.raises(ShapeError):
        op.forward(tuple(leaf(shape, name=str(i)) for i, shape in enumerate(shapes)), count)


def test_tensors_of_different_dtypes_are_not_joined():
    with pytest.raises(ShapeError, match="F16"):
        expr.concat((leaf((2,), "F32"), leaf((2,), "F16")), 0)


@pytest.mark.parametrize("make", [
    lambda: ops.reshape("a b - a b"), lambda: ops.reshape("a b -> b a"), lambda: ops.permute(0, 2),
    lambda: ops.group_order(0, (0, 2)),
])
def test_an_op_that_is_none_is_refused_when_it_is_made(make):
    with pytest.raises(ValueError):
        make()
