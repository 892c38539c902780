"""Ranges of files on the hub.

The hub names a file (its size, its digest, and where its bytes are kept), and that again before each request: a file
that changed in between is not read on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zooconv.checkpoint.shards import read_index
from zooconv.digest import FileDigest
from zooconv.errors import SourceUnavailable
from zooconv.files import InputFile
from zooconv.hub import DIGEST, Fetched, Hub, Listing, chosen_file, plain_errors
from zooconv.names import HubSource
from zooconv.sources.ranged import RemoteFile
from zooconv.sources.remote import Remote

if TYPE_CHECKING:
    import httpx2


def reach_hub(source: HubSource, hub: Hub) -> RemoteFile | None:
    """The file on the hub that a source means, for reading by ranges; None where the cache has it.

    Raises SourceUnavailable or AuthRequired, here and at each read, as `Hub.fetch` does.
    """
    from huggingface_hub import try_to_load_from_cache

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


class Commit(Remote):
    """A commit of a repository."""

    def __init__(self, source: HubSource, hub: Hub, listing: Listing) -> None:
        super().__init__()
        self.source, self.hub, self.listing = source, hub, listing
        self.address, self.folder = source.repo, hub.folder
        one = f":{source.files[0]}" if len(source.files) == 1 else ""
        self.typed = source.repo + (f"@{source.revision}" if source.revision != "main" else "") + one
        self._small: dict[str, str] = {}

    def holds(self, name: str) -> bool:
        return name in self.listing.digests

    def is_small(self, name: str) -> bool:
        # A file that git itself keeps is small, and not every hub serves ranges of it.
        return len(self.listing.digests.get(name) or "") == 40

    def stated(self, name: str) -> FileDigest:
        """As the hub states it; the SHA-256 of a file that git keeps is measured once it came, which it does whole."""
        size, digest = self.listing.sizes.get(name), self.listing.digests.get(name)
        if size is None or digest is None:
            raise SourceUnavailable(f"the hub does not say how large {name} of {self.address} is", next=self.whole)
        return FileDigest(name, size, self._small.get(name, "") if self.is_small(name) else digest)

    def fetched(self, files: Iterable[InputFile]) -> Fetched:
        remote = [file for file in files if isinstance(file, RemoteFile)]
        self.transfer.size = sum(file.size for file in remote)
        return Fetched(remote[0].path, self.source.repo, self.listing.commit,
                       tuple(self.stated(file.name) for file in remote), self.listing.license, transfer=self.transfer)

    def errors(self) -> AbstractContextManager[None]:
        return plain_errors(self.source)

    def prove(self, name: str, data: bytes | bytearray) -> None:
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if found != self.listing.digests[name]:
            raise SourceUnavailable(f"{name} of {self.address} is not what the hub says it is",
                                    why=[f"stated  {self.listing.digests[name]}", f"arrived {found}"],
                                    next="try again later, or another mirror (HF_ENDPOINT)")
        self._small[name] = hashlib.sha256(data).hexdigest()

    @contextmanager
    def asked(self, name: str, wanted: str) -> Iterator[httpx2.Response]:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import hf_raise_for_status

        url, where = self._located(name)
        headers = {**build_hf_headers(), "range": wanted, "accept-encoding": "identity"}
        if urlsplit(where).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the token is the hub's, not the storage host's
        with get_session().stream("GET", where, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
            hf_raise_for_status(answer)
            yield answer

    def _located(self, name: str) -> tuple[str, str]:
        """A file's address on the hub, and where its bytes are now, if it is still the same file."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        hub, size, digest = self.hub, self.listing.sizes[name], self.listing.digests[name]
        url = hf_hub_url(self.source.repo, name, revision=self.listing.commit, endpoint=hub.endpoint)
        now = get_hf_file_metadata(url, endpoint=hub.endpoint)
        if not DIGEST.fullmatch(now.etag or "") or (now.etag, now.size) != (digest, size):
            raise self.changed(name, f"{digest}, {size} bytes", f"{now.etag!s:.80}, {now.size} bytes")
        return url, now.location
