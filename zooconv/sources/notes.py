"""Notes of what was fetched, with its digests: what is zooconv's in the hub's cache, which others fill, too.

One small file per commit or address, under `fetched/` in zooconv's own cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zooconv import settings
from zooconv.atomic import locked, write_text
from zooconv.digest import FileDigest, canonical_json, text_sha256
from zooconv.errors import ZooError
from zooconv.hub import Fetched


@dataclass(frozen=True)
class Note:
    """Files of a commit in the hub's cache at `hub`, or of an address; `path` is the note itself."""

    path: Path
    files: tuple[FileDigest, ...]
    hub: Path | None = None
    repo: str = ""
    revision: str = ""
    url: str = ""


def remember(got: Fetched, hub: Path) -> None:
    """Note what was fetched. A cache that cannot be written costs the note, and nothing else."""
    place = {"url": got.url} if got.url else {"hub": str(hub.absolute()), "repo": got.repo, "revision": got.revision}
    path = settings.cache_path() / "fetched" / f"{text_sha256(canonical_json(place))[:32]}.json"
    with suppress(OSError, ZooError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.update")):
            known = _read(path)
            files = {file.file: file for file in (*(known.files if known else ()), *got.files)}
            text = json.dumps({**place, "files": [file._asdict() for file in files.values()]}, indent=1) + "\n"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)


def notes() -> Iterator[Note]:
    """All notes; what is no note is passed over."""
    for path in sorted((settings.cache_path() / "fetched").glob("*.json")):
        if note := _read(path):
            yield note


def _read(path: Path) -> Note | None:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(FileDigest(**file) for file in table.pop("files"))
        if "hub" in table:
            table["hub"] = Path(table["hub"])
        return Note(path, files, **table)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
