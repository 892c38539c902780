"""Where an artifact came from, found again: the very files that its record names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.checkpoint.open import Checkpoint, open_checkpoint
from zooconv.digest import file_sha256
from zooconv.errors import CheckFailed, SourceUnavailable
from zooconv.registry import Record, Registry, SourceRecord

if TYPE_CHECKING:
    from zooconv.hub import Fetched, Hub


@contextmanager
def source_of(record: Record, registry: Registry, *, given: Path | None = None,
              hub: Hub | None = None) -> Iterator[Checkpoint]:
    """The source of an artifact, open, and proved to be the one that was converted.

    A source of the hub is fetched at its commit, one of the web by its address, from the cache where it is there; a
    local one is `given`, or stands under its old name beside the artifact, beside the registry or in the working
    folder. Raises SourceUnavailable where it is nowhere, CheckFailed where it has other bytes.
    """
    options = record.converter.options
    with _opened(record.source, record, registry, given, hub, ema=options.get("ema"), key=options.get("key")) as found:
        yield found


@contextmanager
def original_of(record: Record, registry: Registry, *, hub: Hub | None = None) -> Iterator[Checkpoint | None]:
    """The original that an artifact was filled from, found and proved likewise; None where it was not."""
    if record.filled is None:
        yield None
        return
    with _opened(record.filled, record, registry, None, hub) as found:
        yield found


@contextmanager
def _opened(source: SourceRecord, record: Record, registry: Registry, given: Path | None, hub: Hub | None,
            **chosen: Any) -> Iterator[Checkpoint]:
    fetched = _fetched(source, hub) if given is None and source.type != "local" else None
    path = fetched.path if fetched else given or _found(source, record, registry)
    with open_checkpoint(path, **chosen) as checkpoint:
        recorded = {file.sha256 for file in source.files}
        found = ({digest.file: digest.sha256 for digest in fetched.files} if fetched  # fetching has hashed them
                 else {str(file.path): file_sha256(file.path).sha256 for file in checkpoint.files})
        for name, sha256 in found.items():
            if sha256 not in recorded:
                raise CheckFailed(f"{name} is not what {record.path} was made of",
                                  why=[f"recorded: sha256 {source.files[0].sha256}",
                                       f"found:    sha256 {sha256}"],
                                  next="name the source: --source FILE")
        yield checkpoint


def _fetched(source: SourceRecord, hub: Hub | None) -> Fetched:
    from zooconv.sources.fetch import fetch_source, recorded_source

    return fetch_source(recorded_source(source, source.files[0].file), hub)


def _found(source: SourceRecord, record: Record, registry: Registry) -> Path:
    name = source.files[0].file
    for folder in (registry.artifact(record).parent, registry.path.parent, Path()):
        if (folder / name).is_file():
            return folder / name
    if source == record.source:
        raise SourceUnavailable(f"the source of {record.path} is not at hand", why=[f"it was a local file, {name}"],
                                next="name it: --source FILE")
    raise SourceUnavailable(f"the original that {record.path} was filled from is not at hand",
                            why=[f"it was a local file, {name}"], next="put it beside the artifact")
