"""Files that are read where they are, by ranges: for their headers alone, or for some of their tensors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, no_descriptor
from zooconv.sources.remote import Remote

BLOCK = 1 << 17  # of headers; most lie in the first
MAX_HEADERS = 64 << 20
GAP = 1 << 20  # what is cheaper read than skipped with one more request


class RemoteFile(InputFile):
    """A file of a remote. Reads of a few bytes are served from blocks, which are held; those of tensors should be kept
    first. `path` is none on disk, but what the file is called.
    """

    distant = True

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote, self.name = remote, name
        self.path, self.fd, self.records = remote.path(name), no_descriptor(), []
        self.size = remote.stated(name).size
        self._block = max(self.size, 1) if remote.is_small(name) else BLOCK
        self._blocks: dict[int, bytes] = {}
        self._kept: BinaryIO | None = None
        self._runs: list[tuple[int, int]] = []

    def beside(self, name: str) -> InputFile:
        return RemoteFile(self.remote, self._sibling(name))

    def has_beside(self, name: str) -> bool:
        return self.remote.holds(self._sibling(name))

    def _sibling(self, name: str) -> str:
        return self.name.rpartition("/")[0] + "/" * ("/" in self.name) + name

    def is_at(self, path: Path) -> bool:
        return False

    def read_into(self, view: memoryview, offset: int) -> None:
        stop = offset + len(view)
        if stop > self.size:
            raise UnsafeFile(f"{self.path.name} ends at byte {self.size}, inside a tensor or a header")
        if self._kept is not None and any(start <= offset and stop <= end for start, end in self._runs):
            done = 0
            while done < len(view):
                done += os.preadv(self._kept.fileno(), [view[done:]], offset + done)
            return
        for number in range(offset // self._block, -(-stop // self._block)):
            block, at = self._loaded(number, -(-stop // self._block)), number * self._block
            low, high = max(offset, at), min(stop, at + len(block))
            view[low - offset:high - offset] = block[low - at:high - at]

    def _loaded(self, number: int, end: int) -> bytes:
        """A block; where it is not here, it comes with all that are missing up to block `end`, in one request."""
        if number not in self._blocks:
            start, stop = number * self._block, min(end * self._block, self.size)
            if len(self._blocks) * self._block + stop - start > MAX_HEADERS:
                raise UnsafeFile(f"{self.path.name} has headers of more than {MAX_HEADERS >> 20} MiB",
                                 next=self.remote.whole)
            data = bytearray(stop - start)

            def put(at: int, piece: bytes) -> None:
                data[at - start:at - start + len(piece)] = piece

            self.remote.get(self.name, start, stop, put)
            if self.remote.is_small(self.name):
                self.remote.prove(self.name, data)
            for at in range(start, stop, self._block):
                self._blocks[at // self._block] = bytes(data[at - start:at - start + self._block])
        return self._blocks[number]

    def keep(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Have these runs of bytes (first, after the last) on disk, in a file without a name.

        Raises ZooError where the disk is full.
        """
        runs = coalesced(wanted)
        with self.remote.errors():
            self.remote.folder.mkdir(parents=True, exist_ok=True)
            kept = tempfile.TemporaryFile(dir=self.remote.folder, buffering=0)  # noqa: SIM115 - closed with this file
            self._kept = kept

        def put(at: int, piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                done = os.pwrite(kept.fileno(), view, at)
                view, at = view[done:], at + done

        for start, stop in runs:
            self.remote.get(self.name, start, stop, put)
        self._runs = runs

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        self._blocks.clear()


def coalesced(runs: Iterable[tuple[int, int]], gap: int | None = None) -> list[tuple[int, int]]:
    """Runs (first, after the last) in order, joined where no more than `gap` bytes lie between them."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(run for run in runs if run[0] < run[1]):
        if joined and start - joined[-1][1] <= (GAP if gap is None else gap):
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined
