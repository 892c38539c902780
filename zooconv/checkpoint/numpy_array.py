"""How numpy pickles arrays: as calls with a string of bytes, read here as data.

What is no plain array of numbers (objects, big-endian numbers, records) is told apart, and refused if it is asked for.

Format: numpy/_core/src/multiarray/methods.c (array_reduce, array_setstate), numpy/_core/numeric.py (_frombuffer).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.pickle_vm import Global, Instance, Mapped, whole
from zooconv.checkpoint.torch_tensor import MAX_RANK, Unsupported
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record
from zooconv.tensor import LazyTensor, contiguous_strides, is_dense, nbytes, shape_text

# numpy before version 2 says numpy.core
_RECONSTRUCT = re.compile(r"numpy\._?core\.multiarray\._reconstruct")
_FROM_BUFFER = re.compile(r"numpy\._?core\.numeric\._frombuffer")
_DTYPES = {"b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32", "u8": "U64",
           "i8": "I64", "f2": "F16", "f4": "F32", "f8": "F64"}


class Arrays:
    """Interprets the calls by which numpy pickles arrays; all others stay inert.

    `place` says where an array's string of bytes can be read: the file, the offset and the size.
    """

    def __init__(self, place: Callable[[Any], tuple[InputFile, int, int]]) -> None:
        self.place = place
        self.made: dict[int, Any] = {}  # what became of an array or a mapping, by its identity

    def call(self, call: Global, args: tuple[Any, ...]) -> Any:
        """What a call makes: an array that is made whole at once, since protocol 5; an inert record of any other."""
        return self.tensor(*args) if _FROM_BUFFER.fullmatch(call.name) else pickle_vm.inert(call, args)

    def in_tree(self, tree: Any, depth: int) -> Any:
        """A tree of mappings with its arrays as tensors; each array, and each mapping, is looked at once.

        An array is complete only when the whole pickle is read, because it may be named before it has its state.
        """
        is_array = isinstance(tree, Instance) and _RECONSTRUCT.fullmatch(tree.call.name)
        if not is_array and (not isinstance(tree, dict) or depth == 0):
            return tree
        if id(tree) not in self.made:
            self.made[id(tree)] = tree  # for one that holds itself
            if is_array:
                self.made[id(tree)] = self.reconstructed(tree)
            else:
                made: dict[Any, Any] = Mapped(tree.kind) if isinstance(tree, Mapped) else {}
                made.update((key, self.in_tree(value, depth - 1)) for key, value in tree.items())
                self.made[id(tree)] = made
        return self.made[id(tree)]

    def reconstructed(self, array: Instance) -> LazyTensor | Unsupported:
        """An array as numpy pickles it: made empty, then given the state (1, shape, dtype, is it Fortran's, data)."""
        if not array.args or array.args[0] != Global("numpy.ndarray"):
            return Unsupported("a subclass of numpy's array")
        if not isinstance(array.state, tuple) or len(array.state) != 5 or array.state[0] != 1:
            raise UnsafeFile("an array of the pickle has no state that numpy would give it")
        _, shape, dtype, fortran, data = array.state
        return self.tensor(data, dtype, shape, "F" if fortran else "C")

    def tensor(self, data: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None) -> LazyTensor | Unsupported:
        """An array of these bytes: numpy's own arguments since protocol 5 (`axes` for the order K)."""
        known = _known(dtype)
        if isinstance(known, Unsupported):
            return known
        if not isinstance(shape, tuple) or len(shape) > MAX_RANK:
            raise UnsafeFile(f"an array of the pickle has {shape!r:.60} for a shape")
        for number in shape:
            whole(number)
        stored, axes = _layout(shape, order, axes)
        file, offset, size = self.place(data)
        if size != nbytes(known, shape):
            raise UnsafeFile(f"an array of the pickle has {size:,} bytes, where {known} {shape_text(shape)} has "
                             f"{nbytes(known, shape):,}")
        steps = contiguous_strides(stored)
        turned, strides = tuple(stored[a] for a in axes), tuple(steps[a] for a in axes)
        return LazyTensor(known, turned, file, offset, Record("an array", offset, size),
                          None if is_dense(turned, strides) else strides)


def _layout(shape: tuple[int, ...], order: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape in which an array's bytes are in C order, and which of its axes the array's are."""
    straight = tuple(range(len(shape)))
    if order == "C":
        return shape, straight
    if order == "F":
        return shape[::-1], straight[::-1]
    if order == "K" and isinstance(axes, tuple) and tuple(sorted(map(str, axes))) == tuple(sorted(map(str, straight))):
        return shape, axes
    raise UnsafeFile(f"an array of the pickle has the order {order!r:.20} {axes!r:.60}")


def _known(dtype: Any) -> str | Unsupported:
    """numpy's dtype as zooconv spells it: dtype("f4", False, True) with the state (3, "<", None, None, None, …)."""
    if not isinstance(dtype, Instance) or dtype.call.name != "numpy.dtype" or not dtype.args:
        raise UnsafeFile("an array of the pickle has no dtype")
    code, state = dtype.args[0], dtype.state
    if isinstance(code, str) and code.startswith("O"):
        return Unsupported("an array of Python objects")
    plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
    known = _DTYPES.get(str(code)) if plain and state[1] in ("<", "|") else None
    return known or Unsupported(f"a numpy array of dtype {state[1] if plain else ''}{code!s:.20}")
