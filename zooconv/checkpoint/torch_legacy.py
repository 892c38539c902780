"""Reader of torch's files of before version 1.6 (`.pth` of torch 0.4 to 1.5): without torch, and nothing is run.

Five pickles one after the other, then the storages without a gap:

    magic number, protocol version, {byte order, sizes of types}, the object, [storage key, …]
    for each key: the number of elements (int64), the elements

The object's tensors refer to storages by key, so it is read twice: for what it says of its storages, which tells where
each of them lies, and then for what it is. `pickle.dump` of a tensor writes its storage as such a file, too.

Format: torch/serialization.py, _legacy_save and _legacy_load.
"""

from __future__ import annotations

import struct
from typing import Any

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.pickle_vm import Global, Window, load_from, whole
from zooconv.checkpoint.torch_tensor import Storage, Storages, rebuilt, storage_id
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record
from zooconv.tensor import DTYPES

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MAX_STORAGES = 1_000_000


def is_torch_legacy(head: bytes) -> bool:
    """Do the first bytes of a file hold the pickle of the magic number, of whatever protocol?"""
    return head[:1] == b"\x80" and b"\x8a\x0a" + MAGIC.to_bytes(10, "little") in head[:32]


def read_torch_legacy(file: InputFile) -> Any:
    """The object that the checkpoint holds: plain data, with LazyTensor where torch would have a tensor.

    Fills `file.records`. Raises UnsafeFile where anything is not as torch writes it.
    """
    made, file.records = read_legacy_at(file, 0, file.size)
    return made


def read_legacy_at(file: InputFile, begin: int, end: int) -> tuple[Any, list[Record]]:
    """The object, and the storages, of what lies in `file` from byte `begin` to byte `end`. Raises UnsafeFile."""
    window = Window(file, end)
    magic, at = load_from(window, begin)
    version, at = load_from(window, at)
    about, start = load_from(window, at)
    if magic != MAGIC or version != VERSION or not isinstance(about, dict):
        raise UnsafeFile(f"{file.path.name} does not begin as torch's older files do")
    if about.get("little_endian") is not True:
        raise UnsafeFile(f"{file.path.name} was written in big-endian byte order; zooconv reads little-endian files")
    declared: dict[str, str] = {}
    _, at = load_from(window, start, persistent=lambda key: _declare(declared, key))
    keys, at = load_from(window, at)
    records = _records(file, declared, keys, at, end)
    storages = _Storages(file, records)
    made, _ = load_from(window, start, call=rebuilt, persistent=storages.storage_or_view)
    return made, list(records.values())


def _declare(declared: dict[str, str], key: Any) -> Any:
    """Note the element type that a persistent id gives its storage: ("storage", type, key, location, numel, view)."""
    dtype, name, _ = storage_id(_not_a_module(key), 6)
    if declared.setdefault(name, dtype) != dtype:
        raise UnsafeFile(f"storage {name!r:.40} is declared both as {declared[name]} and as {dtype}")
    return pickle_vm.Instance(Global("storage"), ())


def _not_a_module(key: Any) -> Any:
    if isinstance(key, tuple) and key[:1] == ("module",):
        raise UnsafeFile("the file holds a whole module: a program, not only weights",
                         next="save its state dict: torch.save(model.state_dict(), path)")
    return key


def _records(file: InputFile, declared: dict[str, str], keys: Any, at: int, end: int) -> dict[str, Record]:
    """Where each storage lies: one after the other from byte `at`, to the last byte."""
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES or sorted(map(str, keys)) != sorted(declared):
        raise UnsafeFile(f"{file.path.name}: its list of storages is not that of its tensors")
    records: dict[str, Record] = {}
    for key in keys:
        if at + 8 > end:
            raise _short(file, key)
        (count,) = struct.unpack("<q", file.read(at, 8))
        whole(count)
        record = records[key] = Record(f"storage {key}", at + 8, count * DTYPES[declared[key]].size)
        at = record.offset + record.size
        if at > end:
            raise _short(file, key)
    if at != end:
        raise UnsafeFile(f"{file.path.name}: {end - at:,} bytes follow its last storage")
    return records


def _short(file: InputFile, key: str) -> UnsafeFile:
    return UnsafeFile(f"{file.path.name} ends inside storage {key:.40}", why=["the file is truncated"],
                      next="download it again")


class _Storages(Storages):
    """As for the younger files, but that a storage may be a part of another (torch 0.4 and older)."""

    def storage_or_view(self, key: Any) -> Storage:
        """The storage of a persistent id, or the part of it that its last element tells: (key, offset, elements)."""
        storage, view = self.storage(key, 6), key[5]
        if view is None:
            return storage
        if not isinstance(view, tuple) or len(view) != 3:
            raise UnsafeFile(f"a part of storage {key[2]:.40} is described as {view!r:.60}")
        _, offset, count = view
        whole(offset)
        whole(count)
        item, record = DTYPES[storage.dtype].size, storage.record
        if (offset + count) * item > record.size:
            raise UnsafeFile(f"a part of storage {key[2]:.40} reaches beyond its {record.size:,} bytes")
        part = Record(f"{record.name}, from element {offset:,}", record.offset + offset * item, count * item)
        return Storage(storage.dtype, storage.file, part)
