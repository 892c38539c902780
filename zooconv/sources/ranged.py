"""Files read by HTTP Range (RFC 9110, section 14): for their headers alone, or for some of their tensors.

The answer must be the very range that was asked for, of a file that is still as long as it was; a server that ignores
ranges is refused before its first byte. What came is never compared with the file's SHA-256, for which all of it would
be needed.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zooconv.digest import FileDigest
from zooconv.errors import SourceUnavailable, UnsafeFile
from zooconv.files import InputFile, no_descriptor
from zooconv.hub import Fetched, Transfer, retried

if TYPE_CHECKING:
    import httpx2

BLOCK = 1 << 17  # of headers; most lie in the first
MAX_HEADERS = 64 << 20
GAP = 1 << 20  # what is cheaper read than skipped with one more request
PROGRESS = 1 << 16  # a broken connection that brought this much is no failure, but continued

Sink = Callable[[int, bytes], object]


class NoRanges(SourceUnavailable):
    """A server that sends no ranges of a file."""


class Place(ABC):
    """Where files are, what is said of them there, and how their bytes are asked for."""

    address: str
    typed: str
    """The source, as one types it."""
    folder: Path
    """Where parts of its files may lie for a while."""

    def __init__(self) -> None:
        self.transfer = Transfer()

    @abstractmethod
    def holds(self, name: str) -> bool:
        """Is there a file of that name?"""

    @abstractmethod
    def stated(self, name: str) -> FileDigest:
        """A file's size and SHA-256, as they are stated. Raises SourceUnavailable where they are not."""

    @abstractmethod
    def fetched(self, files: Iterable[InputFile]) -> Fetched:
        """Files of this place, as they are stated."""

    @abstractmethod
    def asked(self, name: str, wanted: str) -> AbstractContextManager[httpx2.Response]:
        """The answer for a range of a file that is proved to be the same as before, its body still unread."""

    @abstractmethod
    def errors(self) -> AbstractContextManager[None]:
        """The client's exceptions, in plain words."""

    def path(self, name: str) -> Path:
        """What a file is called; there is none on disk."""
        return Path(self.address, name)

    def is_small(self, name: str) -> bool:
        """Is a file had in one piece?"""
        return False

    def prove(self, name: str, data: bytes | bytearray) -> None:
        """Raise SourceUnavailable where all of a small file is not what is stated."""
        raise NotImplementedError

    def get(self, name: str, start: int, stop: int, sink: Sink) -> None:
        """Have `sink(offset, bytes)` called for a range, piece by piece; where the link breaks, for some twice."""
        with self.errors():
            while start < stop:
                start = retried(partial(self._some, name, start, stop, sink))

    def _some(self, name: str, start: int, stop: int, sink: Sink) -> int:
        """Get a range, as far as the link holds; the byte up to which it came."""
        from huggingface_hub import errors

        at = start
        try:
            with self._answer(name, start, stop) as answer:
                for piece in answer.iter_raw():  # without a size: it would hold back what came before a failure
                    if len(piece) > stop - at:
                        raise self.refused(name, "it sends more than was asked for")
                    sink(at, piece)
                    at += len(piece)
                    self.transfer.received += len(piece)
        except errors.HTTPError:  # type: ignore[attr-defined]
            if at - start < PROGRESS:
                raise
        if at == start:
            raise ConnectionError("the answer ended before its first byte")
        return at

    @contextmanager
    def _answer(self, name: str, start: int, stop: int) -> Iterator[httpx2.Response]:
        """The answer for a range, if it is that range."""
        with self.asked(name, f"bytes={start}-{stop - 1}") as answer:
            size, given = self.stated(name).size, answer.headers.get("Content-Range")
            whole = answer.status_code == 200 and (start, stop) == (0, size)
            if answer.status_code != 206 and not whole:
                raise self.refused(name, f"it ignores ranges, and would send all {size:,} bytes")
            if not whole and given != (asked := f"bytes {start}-{stop - 1}/{size}"):
                raise self.refused(name, f"it sends {given or 'others':.60}, where {asked} were asked for")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise self.refused(name, f"it sends {answer.headers['Content-Encoding']!r:.40}, not the file's bytes")
            yield answer

    def refused(self, name: str, why: str) -> NoRanges:
        """The error for a server that does not send what it should."""
        return NoRanges(f"{name} of {self.address} cannot be read in part", why=[f"the server: {why}"], next=self.whole)

    def changed(self, name: str, first: str, now: str) -> SourceUnavailable:
        """The error for a file that is not the one that it was."""
        return SourceUnavailable(f"{name} of {self.address} changed while it was read",
                                 why=[f"first {first:.120}", f"now   {now:.120}"],
                                 next="nothing was kept; try again")

    @property
    def whole(self) -> str:
        """The way out: the command that has files whole."""
        return f"have it whole: zooconv fetch {self.typed}"


class RemoteFile(InputFile):
    """A file of a place. Reads of a few bytes are served from blocks, which are held; those of tensors should be kept
    first. `path` is none on disk, but what the file is called.
    """

    distant = True

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name
        self.path, self.fd, self.records = place.path(name), no_descriptor(), []
        self.size = place.stated(name).size
        self._block = max(self.size, 1) if place.is_small(name) else BLOCK
        self._blocks: dict[int, bytes] = {}
        self._kept: BinaryIO | None = None
        self._runs: list[tuple[int, int]] = []

    def beside(self, name: str) -> InputFile:
        return RemoteFile(self.place, self._sibling(name))

    def has_beside(self, name: str) -> bool:
        return self.place.holds(self._sibling(name))

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
                                 next=self.place.whole)
            data = bytearray(stop - start)

            def put(at: int, piece: bytes) -> None:
                data[at - start:at - start + len(piece)] = piece

            self.place.get(self.name, start, stop, put)
            if self.place.is_small(self.name):
                self.place.prove(self.name, data)
            for at in range(start, stop, self._block):
                self._blocks[at // self._block] = bytes(data[at - start:at - start + self._block])
        return self._blocks[number]

    def keep(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Have these runs of bytes (first, after the last) on disk, in a file without a name.

        Raises ZooError where the disk is full.
        """
        runs = coalesced(wanted)
        with self.place.errors():
            self.place.folder.mkdir(parents=True, exist_ok=True)
            kept = tempfile.TemporaryFile(dir=self.place.folder, buffering=0)  # noqa: SIM115 - closed with this file
            self._kept = kept

        def put(at: int, piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                done = os.pwrite(kept.fileno(), view, at)
                view, at = view[done:], at + done

        for start, stop in runs:
            self.place.get(self.name, start, stop, put)
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
