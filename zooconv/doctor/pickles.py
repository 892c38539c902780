"""Pickles read as a list of opcodes, for what torch's restricted unpickler would say of them; nothing is built.

Since version 2.6 torch.load reads a pickle with `weights_only=True`: it knows fewer opcodes than Python and a fixed
list of names, and raises at the first of another kind. Which one that is, follows from the bytes.

Source: torch/_weights_only_unpickler.py. Opcodes: Lib/pickletools.py of CPython.
"""

from __future__ import annotations

import re
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pickletools import opcodes
from typing import NamedTuple

from zooconv.checkpoint.pickle_vm import MAX_OPS, Data

# APPEND to TUPLE3: the opcodes that the restricted unpickler knows
_KNOWN = frozenset(b"aeGhJKMQqXb}])cjr(N\x88\x89\x81\x8a\x80R\x8fsuU.t\x85\x86\x87")
_BLOCKED = frozenset("sys os posix nt".split())
_ALLOWED = re.compile(
    r"_codecs\.encode|builtins\.(bytearray|complex|set)|collections\.(Counter|OrderedDict)"
    r"|torch\.(nn\.parameter\.Parameter|serialization\._get_layout|Size|Tensor|device)"
    r"|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\._utils\._rebuild_((nested_)?tensor|tensor_v[23]|parameter|parameter_with_state|qtensor|sparse_tensor"
    r"|meta_tensor_no_storage|wrapper_subclass|device_tensor_from_(numpy|cpu_tensor))"
    r"|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(cuda\.)?(BFloat16|Bool|Byte|Char|Double|Float|Half|Int|Long|Short)(Storage|Tensor)"
    r"|torch\.(cuda\.)?Complex(Double|Float)Storage|torch\.Q(Int32|Int8|UInt2x4|UInt4x2|UInt8)Storage"
    r"|torch\.(cuda\.)?sparse\.(BFloat16|Byte|Char|Double|Float|Half|Int|Long|Short)Tensor"
    r"|torch\.(bool|bfloat16|float(16|32|64)|float8_\w+|float4_\w+|complex(32|64|128)|u?int\d+|bits\w+|qint(8|32)"
    r"|quint\w+)"
    r"|torch\.per_(channel|tensor)_\w+")


_OPCODES = {op.code.encode("latin-1"): op.arg for op in opcodes}


class Op(NamedTuple):
    """An opcode, and its argument where that is a short text; `at` is where it stands."""

    code: int
    text: str
    at: int


class Scan(NamedTuple):
    """What a file's pickles ask for: all names, and what the restricted unpickler says at the first that it refuses."""

    globals: tuple[str, ...] = ()
    refused: str = ""


def scan(data: Data, pickles: int = 1) -> Scan:
    """Read so many pickles, one after the other, from the first byte of `data`; never raises."""
    found: dict[str, None] = {}
    refused, at = "", 0
    for _ in range(pickles):
        memo: list[str] = []
        texts: list[str] = []
        for op in _ops(data, at):
            at = op.at
            name = _named(op, texts, memo)
            if name:
                found[name] = None
            refused = refused or _refusal(op, name)
        at += 1
    return Scan(tuple(found), refused)


def _refusal(op: Op, name: str) -> str:
    if op.code not in _KNOWN:
        return f"Unsupported operand {op.code}"
    if op.code != ord("c") or _ALLOWED.fullmatch(name):
        return ""
    if (module := name.rpartition(".")[0]) in _BLOCKED:
        return f"Trying to load unsupported GLOBAL {name} whose module {module} is blocked."
    return f"Unsupported global: GLOBAL {name.removeprefix('builtins.')} was not an allowed global by default."


def _named(op: Op, texts: list[str], memo: list[str]) -> str:
    """The name that an operation refers to, as Python 3 spells it; texts are remembered for those that follow."""
    if op.code == ord("c"):
        module, _, name = op.text.partition(" ")
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        return f"{IMPORT_MAPPING.get(module, module)}.{name}"
    if op.code == 0x93:  # STACK_GLOBAL: module and name are the last two texts
        return ".".join(texts[-2:])
    if op.code in (0x8C, ord("X")):
        texts.append(op.text)
    elif op.code == 0x94:  # MEMOIZE
        memo.append(texts[-1] if texts else "")
    elif op.code in (ord("h"), ord("j")):  # BINGET
        index = int(op.text)
        texts.append(memo[index] if index < len(memo) else "")
    del texts[:-4]
    return ""


def _ops(data: Data, at: int) -> Iterator[Op]:
    """The operations from byte `at` to the end of the pickle, or to the first byte that is none."""
    for _ in range(MAX_OPS):
        code = data[at:at + 1]
        if not code:
            return
        argument = _OPCODES.get(code)
        size, text = _argument(data, at + 1, argument.n if argument else 0, pair=code == b"c")
        if code in b"hj":
            text = str(int.from_bytes(data[at + 1:at + 1 + size], "little"))
        yield Op(code[0], text, at)
        if code not in _OPCODES or code == b".":
            return
        at += 1 + size


def _argument(data: Data, at: int, kind: int, *, pair: bool) -> tuple[int, str]:
    """An argument's size, and its text if it is a short one. `kind` is pickletools' number for how it is written."""
    if kind >= 0:
        return kind, ""
    if kind == -1:  # a line, or two
        line = bytes(data[at:at + 4096]).split(b"\n", 2 if pair else 1)
        parts = line[:-1]
        return sum(len(p) + 1 for p in parts), " ".join(p.decode("utf-8", "replace") for p in parts)
    form = {-2: "<B", -3: "<i", -4: "<I", -5: "<Q"}[kind]
    head = struct.calcsize(form)
    piece = data[at:at + head]
    size = max(struct.unpack(form, piece)[0], 0) if len(piece) == head else 0
    return head + size, data[at + head:at + head + min(size, 256)].decode("utf-8", "replace")
