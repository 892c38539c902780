"""Reader of safetensors files: a JSON header, then the tensors' bytes without a hole.

Format: https://github.com/huggingface/safetensors#format. Stricter than the reference reader in one point: a name that
stands twice is refused, where there the last one wins.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record
from zooconv.tensor import LazyTensor, checked_dtype, nbytes

MAX_HEADER = 100_000_000
MAX_RANK = 64


def read_safetensors(file: InputFile) -> dict[str, LazyTensor]:
    """The file's tensors by name, in the order in which they lie in it.

    Fills `file.records`. Raises UnsafeFile for a header that is malformed, or that does not describe the file.
    """
    header, start = _header(file)
    tensors: dict[str, LazyTensor] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name] = _tensor(file, start, name, entry)
    tensors = dict(sorted(tensors.items(), key=lambda item: item[1].record[1:3]))
    end = start
    for name, tensor in tensors.items():
        if tensor.offset != end:
            raise _bad(file, f"tensor {name!r:.80} starts at byte {tensor.offset:,}, where byte {end:,} is next: "
                             "tensors overlap or leave a hole")
        end += tensor.nbytes
    if end != file.size:
        raise _bad(file, f"the header describes {end:,} bytes, the file has {file.size:,}")
    file.records = [tensor.record for tensor in tensors.values()]
    return tensors


def _header(file: InputFile) -> tuple[dict[str, Any], int]:
    if file.size < 8:
        raise _bad(file, f"the file has {file.size} bytes")
    (size,) = struct.unpack("<Q", file.read(0, 8))
    if size > MAX_HEADER or 8 + size > file.size:
        raise _bad(file, f"the header's length is given as {size:,} bytes")
    try:
        header = json.loads(file.read(8, size).decode("utf-8"), object_pairs_hook=_no_twice)
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _bad(file, f"the header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise _bad(file, "the header is no JSON object")
    return header, 8 + size


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r:.80} stands twice")
    return made


def _tensor(file: InputFile, start: int, name: str, entry: Any) -> LazyTensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)], **rest} if not rest:
            pass
        case _:
            raise _bad(file, f"the header's entry for {name!r:.80} is not a dtype, a shape and two offsets")
    if len(shape) > MAX_RANK or any(type(n) is not int or not 0 <= n < 1 << 62 for n in shape):
        raise _bad(file, f"tensor {name!r:.80} has the shape {str(shape)[:80]}")
    size = nbytes(checked_dtype(name, dtype), tuple(shape))
    if not 0 <= begin <= end or end - begin != size or start + end > file.size:
        raise _bad(file, f"tensor {name!r:.80} should have {size:,} bytes; the header gives it {begin:,} to {end:,}")
    return LazyTensor(dtype, tuple(shape), file, start + begin, Record(name, start + begin, size))


def _bad(file: InputFile, why: str) -> UnsafeFile:
    return UnsafeFile(f"{file.path.name} is no whole safetensors file", why=[why], next="download it again")
