"""What the pickles that zooconv writes are made of: each value as its opcodes, without a memo.

The opcodes are those of protocol 2, and mean the same in every later one. Tensors are written as torch pickles them: a
call of its rebuild function on a storage, which is whatever the container has for one.

Opcodes: Lib/pickletools.py of CPython. Rebuild functions: torch/_utils.py.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from zooconv.tensor import DTYPES, TensorSpec, contiguous_strides

# Dtypes that have a typed storage class; the younger ones travel as untyped bytes with a dtype beside.
TYPED = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage",
    "I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage", "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}


def about(facts: Mapping[str, Any], tree: str, *, heuristics: bool) -> bytes:
    """What stands beside the weights: who wrote the file, what it says of itself, and how names are to be matched."""
    told = {"__author__": "zooconv", **({"matching_heuristics": True} if heuristics else {}),
            "zooconv": {**facts, "tree": tree}}
    return b"".join(text(key) + plain(value) for key, value in told.items())


def storage_count(spec: TensorSpec) -> int:
    """How many elements the storage of a tensor is declared with: bytes, where it has no type."""
    return math.prod(spec.shape) if spec.dtype in TYPED else spec.nbytes


def tensor_parts(spec: TensorSpec) -> tuple[bytes, bytes]:
    """A tensor as a dense view of the whole of its own storage: the opcodes before the storage, and those after."""
    view = b"".join([integer(0), integers(spec.shape), integers(contiguous_strides(spec.shape)), b"\x89",
                     global_("collections", "OrderedDict") + b")R"])
    if spec.dtype in TYPED:
        return global_("torch._utils", "_rebuild_tensor_v2") + b"(", view + b"tR"
    dtype = global_("torch", DTYPES[spec.dtype].torch)
    return global_("torch._utils", "_rebuild_tensor_v3") + b"(", view + dtype + b"tR"


def plain(value: Any) -> bytes:
    """Text, numbers, truth values, and lists and mappings of them. Raises TypeError for anything else."""
    match value:
        case str():
            return text(value)
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return integer(value)
        case float():
            return struct.pack(">cd", b"G", value)
        case list() | tuple():
            return b"](" + b"".join(map(plain, value)) + b"e"
        case Mapping():
            return mapping(b"".join(text(k) + plain(v) for k, v in value.items()))
    raise TypeError(f"{type(value).__name__} is no plain fact")


def mapping(items: bytes) -> bytes:
    return b"}(" + items + b"u"


def call_tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t" if values else b")"


def integer(value: int) -> bytes:
    if 0 <= value < 1 << 8:
        return struct.pack("<cB", b"K", value)
    if 0 <= value < 1 << 16:
        return struct.pack("<cH", b"M", value)
    if -1 << 31 <= value < 1 << 31:
        return struct.pack("<ci", b"J", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return struct.pack("<cB", b"\x8a", len(data)) + data
