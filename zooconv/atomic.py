"""Writing a file so that its name never stands on half of it.

A draft lies beside its target under a hidden name, is synced to disk, and takes the target's name in one rename.
After a crash at any instant the target is the old file or the new one; a draft that a killed process left behind is
swept by the next one that writes the same target. An interruption may fall between any two steps, even between making
a draft and entering the block that would remove it, so the drafts of a process are also swept when it ends.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import glob
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread

from zooconv.errors import UsageError, ZooError

_STEP = 1 << 24  # bytes that are sent to the disk at once
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LEFT: set[Path] = set()  # drafts that this process has not yet removed or given a name


@atexit.register
def _sweep_own() -> None:
    for path in _LEFT:
        with suppress(OSError):
            path.unlink()


class Draft:
    """An open temporary file beside its target. Use `drafting`, which cleans up."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.{host()}-{os.getpid()}.tmp")
        _LEFT.add(self.path)
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise cannot_write(target, error) from None
        self._at = self._sent = 0
        self._syncing: Thread | None = None
        self._unsynced: OSError | None = None

    def allocate(self, size: int) -> None:
        """Reserve the file's whole size now, so that a full disk is known before the first byte."""
        try:
            os.posix_fallocate(self.fd, 0, size)
        except OSError as error:
            if error.errno in _FULL:
                raise cannot_write(self.target, error, size) from None
            # Any other answer means that the file system cannot reserve: then writing finds out.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.fd, view):]
        except OSError as error:
            raise cannot_write(self.target, error) from None
        self._at += len(data)
        if self._at - self._sent >= _STEP:
            self._send()

    def _send(self) -> None:
        """Have the disk start on what it has not been sent yet, so that little is left to wait for at the end."""
        with suppress(OSError):  # it is advice: Linux (mm/fadvise.c) starts to write what is dirty, and keeps it cached
            os.posix_fadvise(self.fd, self._sent, self._at - self._sent, os.POSIX_FADV_DONTNEED)
        self._sent = self._at

    def restart(self) -> None:
        """Throw away what was written."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._at = self._sent = 0

    def sync(self) -> None:
        """Start to bring what was written onto the disk, and go on meanwhile."""
        thread = Thread(target=self._sync, daemon=True)
        thread.start()
        self._syncing = thread

    def _sync(self) -> None:
        try:
            os.fsync(self.fd)
        except OSError as error:  # told by `commit`
            self._unsynced = error

    def commit(self) -> None:
        """Give the draft, once it is on the disk, its target's name, and sync the folder."""
        commit([self])

    def synced(self) -> None:
        """Wait until what was written is on the disk. Raises OSError."""
        if self._syncing is None:
            self.sync()
        self._join()
        if self._unsynced is not None:
            raise self._unsynced

    def _join(self) -> None:
        if self._syncing is not None:
            self._syncing.join()

    def discard(self) -> None:
        """Close, and remove the draft if it was not committed."""
        self._join()
        os.close(self.fd)
        self.path.unlink(missing_ok=True)
        _LEFT.discard(self.path)


@contextmanager
def drafting(target: Path) -> Iterator[Draft]:
    """A draft of `target`, under its lock; gone at the end unless it was committed.

    Raises UsageError where the folder is missing or read-only, ZooError where the disk is full.
    """
    target = target.resolve()
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", next=f"mkdir -p {target.parent}")
    with locked(target):
        _sweep(target)
        draft = Draft(target)
        try:
            yield draft
        finally:
            draft.discard()


def commit(drafts: Sequence[Draft]) -> None:
    """Give drafts their targets' names, in this order, once all are on the disk; then sync their folders.

    A disk makes several files last in little more time than one, so what belongs together is committed together.
    """
    for draft in drafts:
        try:
            draft.synced()
        except OSError as error:
            raise cannot_write(draft.target, error) from None
    for draft in drafts:
        try:
            draft.path.replace(draft.target)
        except OSError as error:
            raise cannot_write(draft.target, error) from None
    for folder in {draft.target.parent for draft in drafts}:
        try:
            _sync_folder(folder)
        except OSError as error:
            raise cannot_write(folder, error) from None


def write_text(target: Path, text: str) -> None:
    """Replace a text file in one step; its permissions stay."""
    with drafting_texts({target: text}) as drafts:
        commit(drafts)


@contextmanager
def drafting_texts(texts: Mapping[Path, str]) -> Iterator[list[Draft]]:
    """Drafts of text files, on their way to the disk; the permissions of files that they replace stay."""
    with ExitStack() as stack:
        drafts = [stack.enter_context(drafting(target)) for target in texts]
        for draft, text in zip(drafts, texts.values(), strict=True):
            with suppress(FileNotFoundError):
                os.fchmod(draft.fd, stat.S_IMODE(draft.target.stat().st_mode))
            draft.write(text.encode())
            draft.sync()
        yield drafts


@contextmanager
def locked(target: Path, *, wait: bool = True) -> Iterator[bool]:
    """Wait until no other process of this user on this machine holds `target`; gives whether there was one to wait for.

    The lock saves double work; it is not what keeps files whole, for which drafts and renames answer. Raises
    BlockingIOError instead of waiting where that is not wanted.
    """
    room = Path(tempfile.gettempdir()) / f"zooconv-{os.getuid()}"
    room.mkdir(mode=0o700, exist_ok=True)
    key = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:32]
    fd = os.open(room / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            waited = False
        except BlockingIOError:
            if not wait:
                raise
            fcntl.flock(fd, fcntl.LOCK_EX)
            waited = True
        yield waited
    finally:
        os.close(fd)  # and with it the lock; the file stays, since removing it would part those who wait for it


def cannot_write(target: Path, error: OSError, size: int | None = None) -> ZooError:
    """The plain form of an operating system's refusal to write."""
    if error.errno in _FULL:
        need = f": it takes {size:,} bytes" if size else ""
        return ZooError(f"no room on the disk for {target}{need}", why=["nothing was written"],
                        next="free some space, or choose another disk with -o")
    return UsageError(f"cannot write {target}: {error.strerror}", why=["nothing was written"],
                      next="choose a place where you may write")


def host() -> str:
    """This machine, in eight hexadecimal digits."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def sweep(folder: Path) -> None:
    """Remove the drafts that killed processes of this machine left in a folder."""
    for left in folder.glob(f".*.{host()}-*.tmp"):
        target = folder / left.name[1:].rsplit(".", 2)[0]
        with suppress(BlockingIOError), locked(target, wait=False):
            _sweep(target)


def _sweep(target: Path) -> None:
    """Remove drafts that killed processes of this machine left. The caller holds the target's lock."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.{host()}-*.tmp"):
        with suppress(OSError):
            left.unlink()


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
