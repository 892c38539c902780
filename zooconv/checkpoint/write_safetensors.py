"""Writer of safetensors files. The bytes depend on the tensors and the facts alone.

Tensors stand in the order given; the facts are text in `__metadata__`, under one key, because the reference writer
orders several keys by chance. The tree digest is not among them: the header comes before the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from zooconv.digest import canonical_json
from zooconv.tensor import TensorSpec


class SafetensorsWriter:
    """The frame of a `.safetensors` file. See `zooconv.checkpoint.write.Writer`."""

    def __init__(self, specs: Sequence[TensorSpec], facts: Mapping[str, Any]) -> None:
        entries: dict[str, Any] = {"__metadata__": {"format": "pt", "zooconv": canonical_json(facts)}}
        at = 0
        for spec in specs:
            end = at + spec.nbytes
            entries[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.header = struct.pack("<Q", len(text)) + text
        self.offsets = [len(self.header) + e["data_offsets"][0] for n, e in entries.items() if n != "__metadata__"]
        self.size = len(self.header) + at

    def before(self, index: int) -> bytes:
        return self.header if index == 0 else b""

    def after(self, index: int, crc: int) -> bytes:
        return b""

    def end(self, tree: str) -> bytes:
        return b""
