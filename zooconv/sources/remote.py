"""Where files are that are read by HTTP Range (RFC 9110, section 14).

The answer must be the very range that was asked for, of a file that is still as long as it was; a server that ignores
ranges is refused before its first byte. What came is never compared with the file's SHA-256, for which all of it would
be needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zooconv.digest import FileDigest
from zooconv.errors import SourceUnavailable
from zooconv.files import InputFile
from zooconv.hub import Fetched, Transfer, retried

if TYPE_CHECKING:
    import httpx2

PROGRESS = 1 << 16  # a broken connection that brought this much is no failure, but continued

Sink = Callable[[int, bytes], object]


class NoRanges(SourceUnavailable):
    """A server that sends no ranges of a file."""


class Remote(ABC):
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
        """Files of this remote, as they are stated."""

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
