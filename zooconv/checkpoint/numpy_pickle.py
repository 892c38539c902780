"""Reader of pickles (`.pkl`) of numpy arrays, as Detectron, Detectron2 and Caffe2 publish weights: nothing is run.

    {"model": {"stem.conv1.weight": array, …}, "__author__": …}      Detectron2
    {"blobs": {"conv1_w": array, …}, "cfg": …}, or the blobs alone   Detectron, Caffe2

An array is a call in a pickle, and its elements are a string of bytes beside it: such a string is not read, but pointed
at. Where the pickle spells it otherwise (protocol 2 of Python 3 as text, short strings), the bytes are held in memory.
A torch tensor that was pickled as such (Mask2Former's tools do so) is read likewise: its storage is a string of bytes.
What is no plain array of numbers (objects, big-endian numbers, records) is told apart, and refused if it is asked for.

Format: numpy/_core/src/multiarray/methods.c (array_reduce, array_setstate), numpy/_core/numeric.py (_frombuffer).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.container import MAX_WRAPPERS
from zooconv.checkpoint.pickle_vm import Global, Instance, Mapped, Window, whole
from zooconv.checkpoint.torch_legacy import read_legacy_at
from zooconv.checkpoint.torch_zip import MAX_RANK, Rebuilder, Unsupported, describe
from zooconv.errors import UnsafeFile
from zooconv.files import HeldFile, InputFile, Record
from zooconv.tensor import LazyTensor, contiguous_strides, is_dense, nbytes, shape_text

# numpy before version 2 says numpy.core
_RECONSTRUCT = re.compile(r"numpy\._?core\.multiarray\._reconstruct")
_FROM_BUFFER = re.compile(r"numpy\._?core\.numeric\._frombuffer")
_DTYPES = {"b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32", "u8": "U64",
           "i8": "I64", "f2": "F16", "f4": "F32", "f8": "F64"}


class Span(NamedTuple):
    """Where a string of bytes lies in the file."""

    offset: int
    size: int


class Text:
    """A string of bytes that a pickle spells as text: a character a byte."""

    def __init__(self, text: str) -> None:
        self.text = text


def read_numpy_pickle(file: InputFile) -> Any:
    """The object that the file holds: plain data, with LazyTensor where numpy would have an array.

    Raises UnsafeFile where the pickle is malformed, asks to run something, or an array contradicts itself.
    """
    arrays = _Arrays(file)
    tree = pickle_vm.load(Window(file), call=arrays.call, place=Span)
    try:
        return arrays.in_tree(tree, MAX_WRAPPERS + 1)
    except RecursionError:  # of a message about something that nests deeply
        raise UnsafeFile("an array of the pickle is described by something that nests without end") from None


class _Arrays:
    """Interprets the calls by which numpy pickles arrays; all others stay inert."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.held = HeldFile(file.path)
        self.torch = Rebuilder(file, {})
        self.strings: dict[int, tuple[Any, int, int]] = {}  # those that are held, by identity, with offset and size
        self.made: dict[int, Any] = {}  # what became of an array or a mapping, by its identity

    def call(self, call: Global, args: tuple[Any, ...]) -> Any:
        """The calls that an array needs, read as data."""
        if call.name == "_codecs.encode" and len(args) == 2 and args[1] == "latin1":
            return Text(args[0])
        if call.name in ("__builtin__.bytes", "builtins.bytes") and not args:
            return b""
        if _FROM_BUFFER.fullmatch(call.name):
            return self.tensor(*args)
        if call.name == "torch.storage._load_from_bytes" and len(args) == 1:
            return self.storage(args[0])
        return self.torch.call(call, args)

    def storage(self, data: Any) -> Any:
        """The storage of a torch tensor that was pickled without torch.save: a file of torch's within the file."""
        file, offset, size = self.place(data)
        made, _ = read_legacy_at(file, offset, offset + size)
        return made

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

    def place(self, data: Any) -> tuple[InputFile, int, int]:
        """Where the bytes of an array can be read: in the file, or among those that are held."""
        if isinstance(data, Span):
            return self.file, data.offset, data.size
        if id(data) not in self.strings:
            plain = _bytes(data)
            self.strings[id(data)] = data, self.held.put(plain), len(plain)
        _, offset, size = self.strings[id(data)]
        return self.held, offset, size


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


def _bytes(data: Any) -> bytes:
    """A string of bytes that does not lie in the file as such: short, of Python 2, or of Python 3 in protocol 2."""
    text = data.text if isinstance(data, Text) else data
    if isinstance(text, bytes):
        return text
    try:
        return str.encode(text, "latin-1")
    except (TypeError, UnicodeEncodeError):
        raise UnsafeFile(f"the elements of an array are {describe(text)}, not bytes") from None
