"""Files on the hub, read by HTTP Range: for their headers alone, or for some of their tensors.

The hub names the file (its size, its digest, and where its bytes are kept), and that again before each request: a file
that changed in between is not read on. The answer must be the very range that was asked for; a server that ignores
ranges is refused before its first byte. What came is never compared with the file's SHA-256, for which all of it would
be needed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from zooconv.checkpoint.shards import read_index
from zooconv.digest import FileDigest
from zooconv.errors import SourceUnavailable, UnsafeFile
from zooconv.files import InputFile, no_descriptor
from zooconv.hub import DIGEST, Fetched, Hub, Listing, Transfer, chosen_file, plain_errors, retried
from zooconv.names import HubSource

if TYPE_CHECKING:
    import httpx2

BLOCK = 1 << 17  # of headers; most lie in the first
MAX_HEADERS = 64 << 20
GAP = 1 << 20  # what is cheaper read than skipped with one more request
PROGRESS = 1 << 16  # a broken connection that brought this much is no failure, but continued

Sink = Callable[[int, bytes], object]


def reach(source: HubSource, hub: Hub) -> RemoteFile | None:
    """The file on the hub that a source means, for reading by ranges; None where the cache has it, or no network may.

    Raises SourceUnavailable or AuthRequired, here and at each read, as `Hub.fetch` does.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE:
        return None
    listing = hub.look(source)
    name = chosen_file(source, listing)

    def cached(name: str) -> Path | None:
        path = try_to_load_from_cache(source.repo, name, cache_dir=hub.cache, revision=listing.commit)
        return Path(path) if isinstance(path, str) else None

    here = cached(name)
    if here is not None and name.endswith(".index.json"):
        folder = name.rpartition("/")[0]
        with InputFile(here) as index:
            shards = {f"{folder}/{shard}" if folder else shard for shard in read_index(index).values()}
        here = here if all(map(cached, shards)) else None
    return None if here else RemoteFile(Commit(source, hub, listing), name)


