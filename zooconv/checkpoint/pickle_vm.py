"""A pickle machine that runs nothing.

It reads the opcodes that torch.save and its kin write and builds plain Python data. A global is never imported and a
call is never made: both become inert records (`Global`, `Instance`) that a caller may interpret, as `torch_tensor`
does with torch's own rebuild functions. Anything else beside the weights (an argparse.Namespace, a CfgNode, numpy
scalars) passes through as such a record. A pickle that names a function by which code gets run is refused all the
same: its author meant harm, and the user should know.

Opcodes: Lib/pickletools.py of CPython. Protocols 2 to 5; what no checkpoint needs is not allowed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zooconv.errors import UnsafeFile

if TYPE_CHECKING:
    from zooconv.files import InputFile

MAX_OPS = 10_000_000
MAX_DEPTH = 1_000
MAX_PIECE = 1 << 30  # bytes of one text or string
MAX_LINE = 4096
_BLOCK = 1 << 16

# Modules and builtins by which a pickle gets code run or files touched. Nothing here would be executed anyway; the
# list only decides whether a strange file is a curiosity or an attack.
_HARMFUL_MODULES = frozenset(
    "os posix nt subprocess sys shutil socket runpy pty ctypes importlib imp code codeop commands pickle _pickle "
    "cPickle marshal webbrowser asyncio multiprocessing threading _thread signal platform tempfile pip urllib urllib2 "
    "requests http httplib ftplib smtplib telnetlib xmlrpc pdb bdb profile cProfile timeit trace idlelib ensurepip "
    "venv zipimport pkgutil pydoc doctest linecache distutils setuptools IPython".split()
)
_HARMFUL_NAMES = frozenset(
    "io.open _io.open io.FileIO _io.FileIO codecs.open types.FunctionType types.CodeType types.LambdaType "
    "operator.attrgetter operator.methodcaller _operator.attrgetter _operator.methodcaller torch.load torch.hub.load "
    "torch.jit.load torch.serialization.load numpy.load joblib.load numpy.testing._private.utils.runstring".split()
)
_HARMFUL_BUILTINS = frozenset(
    "eval exec execfile compile open file input raw_input __import__ reload breakpoint getattr setattr delattr globals "
    "locals vars apply exit quit".split()
)


class Global(NamedTuple):
    """A module-level name that a pickle refers to: never imported."""

    name: str


class Instance:
    """A call that a pickle asks for: never made. `call` is what would be called."""

    __slots__ = ("args", "call", "items", "state")

    def __init__(self, call: Global, args: tuple[Any, ...]) -> None:
        self.call, self.args = call, args
        self.state: Any = None
        self.items: list[Any] = []

    def __repr__(self) -> str:
        return f"<{self.call.name}>"


def is_harmful(name: str) -> bool:
    """Does a pickle get code run, or files touched, by calling this?"""
    first, *rest = name.split(".")
    builtin = first in ("builtins", "__builtin__") and rest[:1] and rest[0] in _HARMFUL_BUILTINS
    return first in _HARMFUL_MODULES or name in _HARMFUL_NAMES or bool(builtin)


class Mapped(dict[Any, Any]):
    """A mapping of another type than dict; `kind` is that type's name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind


def _set(made: dict[Any, Any], key: Any, value: Any) -> None:
    # Only plain keys are hashed: a nested tuple of a few bytes can take for ever to hash.
    plain = key if isinstance(key, (str, int, float, bytes, Global, type(None))) else Instance(Global("key"), (key,))
    if plain in made:
        raise UnsafeFile(f"the key {key!r:.80} is set twice", why=["which of the two is meant cannot be known"])
    made[plain] = value


