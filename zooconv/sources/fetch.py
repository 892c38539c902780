"""A source from the first of its places that has it."""

from __future__ import annotations

from dataclasses import replace

from zooconv.errors import SourceUnavailable, WrongBytes
from zooconv.hub import Fetched, Hub
from zooconv.names import HubSource, UrlSource
from zooconv.registry import SourceRecord
from zooconv.sources.notes import remember
from zooconv.sources.web import fetch_url


def fetch_source(source: HubSource | UrlSource, hub: Hub | None = None) -> Fetched:
    """Have a source's files on disk, proved, from its own place or, where that is unavailable, from a mirror.

    Only what is unavailable is passed over, and told in `passed`: bytes that are not the promised ones are an error,
    wherever they come from, and so is a lock. Raises SourceUnavailable, AuthRequired, or ZooError for
    a full disk.
    """
    hub = hub or Hub()
    passed: list[SourceUnavailable] = []
    for place in (source, *source.mirrors):
        try:
            got = hub.fetch(place) if isinstance(place, HubSource) else fetch_url(place, progress=hub.progress)
        except WrongBytes:
            raise
        except SourceUnavailable as error:
            passed.append(error)
            continue
        _compare(place, got)
        remember(got, hub.folder)
        return replace(got, passed=tuple(error.what for error in passed))
    if len(passed) == 1:
        raise passed[0]
    raise SourceUnavailable(f"none of the {len(passed)} places of {source.name} has it",
                            why=[error.what for error in passed], next=passed[0].next)


def recorded_source(record: SourceRecord, name: str) -> HubSource | UrlSource:
    """The place that a registry records: the commit, or the address, with the digest that was found there.

    Raises ValueError for a local file, which has none.
    """
    first = record.files[0]
    if record.repo is not None and record.revision is not None:
        return HubSource(record.repo, record.revision, (first.file,), name)
    if record.url is not None:
        return UrlSource(record.url, first.sha256, name)
    raise ValueError(f"{first.file} was a local file")


def _compare(place: HubSource | UrlSource, got: Fetched) -> None:
    first = got.files[0]
    if place.sha256 and not first.sha256.startswith(place.sha256):
        raise WrongBytes(f"{first.file} of {place.address} is not what it should be",
                         why=[f"promised sha256 {place.sha256}", f"arrived  sha256 {first.sha256}"],
                         next="name another source, or a revision that has it: owner/repo@revision:file")
