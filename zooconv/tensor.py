"""What a tensor is before anyone has read it: a dtype, a shape, and a place in a file.

Elements are opaque here. A bfloat16 is two bytes, a float8 is one; nothing on the way from a source to a lossless
target ever looks inside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from zooconv.errors import UnsafeFile

if TYPE_CHECKING:
    import numpy as np

    from zooconv.files import InputFile, Record

    Array = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]

Shape = tuple[int, ...]


class DType(NamedTuple):
    """An element type: its size in bytes, torch's name for it, and whether it is a floating-point number."""

    size: int
    torch: str
    floating: bool


# Spelled as safetensors spells them: https://github.com/huggingface/safetensors#format
DTYPES: dict[str, DType] = {
    "BOOL": DType(1, "bool", False),
    "U8": DType(1, "uint8", False),
    "I8": DType(1, "int8", False),
    "U16": DType(2, "uint16", False),
    "I16": DType(2, "int16", False),
    "U32": DType(4, "uint32", False),
    "I32": DType(4, "int32", False),
    "U64": DType(8, "uint64", False),
    "I64": DType(8, "int64", False),
    "F8_E4M3": DType(1, "float8_e4m3fn", True),
    "F8_E5M2": DType(1, "float8_e5m2", True),
    "F8_E8M0": DType(1, "float8_e8m0fnu", True),
    "F16": DType(2, "float16", True),
    "BF16": DType(2, "bfloat16", True),
    "F32": DType(4, "float32", True),
    "F64": DType(8, "float64", True),
}


def nbytes(dtype: str, shape: Shape) -> int:
    """Bytes of a dense tensor."""
    return math.prod(shape) * DTYPES[dtype].size


def contiguous_strides(shape: Shape) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor in C order."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_dense(shape: Shape, strides: tuple[int, ...]) -> bool:
    """Are these the strides of a dense tensor in C order, where those of axes of size one do not matter?"""
    return math.prod(shape) == 0 or all(
        n == 1 or step == dense for n, step, dense in zip(shape, strides, contiguous_strides(shape), strict=True))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, shape and dtype: a row of a family's table, or of a file's header."""

    name: str
    shape: Shape
    dtype: str = "F32"

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {shape_text(self.shape)}"


def shape_text(shape: Shape) -> str:
    """`(96, 3, 4, 4)` as people write it: `96x3x4x4`; a scalar is `()`."""
    return "x".join(map(str, shape)) or "()"


@dataclass(frozen=True, slots=True, eq=False)
class LazyTensor:
    """A tensor that still lies in its file.

    `offset` is where its first element starts, in bytes from the start of the file; `strides` count elements, and
    None means dense C order. `record` is the stored unit that holds the bytes, with the checksum that its
    container claims for it.
    """

    dtype: str
    shape: Shape
    file: InputFile
    offset: int
    record: Record
    strides: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.shape)

    @property
    def fills_record(self) -> bool:
        """Is this tensor's byte stream the whole of its record, so that one CRC covers both?"""
        return (
            self.strides is None
            and self.offset == self.record.offset
            and self.nbytes == self.record.size
        )

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """The tensor as (file offset, byte count) pieces of at most `size`, for a dense tensor."""
        assert self.strides is None, "only a dense tensor is a run of bytes"
        end = self.offset + self.nbytes
        for start in range(self.offset, end, size):
            yield start, min(size, end - start)

    def array(self) -> Array:
        """The tensor in memory, its elements as opaque unsigned integers of the same width.

        Raises UnsafeFile where the file ends too soon.
        """
        import numpy as np

        item = DTYPES[self.dtype].size
        opaque = np.dtype(f"<u{item}")
        if math.prod(self.shape) == 0:
            return np.empty(self.shape, opaque)
        strides = self.strides or contiguous_strides(self.shape)
        span = 1 + sum((n - 1) * step for n, step in zip(self.shape, strides, strict=True))
        flat = np.frombuffer(self.file.read(self.offset, span * item), opaque)
        view = np.lib.stride_tricks.as_strided(
            flat, self.shape, [step * item for step in strides], writeable=False
        )
        return np.require(view, requirements="C")


def array_bytes(array: Array) -> memoryview:
    """An array's elements, in C order, as bytes."""
    import numpy as np

    return memoryview(np.ascontiguousarray(array).reshape(-1).view("u1").data)


def checked_dtype(name: str, dtype: str) -> str:
    """`dtype` if zooconv can carry it. Raises UnsafeFile, naming the tensor, where it cannot."""
    if dtype not in DTYPES:
        raise UnsafeFile(f"tensor {name!r} has dtype {dtype}, which zooconv does not carry",
                         why=[f"it carries {', '.join(DTYPES)}"])
    return dtype
