"""What is kept of the sources that were fetched: looked at, hashed again, and thrown away.

The hub's cache is huggingface_hub's: it is scanned, and commits are removed from it, by its own means. Only what
zooconv has fetched is ever looked at, and a commit of which others have fetched files as well is left alone.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zooconv.digest import FileDigest, file_sha256
from zooconv.errors import UsageError
from zooconv.names import UrlSource
from zooconv.sources.notes import Note, notes
from zooconv.sources.web import kept_at
from zooconv.zoo import zoo

if TYPE_CHECKING:
    from huggingface_hub import CachedRevisionInfo, HFCacheInfo

_DAY = 86_400


@dataclass(frozen=True)
class Kept:
    """A commit or an address of which files are in a cache.

    `files` are they, with what they must be, by path; `size` is their bytes on disk; `used` when one was last read, in
    seconds since 1970; `foreign` the names of files of the same commit that zooconv did not fetch.
    """

    name: str
    note: Note
    files: dict[Path, FileDigest]
    size: int
    used: float
    foreign: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return self.note.url or f"{self.note.repo}@{self.note.revision}"


@dataclass(frozen=True)
class Damage:
    """A kept file that is not what was fetched."""

    name: str
    path: str
    why: str


def kept() -> list[Kept]:
    """Everything that zooconv has fetched and that is still there, most recently used first."""
    listed = list(notes())
    hubs = {hub: _scanned(hub) for hub in {note.hub for note in listed if note.hub}}
    found = [_of_hub(note, hubs[note.hub]) if note.hub else _of_web(note) for note in listed]
    return sorted(filter(None, found), key=lambda one: (-one.used, one.name))


def damaged(names: Sequence[str] = ()) -> Iterator[Damage]:
    """The files that are not what was fetched, by hashing them; no network is asked. Raises UsageError for a name."""
    for one in _named(kept(), names):
        for path, expected in one.files.items():
            try:
                found = file_sha256(path).sha256
            except OSError as error:
                yield Damage(one.name, str(path), f"cannot be read: {error.strerror}")
                continue
            if found != expected.sha256:
                yield Damage(one.name, str(path), f"sha256 {found[:12]}…, fetched {expected.sha256[:12]}…")


def to_prune(names: Sequence[str] = (), *, older_than: float | None = None, max_size: float | None = None,
             now: float) -> list[Kept]:
    """What is to go: of the names or of all, what was not read for so many days; of that, what exceeds so many bytes,
    the least recently used first.

    Raises UsageError where nothing is asked for, or for a name of
    which zooconv has fetched nothing.
    """
    if not names and older_than is None and max_size is None:
        raise UsageError("nothing says what is to go",
                         next="zooconv cache prune NAME, or --older-than DAYS, or --max-size GB")
    found = _named(kept(), names)
    total = sum(one.size for one in found)
    chosen = []
    for one in reversed(found):
        old = older_than is None or one.used < now - older_than * _DAY
        if old and (max_size is None or total > max_size):
            chosen.append(one)
            total -= 0 if one.foreign else one.size
    return chosen


def prune(chosen: Iterable[Kept]) -> int:
    """Remove what is kept of these, except where others have fetched into the same commit; the bytes that are free."""
    freed, commits = 0, dict[Path, list[Kept]]()
    for one in chosen:
        if one.note.hub is None:
            for path in one.files:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # another file of the same first digits
                    path.parent.rmdir()
            one.note.path.unlink(missing_ok=True)
            freed += one.size
        elif not one.foreign:
            commits.setdefault(one.note.hub, []).append(one)
    for hub, held in commits.items():
        if scanned := _scanned(hub):
            strategy = scanned.delete_revisions(*(one.note.revision for one in held))
            strategy.execute()
            freed += strategy.expected_freed_size
        for one in held:
            one.note.path.unlink(missing_ok=True)
    return freed


def _scanned(hub: Path) -> HFCacheInfo | None:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return scan_cache_dir(hub)
    except (CacheNotFound, ValueError):  # ValueError: it is a file
        return None


def _of_hub(note: Note, scanned: HFCacheInfo | None) -> Kept | None:
    commit = _commit(note, scanned)
    if commit is None:
        return None
    expected = {file.file: file for file in note.files}
    there = {_name(commit, file.file_path): file for file in commit.files}
    mine = {name: file for name, file in there.items() if name in expected}
    if not mine:
        return None
    blobs = {file.blob_path: file for file in mine.values()}
    return Kept(_called(note.repo), note, {file.file_path: expected[name] for name, file in mine.items()},
                sum(file.size_on_disk for file in blobs.values()),
                max(file.blob_last_accessed for file in blobs.values()), tuple(sorted(there.keys() - expected.keys())))


def _commit(note: Note, scanned: HFCacheInfo | None) -> CachedRevisionInfo | None:
    return next((commit for repo in (scanned.repos if scanned else ()) if repo.repo_id == note.repo
                 for commit in repo.revisions if commit.commit_hash == note.revision), None)


def _name(commit: CachedRevisionInfo, path: Path) -> str:
    return path.relative_to(commit.snapshot_path).as_posix()


def _of_web(note: Note) -> Kept | None:
    (expected,) = note.files
    path = kept_at(UrlSource(note.url, expected.sha256, note.url))
    if not path.is_file():
        return None
    stat = path.stat()
    return Kept(_called(note.url), note, {path: expected}, stat.st_size, max(stat.st_atime, stat.st_mtime))


def _called(place: str) -> str:
    model = zoo().find(place)
    return model.name if model else place


def _named(found: list[Kept], names: Sequence[str]) -> list[Kept]:
    """Those that are meant, by name, repository, address or pattern."""
    meant = []
    for name in names:
        more = [one for one in found if any(fnmatch.fnmatchcase(called, name) for called in (
            one.name, one.note.repo, one.note.url, one.where) if called)]
        if not more:
            raise UsageError(f"zooconv has fetched no {name!r}, or it is not kept any more", next="zooconv cache ls")
        meant += more
    return [one for one in found if one in meant] if names else found
