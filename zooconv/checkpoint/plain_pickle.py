"""Reader of plain pickles (`.pkl`), as Detectron, Detectron2 and Caffe2 publish weights: nothing is run.

    {"model": {"stem.conv1.weight": array or tensor, …}, "__author__": …}      Detectron2
    {"blobs": {"conv1_w": array, …}, "cfg": …}, or the blobs alone              Detectron, Caffe2

An array of numpy, or a tensor of torch, is a call in a pickle, and its elements are a string of bytes beside it: such a
string is not read, but pointed at. Where the pickle spells it otherwise (protocol 2 of Python 3 as text, short
strings), the bytes are held in memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.container import MAX_WRAPPERS
from zooconv.checkpoint.numpy_array import Arrays
from zooconv.checkpoint.pickle_vm import Global, Window
from zooconv.checkpoint.torch_legacy import read_legacy_at
from zooconv.checkpoint.torch_tensor import describe, rebuilt
from zooconv.errors import UnsafeFile
from zooconv.files import HeldFile, InputFile


class Span(NamedTuple):
    """Where a string of bytes lies in the file."""

    offset: int
    size: int


class Text:
    """A string of bytes that a pickle spells as text: a character a byte."""

    def __init__(self, text: str) -> None:
        self.text = text


def read_plain_pickle(file: InputFile) -> Any:
    """The object that the file holds: plain data, with LazyTensor for what would be an array or a tensor.

    Raises UnsafeFile where the pickle is malformed, asks to run something, or an array contradicts itself.
    """
    calls = _Calls(file)
    tree = pickle_vm.load(Window(file), call=calls.call, place=Span)
    try:
        return calls.arrays.in_tree(tree, MAX_WRAPPERS + 1)
    except RecursionError:  # of a message about something that nests deeply
        raise UnsafeFile("an array of the pickle is described by something that nests without end") from None


class _Calls:
    """Interprets the calls by which strings of bytes, arrays and tensors are pickled; all others stay inert."""

    def __init__(self, file: InputFile) -> None:
        self.file, self.held = file, HeldFile(file.path)
        self.strings: dict[int, tuple[Any, int, int]] = {}  # those that are held, by identity, with offset and size
        self.storages: dict[tuple[int, int], Any] = {}  # by descriptor and offset
        self.arrays = Arrays(self.place)

    def call(self, call: Global, args: tuple[Any, ...]) -> Any:
        if call.name == "_codecs.encode" and len(args) == 2 and args[1] == "latin1":
            return Text(args[0])
        if call.name in ("__builtin__.bytes", "builtins.bytes") and not args:
            return b""
        if call.name == "torch.storage._load_from_bytes":
            return self.storage(*args)
        return rebuilt(call, args) if call.name.startswith("torch.") else self.arrays.call(call, args)

    def storage(self, data: Any) -> Any:
        """A storage as torch pickles one outside torch.save, a file of torch's within the file; looked at once."""
        file, offset, size = self.place(data)
        if (file.fd, offset) not in self.storages:
            self.storages[file.fd, offset], _ = read_legacy_at(file, offset, offset + size)
        return self.storages[file.fd, offset]

    def place(self, data: Any) -> tuple[InputFile, int, int]:
        """Where a string of bytes can be read: in the file, or among those that are held."""
        if isinstance(data, Span):
            return self.file, data.offset, data.size
        if id(data) not in self.strings:
            plain = _bytes(data)
            self.strings[id(data)] = data, self.held.put(plain), len(plain)
        _, offset, size = self.strings[id(data)]
        return self.held, offset, size


def _bytes(data: Any) -> bytes:
    """A string of bytes that does not lie in the file as such: short, of Python 2, or of Python 3 in protocol 2."""
    text = data.text if isinstance(data, Text) else data
    if isinstance(text, bytes):
        return text
    try:
        return str.encode(text, "latin-1")
    except (TypeError, UnicodeEncodeError):
        raise UnsafeFile(f"the elements of an array are {describe(text)}, not bytes") from None
