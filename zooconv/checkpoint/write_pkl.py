"""Writer of plain pickles that Detectron2 reads: the same object as in a `.pth`, made by `pickle.dump`, as it were.

Every version of Detectron2 reads a `.pkl` with pickle.load and takes it as it is where it finds "__author__" in it. A
tensor stands in it as torch pickles one outside torch.save: a view of a storage that is made of a string of bytes, and
these are what torch.save wrote for a storage before version 1.6. No array of numpy is in it, so no version of numpy
can fail to read it. torch 1.8, the oldest that Detectron2 0.6 runs on, is enough for the classic dtypes.

Protocol 2, which Detectron2's own converters use, has text only: each byte from 128 on would become two. Strings of
bytes of any size come with protocol 4; they pass through as they are, and the size of the file is known beforehand.

Format: torch/storage.py (__reduce__, _load_from_bytes), torch/serialization.py (_legacy_save); Lib/pickletools.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from zooconv.checkpoint.torch_legacy import MAGIC, VERSION
from zooconv.checkpoint.write_pickle import (
    TYPED,
    about,
    call_tuple,
    global_,
    integer,
    plain,
    storage_count,
    tensor_parts,
    text,
)
from zooconv.tensor import TensorSpec

_OPEN = b"\x80\x04}(" + text("model") + b"}("
# What begins a torch file of before version 1.6: a magic number, the format's version, and the writer's machine.
_SIZES = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
_LEGACY = b"".join(b"\x80\x02" + value + b"." for value in (
    integer(MAGIC), integer(VERSION), plain(_SIZES)))
_KEY = "0"


class PklWriter:
    """The frame of a `.pkl` file. See `zooconv.checkpoint.write.Writer`."""

    def __init__(self, specs: Sequence[TensorSpec], facts: Mapping[str, Any], *, heuristics: bool = False) -> None:
        self.specs, self.facts, self.heuristics = specs, facts, heuristics
        self.offsets: list[int] = []
        at = 0
        for i, spec in enumerate(specs):
            self.offsets.append(at + len(self.before(i)))
            at = self.offsets[i] + spec.nbytes + len(self.after(i, 0))
        self.size = at + len(self.end("0" * 64))

    def before(self, index: int) -> bytes:
        spec = self.specs[index]
        storage = _storage(spec)
        content = b"\x8e" + struct.pack("<Q", len(storage) + spec.nbytes) + storage
        return b"".join([_OPEN if index == 0 else b"", text(spec.name), tensor_parts(spec)[0],
                         global_("torch.storage", "_load_from_bytes"), content])

    def after(self, index: int, crc: int) -> bytes:
        return b"\x85R" + tensor_parts(self.specs[index])[1]

    def end(self, tree: str) -> bytes:
        return b"u" + about(self.facts, tree, heuristics=self.heuristics) + b"u."


def _storage(spec: TensorSpec) -> bytes:
    """All of a storage but its elements. One without a type goes as bytes, as torch reads no other from a pickle."""
    count = storage_count(spec)
    kind = global_("torch", TYPED.get(spec.dtype, "ByteStorage"))
    key = call_tuple(text("storage"), kind, text(_KEY), text("cpu"), integer(count), b"N")
    return (_LEGACY + b"\x80\x02" + key + b"Q." + b"\x80\x02](" + text(_KEY) + b"e." + struct.pack("<q", count))
