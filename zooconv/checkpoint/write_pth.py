"""Writer of torch's zip checkpoints: `{"model": {name: tensor}, "__author__": "zooconv", "zooconv": {facts}}`.

The tensors may stand under another key, or under none: then it is a plain state dict, and says nothing of itself.

torch.load reads the result with weights_only, with and without mmap, from torch 2.1 on; Detectron2 reads it since
every value under "model" is a tensor. The bytes depend on the tensors and the facts alone: unlike torch.save, not on
the file's name, the version of torch, or the library that torch was built with.

The records stand in the order data/0 … data/N, data.pkl, …: the pickle comes after the data, because it holds the tree
digest, which is known only then. Readers find records by the zip directory, wherever they lie.

Format: torch/serialization.py, torch/_utils.py, caffe2/serialize/inline_container.cc; zip64: PKWARE APPNOTE 6.3.10.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zooconv.checkpoint.write_pickle import (
    TYPED,
    about,
    call_tuple,
    global_,
    integer,
    mapping,
    storage_count,
    tensor_parts,
    text,
)
from zooconv.digest import crc32
from zooconv.tensor import TensorSpec

ALIGN = 64
_FAR = 0xFFFFFFFF
_ROOT = "archive"
_TREE = "0" * 64


class _Entry(NamedTuple):
    """A zip record: its name, where its local header starts, the size and CRC-32 of its data."""

    name: bytes
    at: int
    size: int
    crc: int


class PthWriter:
    """The frame of a `.pth` file. See `zooconv.checkpoint.write.Writer`."""

    def __init__(self, specs: Sequence[TensorSpec], facts: Mapping[str, Any], key: str = "model", *,
                 heuristics: bool = False) -> None:
        self.specs, self.facts, self.key, self.heuristics = specs, facts, key, heuristics
        self.entries: list[_Entry] = []
        self.starts: list[int] = []
        self.offsets: list[int] = []
        at = 0
        for i, spec in enumerate(specs):
            header = local_header(f"data/{i}", at, spec.nbytes)
            self.starts.append(at)
            self.offsets.append(at + len(header))
            at += len(header) + spec.nbytes + len(descriptor(at, spec.nbytes, 0))
        self.data_end = at
        blank = [_Entry(_full(f"data/{i}"), start, spec.nbytes, 0)
                 for i, (spec, start) in enumerate(zip(specs, self.starts, strict=True))]
        self.size = at + len(self._tail(blank, _TREE))

    def before(self, index: int) -> bytes:
        return local_header(f"data/{index}", self.starts[index], self.specs[index].nbytes)

    def after(self, index: int, crc: int) -> bytes:
        size, at = self.specs[index].nbytes, self.starts[index]
        self.entries.append(_Entry(_full(f"data/{index}"), at, size, crc))
        return descriptor(at, size, crc)

    def end(self, tree: str) -> bytes:
        return self._tail(self.entries, tree)

    def _tail(self, entries: Sequence[_Entry], tree: str) -> bytes:
        pickle = _pickle(self.specs, about(self.facts, tree, heuristics=self.heuristics), self.key)
        small = {"data.pkl": pickle, ".format_version": b"1",
                 ".storage_alignment": str(ALIGN).encode(), "byteorder": b"little", "version": b"3\n",
                 ".data/serialization_id": b"0" * 40}
        all_entries, out = list(entries), bytearray()
        for name, data in small.items():
            at, crc = self.data_end + len(out), crc32(data)
            out += local_header(name, at, len(data)) + data + descriptor(at, len(data), crc)
            all_entries.append(_Entry(_full(name), at, len(data), crc))
        return bytes(out) + directory(all_entries, self.data_end + len(out))


# -- the zip ---------------------------------------------------------------------------------------------------------


def _full(name: str) -> bytes:
    return f"{_ROOT}/{name}".encode()


def local_header(name: str, at: int, size: int) -> bytes:
    """A local file header at byte `at`, padded so that the data start at a multiple of 64.

    Sizes and CRC follow the data in a descriptor, so that a file is written forward only.
    """
    full = _full(name)
    zip64 = b""
    if size >= _FAR or at >= _FAR:
        body = (struct.pack("<QQ", size, 0) if size >= _FAR else b"") + (struct.pack("<Q", at) if at >= _FAR else b"")
        zip64 = struct.pack("<HH", 1, len(body)) + body
    pad = -(at + 30 + len(full) + len(zip64) + 4) % ALIGN
    extra = zip64 + b"FB" + struct.pack("<H", pad) + b"Z" * pad
    flags = 0x0808 if size else 0x0800  # UTF-8 name; a descriptor follows the data
    return struct.pack("<4s5H3I2H", b"PK\3\4", 0, flags, 0, 0, 0, 0, 0, 0, len(full), len(extra)) + full + extra


def descriptor(at: int, size: int, crc: int) -> bytes:
    """What follows a record's data; nothing after an empty record."""
    if not size:
        return b""
    return struct.pack("<4sIQQ" if size >= _FAR or at >= _FAR else "<4sIII", b"PK\7\10", crc, size, size)


def directory(entries: Sequence[_Entry], at: int) -> bytes:
    """The central directory at byte `at`, with its zip64 and plain end records."""
    out = bytearray()
    for entry in entries:
        big, far = entry.size >= _FAR, entry.at >= _FAR
        body = struct.pack("<QQ", entry.size, entry.size) if big else b""
        body += struct.pack("<Q", entry.at) if far else b""
        extra = struct.pack("<HH", 1, len(body)) + body if body else b""
        size, offset = (_FAR if big else entry.size), (_FAR if far else entry.at)
        out += struct.pack("<4s6H3I5H2I", b"PK\1\2", 0, 0, 0x0808 if entry.size else 0x0800, 0, 0, 0, entry.crc,
                           size, size, len(entry.name), len(extra), 0, 0, 0, 0, offset) + entry.name + extra
    count, size, end = len(entries), len(out), at + len(out)
    out += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 0x031E, 45, 0, 0, count, count, size, at)
    out += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    out += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), min(size, _FAR),
                       min(at, _FAR), 0)
    return bytes(out)


# -- the pickle ------------------------------------------------------------------------------------------------------


def _pickle(specs: Sequence[TensorSpec], beside: bytes, key: str) -> bytes:
    """The checkpoint's object as a protocol-2 pickle, every tensor a view of the whole of its own storage.

    Under `key`, with what is `beside` it; without a key, the tensors alone.
    """
    model = mapping(b"".join(text(spec.name) + _tensor(i, spec) for i, spec in enumerate(specs)))
    return b"\x80\x02" + (mapping(text(key) + model + beside) if key else model) + b"."


def _tensor(index: int, spec: TensorSpec) -> bytes:
    """A tensor on a persistent storage, as torch.save writes it."""
    before, after = tensor_parts(spec)
    kind = global_("torch", TYPED[spec.dtype]) if spec.dtype in TYPED else global_("torch.storage", "UntypedStorage")
    key = call_tuple(text("storage"), kind, text(str(index)), text("cpu"), integer(storage_count(spec)))
    return before + key + b"Q" + after