class Commit:
    """A commit of a repository, and what came of its files."""

    def __init__(self, source: HubSource, hub: Hub, listing: Listing) -> None:
        self.source, self.hub, self.listing = source, hub, listing
        self.transfer = Transfer()

    def fetched(self, files: Iterable[InputFile]) -> Fetched:
        """These files, as the hub states them."""
        remote = [file for file in files if isinstance(file, RemoteFile)]
        self.transfer.size = sum(file.size for file in remote)
        return Fetched(remote[0].path, self.source.repo, self.listing.commit, tuple(file.stated for file in remote),
                       self.listing.license, self.transfer)

    def get(self, name: str, start: int, stop: int, sink: Sink) -> None:
        """Have `sink(offset, bytes)` called for a range, piece by piece; where the link breaks, for some twice."""
        with plain_errors(self.source):
            while start < stop:
                start = retried(partial(self._some, name, start, stop, sink))

    def _some(self, name: str, start: int, stop: int, sink: Sink) -> int:
        """Get a range, as far as the link holds; the byte up to which it came."""
        from huggingface_hub import errors

        at = start
        try:
            with self._asked(name, start, stop) as answer:
                for piece in answer.iter_raw():  # without a size: it would hold back what came before a failure
                    if len(piece) > stop - at:
                        raise self._refused(name, "it sends more than was asked for")
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
    def _asked(self, name: str, start: int, stop: int) -> Iterator[httpx2.Response]:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import hf_raise_for_status

        url, where = self._located(name)
        headers = {**build_hf_headers(), "range": f"bytes={start}-{stop - 1}", "accept-encoding": "identity"}
        if urlsplit(where).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the token is the hub's, not the storage host's
        with get_session().stream("GET", where, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
            hf_raise_for_status(answer)
            size, given = self.listing.sizes[name], answer.headers.get("Content-Range")
            whole = answer.status_code == 200 and (start, stop) == (0, size)
            if answer.status_code != 206 and not whole:
                raise self._refused(name, f"it ignores ranges, and would send all {size:,} bytes")
            if not whole and given != f"bytes {start}-{stop - 1}/{size}":
                asked = f"bytes {start}-{stop - 1}/{size}"
                raise self._refused(name, f"it sends {given or 'others':.60}, where {asked} were asked for")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise self._refused(name, f"it sends {answer.headers['Content-Encoding']!r:.40}, not the file's bytes")
            yield answer

    def _located(self, name: str) -> tuple[str, str]:
        """A file's address on the hub, and where its bytes are now, if it is still the same file."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        hub, listing = self.hub, self.listing
        url = hf_hub_url(self.source.repo, name, revision=listing.commit, endpoint=hub.endpoint)
        now = get_hf_file_metadata(url, endpoint=hub.endpoint)
        stated = (listing.digests[name], listing.sizes[name])
        if not DIGEST.fullmatch(now.etag or "") or (now.etag, now.size) != stated:
            raise SourceUnavailable(f"{name} of {self.source.repo} changed while it was read",
                                    why=[f"first {stated[0]}, {stated[1]} bytes",
                                         f"now   {now.etag!s:.80}, {now.size} bytes"],
                                    next="nothing was kept; try again")
        return url, now.location

    def _refused(self, name: str, why: str) -> SourceUnavailable:
        return SourceUnavailable(f"{name} of {self.source.repo} cannot be read in part", why=[f"the server: {why}"],
                                 next=f"have it whole: zooconv fetch {self.source.repo}")


class RemoteFile(InputFile):
    """A file of a commit. Reads of a few bytes are served from blocks, which are held; those of tensors should be kept
    first. `path` is no path, but repository and name.
    """

    distant = True

    def __init__(self, commit: Commit, name: str) -> None:
        self.commit, self.name = commit, name
        self.path, self.fd, self.records = Path(commit.source.repo, name), no_descriptor(), []
        if name not in commit.listing.sizes or commit.listing.digests.get(name) is None:
            raise SourceUnavailable(f"the hub does not say how large {name} of {commit.source.repo} is",
                                    next=f"have it whole: zooconv fetch {commit.source.repo}")
        self.size = commit.listing.sizes[name]
        # A file that git itself keeps is small, and not every hub serves ranges of it.
        self._block = BLOCK if self._lfs else max(self.size, 1)
        self._blocks: dict[int, bytes] = {}
        self._kept: BinaryIO | None = None
        self._runs: list[tuple[int, int]] = []

    @property
    def _lfs(self) -> bool:
        return len(self.commit.listing.digests[self.name] or "") == 64

    @property
    def stated(self) -> FileDigest:
        """The file's digest as the hub states it. Of a file that git keeps it is measured: such a one came whole."""
        sha256 = self.commit.listing.digests[self.name] or ""
        if not self._lfs:
            sha256 = hashlib.sha256(self.read(0, self.size)).hexdigest()
        return FileDigest(self.name, self.size, sha256)

    def beside(self, name: str) -> InputFile:
        return RemoteFile(self.commit, self._sibling(name))

    def has_beside(self, name: str) -> bool:
        return self._sibling(name) in self.commit.listing.digests

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
                                 next=f"have it whole: zooconv fetch {self.commit.source.repo}")
            data = bytearray(stop - start)

            def put(at: int, piece: bytes) -> None:
                data[at - start:at - start + len(piece)] = piece

            self.commit.get(self.name, start, stop, put)
            if not self._lfs:
                self._must_be_git_blob(data)
            for at in range(start, stop, self._block):
                self._blocks[at // self._block] = bytes(data[at - start:at - start + self._block])
        return self._blocks[number]

    def _must_be_git_blob(self, data: bytes | bytearray) -> None:
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if found != self.commit.listing.digests[self.name]:
            raise SourceUnavailable(f"{self.name} of {self.commit.source.repo} is not what the hub says it is",
                                    why=[f"stated  {self.commit.listing.digests[self.name]}", f"arrived {found}"],
                                    next="try again later, or another mirror (HF_ENDPOINT)")

    def keep(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Have these runs of bytes (first, after the last) on disk: in a file without a name, beside the hub's cache.

        Raises ZooError where the disk is full.
        """
        from huggingface_hub import constants

        runs = coalesced(wanted)
        folder = Path(self.commit.hub.cache or constants.HF_HUB_CACHE)
        with plain_errors(self.commit.source):
            folder.mkdir(parents=True, exist_ok=True)
            kept = self._kept = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with this file

        def put(at: int, piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                done = os.pwrite(kept.fileno(), view, at)
                view, at = view[done:], at + done

        for start, stop in runs:
            self.commit.get(self.name, start, stop, put)
        self._runs = runs

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        self._blocks.clear()


def coalesced(runs: Iterable[tuple[int, int]], gap: int | None = None) -> list[tuple[int, int]]:
    """Runs (first, after the last) in order, joined where less than `gap` bytes lie between them."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(run for run in runs if run[0] < run[1]):
        if joined and start - joined[-1][1] <= (GAP if gap is None else gap):
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined
