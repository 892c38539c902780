"""A source from the first of its places that has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from zooconv.errors import SourceUnavailable, WrongBytes
from zooconv.hub import Fetched, Hub
from zooconv.names import HubSource, UrlSource
from zooconv.registry import SourceRecord
from zooconv.sources.notes import remember
from zooconv.sources.remote import NoRanges
from zooconv.sources.web import fetch_url

T = TypeVar("T")


def fetch_source(source: HubSource | UrlSource, hub: Hub | None = None) -> Fetched:
    """Have a source's files on disk, proved, from its own place or, where that is unavailable, from a mirror.

    Only what is unavailable is passed over, and told in `passed`: bytes that are not the promised ones are an error,
    wherever they come from, and so is a lock. Raises SourceUnavailable, AuthRequired, or ZooError for
    a full disk.
    """
    hub = hub or Hub()

    def have(place: HubSource | UrlSource) -> Fetched:
        got = hub.fetch(place) if isinstance(place, HubSource) else fetch_url(place, progress=hub.progress)
        must_be_promised(place, got)
        remember(got, hub.folder)
        return got

    got, passed = first_place(source, have)
    return replace(got, passed=passed)


def first_place(source: HubSource | UrlSource, have: Callable[[HubSource | UrlSource], T]) -> tuple[T, tuple[str, ...]]:
    """What `have` gives for the first of a source's places that is available, and why others were passed over.

    Raises SourceUnavailable where none is, and as `have` does.
    """
    passed: list[SourceUnavailable] = []
    for place in (source, *source.mirrors):
        try:
            return have(place), tuple(error.what for error in passed)
        except (WrongBytes, NoRanges):
            raise
        except SourceUnavailable as error:
            passed.append(error)
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


def must_be_promised(place: HubSource | UrlSource, got: Fetched) -> None:
    """Raise WrongBytes where a file's digest, measured or stated, is not the one that its source promises."""
    first = got.files[0]
    if place.sha256 and not first.sha256.startswith(place.sha256):
        raise WrongBytes(f"{first.file} of {place.address} is not what it should be",
                         why=[f"promised sha256 {place.sha256}",
                              f"{'stated  ' if got.transfer else 'arrived '} sha256 {first.sha256}"],
                         next="name another source, or a revision that has it: owner/repo@revision:file")
