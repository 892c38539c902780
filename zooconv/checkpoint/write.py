"""What every writer of checkpoints is: the bytes around the tensors, as pure functions of their headers.

A writer knows the whole file before the first byte of data: its size, and where each tensor will lie. The engine asks
it for the bytes before and after each tensor and for those at the end, and does all I/O itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, get_args

from zooconv.checkpoint.write_pkl import PklWriter
from zooconv.checkpoint.write_pth import PthWriter
from zooconv.checkpoint.write_safetensors import SafetensorsWriter
from zooconv.options import Format
from zooconv.tensor import TensorSpec


class Writer(Protocol):
    """The frame of a file that will hold `specs`, in their order."""

    @property
    def size(self) -> int:
        """The file's size."""

    @property
    def offsets(self) -> Sequence[int]:
        """Where each tensor's data start."""

    def before(self, index: int) -> bytes:
        """The bytes from the end of tensor `index - 1` to the start of tensor `index`."""

    def after(self, index: int, crc: int) -> bytes:
        """The bytes that close tensor `index`, whose data have this CRC-32."""

    def end(self, tree: str) -> bytes:
        """The bytes after the last tensor; `tree` is the tree digest of all tensors."""


FORMATS: tuple[Format, ...] = get_args(Format)


def writer_for(format_: Format, specs: Sequence[TensorSpec], facts: Mapping[str, Any], key: str = "model", *,
               heuristics: bool = False) -> Writer:
    """The writer of a format, for these tensors. `facts` is what the file says of itself, as plain data.

    `key` is the one under which a .pth has its tensors; without one they stand at the top, and nothing beside them.
    `heuristics` has Detectron2 match names by their ends; safetensors have no place for that.
    """
    if format_ == "safetensors":
        assert not heuristics
        return SafetensorsWriter(specs, facts)
    if format_ == "pkl":
        return PklWriter(specs, facts, heuristics=heuristics)
    return PthWriter(specs, facts, key, heuristics=heuristics)