class Data(Protocol):
    """What a pickle is read from: bytes, or a file that gives them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class Window:
    """A file, up to byte `end`, as the machine reads it: a block at a time."""

    def __init__(self, file: InputFile, end: int | None = None) -> None:
        self.file, self.start, self.block = file, 0, b""
        self.end = file.size if end is None else end

    def __len__(self) -> int:
        return self.end

    def __getitem__(self, part: slice) -> bytes:
        begin, end = part.start, min(part.stop, self.end)
        if begin < self.start or end > self.start + len(self.block):
            size = max(min(max(end - begin, _BLOCK), self.end - begin), 0)
            self.start, self.block = begin, self.file.read(begin, size)
        return self.block[begin - self.start:end - self.start]


Call = Callable[[Global, tuple[Any, ...]], Any]
Persistent = Callable[[Any], Any]
Place = Callable[[int, int], Any]


def inert(call: Global, args: tuple[Any, ...]) -> Any:
    """What a call becomes when nobody interprets it: a mapping for dict types, a record for anything else."""
    if call.name in ("collections.OrderedDict", "collections.defaultdict", "collections.Counter"):
        made = Mapped(call.name)
        for key, value in args[0] if args and isinstance(args[0], list) else ():
            _set(made, key, value)
        return made
    if call.name in ("builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"):
        return list(args[0]) if args else []
    return Instance(call, args)


def whole(number: Any) -> None:
    """Raise UnsafeFile for anything but a whole number that can be a size or an offset."""
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise UnsafeFile(f"the pickle has {number!r:.40} where a size or an offset must be")


def load(data: Data, *, call: Call = inert, persistent: Persistent | None = None, place: Place | None = None) -> Any:
    """The value that a pickle describes.

    `call` interprets the calls that it asks for, `persistent` its persistent ids. With `place`, long strings of bytes
    are not read: the value has what `place` makes of their offset and size. Raises UnsafeFile where the pickle is
    malformed, exceeds the machine's bounds, or names a harmful global.
    """
    return load_from(data, 0, call=call, persistent=persistent, place=place)[0]


def load_from(data: Data, at: int, *, call: Call = inert, persistent: Persistent | None = None,
              place: Place | None = None) -> tuple[Any, int]:
    """The value that the pickle at byte `at` describes, and the byte after it; otherwise as `load`."""
    machine = _Machine(data, at, call, persistent, place)
    try:
        return machine.run(), machine.at
    except (IndexError, KeyError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise UnsafeFile(f"the pickle is malformed near byte {machine.at}",
                         why=[f"{type(error).__name__}: {error}"]) from None


class _Machine:
    def __init__(self, data: Data, at: int, call: Call, persistent: Persistent | None, place: Place | None) -> None:
        self.data, self.at = data, at
        self.call, self.persistent, self.place = call, persistent, place
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPS):
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.stack.pop()
            op = _OPS.get(code)
            if op is None:
                raise UnsafeFile(f"the pickle uses opcode 0x{code:02x}, which no checkpoint needs",
                                 why=[f"at byte {self.at - 1}"])
            op(self)
        raise UnsafeFile(f"the pickle has more than {MAX_OPS:,} operations")

    # -- reading -----------------------------------------------------------------------------------------------------

    def take(self, size: int) -> bytes:
        if size > MAX_PIECE:
            raise UnsafeFile(f"the pickle has a text of {size:,} bytes; {MAX_PIECE:,} is the most")
        piece = self.data[self.at:self.at + size]
        if len(piece) != size:
            raise ValueError("the data end inside an operation")
        self.at += size
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self, size: int) -> Any:
        """A string of bytes, or what `place` makes of where it lies."""
        if self.place is None:
            return self.take(size)
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise ValueError("the data end inside a string of bytes")
        return self.place(start, size)

    def text(self, size: int) -> Any:
        """A string of Python 2: bytes that may be meant as text."""
        return self.take(size).decode("latin-1") if self.place is None else self.string(size)

    def line(self) -> str:
        piece = self.data[self.at:self.at + MAX_LINE]
        text = piece[:piece.index(b"\n")].decode("utf-8")
        self.at += len(text.encode()) + 1
        return text

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    # -- building ----------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        if len(self.marks) >= MAX_DEPTH:
            raise UnsafeFile(f"the pickle nests deeper than {MAX_DEPTH}")
        self.marks.append(self.stack)
        self.stack = []

    def tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("the stack is too short")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def global_(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if is_harmful(full):
            raise UnsafeFile(f"the file asks to call {full}",
                             why=["a checkpoint has no need of it: this looks like an attack; nothing was executed"],
                             next="delete the file, and get the weights elsewhere (prefer .safetensors)")
        self.stack.append(Global(full))

    def reduce(self) -> None:
        args, callee = self.stack.pop(), self.stack.pop()
        if not isinstance(callee, Global) or not isinstance(args, tuple):
            raise TypeError(f"a call of {type(callee).__name__} with {type(args).__name__}")
        self.stack.append(self.call(callee, args))

    def reduce_with_keywords(self) -> None:
        self.stack.pop()
        self.reduce()

    def build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Instance):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], (dict, list)):  # attributes of an OrderedDict (_metadata) are no weights
            raise TypeError(f"a state for {type(self.stack[-1]).__name__}")

    def put_item(self, holder: Any, key: Any, value: Any) -> None:
        if isinstance(holder, Instance):
            holder.items.append((key, value))
        elif not isinstance(holder, dict):
            raise TypeError(f"an item for {type(holder).__name__}")
        else:
            _set(holder, key, value)

    def put_items(self) -> None:
        items = self.since_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.put_item(self.stack[-1], key, value)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put_item(self.stack[-1], key, value)

    def dict_of_mark(self) -> None:
        items = self.since_mark()
        made: dict[Any, Any] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.put_item(made, key, value)
        self.stack.append(made)

    def extend(self, items: list[Any]) -> None:
        holder = self.stack[-1]
        if isinstance(holder, Instance):
            holder.items.extend(items)
        elif isinstance(holder, list):
            holder.extend(items)
        else:
            raise TypeError(f"elements for {type(holder).__name__}")

    def append(self) -> None:
        item = self.stack.pop()
        self.extend([item])

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise UnsafeFile("the pickle has a persistent id where no storage can be")
        self.stack.append(self.persistent(self.stack.pop()))


def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def op(m: _Machine) -> None:
        made = value(m)  # first: it may close a mark, and so change the stack
        m.stack.append(made)
    return op


def _put(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    def op(m: _Machine) -> None:
        m.memo[index(m)] = m.stack[-1]
    return op


def _stack_global(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("a global whose name is no text")
    m.global_(module, name)


def _protocol(m: _Machine) -> None:
    if (version := m.take(1)[0]) > 5:
        raise UnsafeFile(f"the pickle has protocol {version}; 5 is the newest that zooconv knows")


_OPS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _protocol,                                                                # PROTO
    0x95: lambda m: m.take(8),                                                      # FRAME
    ord("("): _Machine.mark,                                                        # MARK
    ord("0"): lambda m: m.stack.pop(),                                              # POP
    ord("2"): lambda m: m.stack.append(m.stack[-1]),                                # DUP
    # constants and numbers
    ord("N"): _push(lambda m: None),                                                # NONE
    0x88: _push(lambda m: True),                                                    # NEWTRUE
    0x89: _push(lambda m: False),                                                   # NEWFALSE
    ord("K"): _push(lambda m: m.take(1)[0]),                                        # BININT1
    ord("M"): _push(lambda m: m.number("<H")),                                      # BININT2
    ord("J"): _push(lambda m: m.number("<i")),                                      # BININT
    0x8A: _push(lambda m: int.from_bytes(m.take(m.take(1)[0]), "little", signed=True)),  # LONG1
    ord("G"): _push(lambda m: m.number(">d")),                                      # BINFLOAT
    # text and bytes
    0x8C: _push(lambda m: m.take(m.take(1)[0]).decode()),                           # SHORT_BINUNICODE
    ord("X"): _push(lambda m: m.take(m.number("<I")).decode()),                     # BINUNICODE
    ord("U"): _push(lambda m: m.take(m.take(1)[0]).decode("latin-1")),              # SHORT_BINSTRING
    ord("T"): _push(lambda m: m.text(m.number("<I"))),                              # BINSTRING
    ord("C"): _push(lambda m: m.take(m.take(1)[0])),                                # SHORT_BINBYTES
    ord("B"): _push(lambda m: m.string(m.number("<I"))),                            # BINBYTES
    0x8E: _push(lambda m: m.string(m.number("<Q"))),                                # BINBYTES8
    0x96: _push(lambda m: m.string(m.number("<Q"))),                                # BYTEARRAY8
    # containers
    ord(")"): _push(lambda m: ()),                                                  # EMPTY_TUPLE
    ord("]"): _push(lambda m: []),                                                  # EMPTY_LIST
    ord("}"): _push(lambda m: {}),                                                  # EMPTY_DICT
    0x8F: _push(lambda m: []),                                                      # EMPTY_SET
    0x85: lambda m: m.tuple_of(1),                                                  # TUPLE1
    0x86: lambda m: m.tuple_of(2),                                                  # TUPLE2
    0x87: lambda m: m.tuple_of(3),                                                  # TUPLE3
    ord("t"): _push(lambda m: tuple(m.since_mark())),                               # TUPLE
    ord("l"): _push(lambda m: m.since_mark()),                                      # LIST
    ord("d"): _Machine.dict_of_mark,                                                # DICT
    0x91: _push(lambda m: m.since_mark()),                                          # FROZENSET
    ord("a"): _Machine.append,                                                      # APPEND
    ord("e"): lambda m: m.extend(m.since_mark()),                                   # APPENDS
    0x90: lambda m: m.extend(m.since_mark()),                                       # ADDITEMS
    ord("s"): _Machine.set_item,                                                    # SETITEM
    ord("u"): _Machine.put_items,                                                   # SETITEMS
    # memo
    ord("q"): _put(lambda m: m.take(1)[0]),                                         # BINPUT
    ord("r"): _put(lambda m: m.number("<I")),                                       # LONG_BINPUT
    0x94: _put(lambda m: len(m.memo)),                                              # MEMOIZE
    ord("h"): _push(lambda m: m.memo[m.take(1)[0]]),                                # BINGET
    ord("j"): _push(lambda m: m.memo[m.number("<I")]),                              # LONG_BINGET
    # globals and calls, all inert
    ord("c"): lambda m: m.global_(m.line(), m.line()),                              # GLOBAL
    0x93: _stack_global,                                                            # STACK_GLOBAL
    ord("R"): _Machine.reduce,                                                      # REDUCE
    0x81: _Machine.reduce,                                                          # NEWOBJ
    0x92: _Machine.reduce_with_keywords,                                            # NEWOBJ_EX
    ord("b"): _Machine.build,                                                       # BUILD
    ord("Q"): _Machine.persistent_id,                                               # BINPERSID
}
