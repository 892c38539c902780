"""Reader of a storage as torch pickles it outside torch.save: a string of bytes in torch's format of before 1.6.

    magic number · format version · the writer's machine · persistent id · [name] · count as int64 · elements

The first five are pickles of their own. Nothing may follow, and all numbers must agree.

Format: torch/storage.py (__reduce__), torch/serialization.py (_legacy_save).
"""

from __future__ import annotations

from typing import Any

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.torch_tensor import Storage, storage_id
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record
from zooconv.tensor import DTYPES

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
_HEAD = 4096  # bytes; torch needs some 300


def read_storage(file: InputFile, offset: int, size: int) -> Storage:
    """The storage that `size` bytes of a file from `offset` hold, its elements unread.

    Raises UnsafeFile where they are not as torch writes them.
    """
    head = file.read(offset, min(size, _HEAD))
    told: list[Any] = []
    at = 0
    for _ in range(5):
        value, at = pickle_vm.load_next(head, at, persistent=lambda key: (*storage_id(key, 6), key[5]))
        told.append(value)
    magic, version, machine, storage, names = told
    if (magic, version) != (MAGIC, VERSION):
        raise UnsafeFile("a storage of the pickle is in no format that torch pickles storages in")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise UnsafeFile("a storage of the pickle was written in another byte order; zooconv reads little-endian files")
    if not isinstance(storage, tuple) or len(storage) != 4 or storage[3] is not None or names != [storage[1]]:
        raise UnsafeFile("a storage of the pickle is not the only one in its string of bytes")
    dtype, _, count, _ = storage
    begin, nbytes = at + 8, count * DTYPES[dtype].size
    if int.from_bytes(head[at:begin], "little") != count or begin + nbytes != size:
        raise UnsafeFile(f"a storage of the pickle is declared with {count:,} {dtype} elements, "
                         f"but has {max(size - begin, 0):,} bytes")
    return Storage(dtype, file, Record("a storage", offset + begin, nbytes))
