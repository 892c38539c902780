"""Where an artifact came from, found again: the very files that its record names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zooconv.checkpoint.open import Checkpoint, open_checkpoint
from zooconv.digest import file_sha256
from zooconv.errors import CheckFailed, SourceUnavailable
from zooconv.registry import Record, Registry

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
    fetched = _fetched(record, hub) if given is None and record.source.type != "local" else None
    path = fetched.path if fetched else given or _found(record, registry)
    with open_checkpoint(path, ema=options.get("ema"), key=options.get("key")) as checkpoint:
        recorded = {file.sha256 for file in record.source.files}
        found = ({digest.file: digest.sha256 for digest in fetched.files} if fetched  # fetching has hashed them
                 else {str(file.path): file_sha256(file.path).sha256 for file in checkpoint.files})
        for name, sha256 in found.items():
            if sha256 not in recorded:
                raise CheckFailed(f"{name} is not what {record.path} was made of",
                                  why=[f"recorded: sha256 {record.source.files[0].sha256}",
                                       f"found:    sha256 {sha256}"],
                                  next="name the source: --source FILE")
        yield checkpoint


def _fetched(record: Record, hub: Hub | None) -> Fetched:
    from zooconv.sources.fetch import fetch_source, recorded_source

    return fetch_source(recorded_source(record.source, record.path), hub)


def _found(record: Record, registry: Registry) -> Path:
    name = record.source.files[0].file
    for folder in (registry.artifact(record).parent, registry.path.parent, Path()):
        if (folder / name).is_file():
            return folder / name
    raise SourceUnavailable(f"the source of {record.path} is not at hand", why=[f"it was a local file, {name}"],
                            next="name it: --source FILE")
