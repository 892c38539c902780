"""Ranges of a file at an https address, for its headers.

Nothing there says what the bytes must be but a SHA-256 of them all, so no tensor is ever taken from them: only what the
file seems to be. Each answer must be of a file with the same size, entity tag and time of change as the first
(RFC 9110, section 8.8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zooconv import settings
from zooconv.digest import FileDigest
from zooconv.files import InputFile
from zooconv.hub import Fetched, retried
from zooconv.names import UrlSource
from zooconv.sources.ranged import RemoteFile
from zooconv.sources.remote import Remote
from zooconv.sources.web import bounded, file_name, kept_at, opened, plain_errors

if TYPE_CHECKING:
    import httpx2

_SAME = ("ETag", "Last-Modified")


def reach_url(source: UrlSource) -> RemoteFile | None:
    """The file of an address, for reading by ranges; None where the cache has it.

    Raises SourceUnavailable, AuthRequired or WrongBytes, here and at each read, as `fetch_url` does.
    """
    if kept_at(source).is_file():
        return None
    page = Page(source)
    page.look()
    return RemoteFile(page, page.name)


class Page(Remote):
    """An address, and the one file there."""

    def __init__(self, source: UrlSource) -> None:
        super().__init__()
        self.source, self.address = source, source.url
        self.typed = source.model.name if source.model else f"'{source.url}#sha256={source.sha256}'"
        self.name, self.folder = file_name(source.url), settings.cache_path()
        self.size, self.same = 0, ""

    def look(self) -> None:
        """Learn the file's size. Raises NoRanges for a server that does not know ranges."""
        with self.errors():
            retried(self._look)

    def _look(self) -> None:
        with opened(self.address, Range="bytes=0-0") as answer:
            start, _, size = answer.headers.get("Content-Range", "").partition("/")
            if answer.status_code != 206 or start != "bytes 0-0" or not size.isdigit():
                raise self.refused(self.name, "it ignores ranges, and would send all of it")
            self.size, self.same = int(size), _told(answer)
        bounded(self.source, self.size)

    def path(self, name: str) -> Path:
        return Path(name)

    def holds(self, name: str) -> bool:
        return name == self.name

    def stated(self, name: str) -> FileDigest:
        """With as many digits of the SHA-256 as the source has."""
        return FileDigest(self.name, self.size, self.source.sha256)

    def fetched(self, files: Iterable[InputFile]) -> Fetched:
        self.transfer.size = self.size
        return Fetched(self.path(self.name), None, None, (self.stated(self.name),), url=self.address,
                       transfer=self.transfer)

    def errors(self) -> AbstractContextManager[None]:
        return plain_errors(self.source)

    @contextmanager
    def asked(self, name: str, wanted: str) -> Iterator[httpx2.Response]:
        with opened(self.address, Range=wanted) as answer:
            size = answer.headers.get("Content-Range", "").partition("/")[2]
            if answer.status_code == 206 and (_told(answer), size) != (self.same, str(self.size)):
                raise self.changed(name, f"{self.size} bytes, {self.same}", f"{size} bytes, {_told(answer)}")
            yield answer


def _told(answer: httpx2.Response) -> str:
    return ", ".join(str(answer.headers[name]) for name in _SAME if name in answer.headers)
