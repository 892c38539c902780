"""Reading a file that someone else wrote: opened once, never followed into a pipe or a device, read by position."""

from __future__ import annotations

import errno
import io
import os
import stat
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar, NamedTuple, Self, cast

from zooconv.errors import UnsafeFile, UsageError


class Record(NamedTuple):
    """A run of bytes in a file, and the CRC-32 that the container claims for it (None: it claims none)."""

    name: str
    offset: int
    size: int
    crc: int | None = None


class InputFile:
    """A regular file, open for positioned reads.

    Raises UsageError where the path cannot be opened or is no regular file; reads raise UnsafeFile where the file
    ends too soon.

    Where it is `distant`, reading costs time: a reader should then read headers, and believe them where it would else
    look at each tensor's place.
    """

    distant: ClassVar[bool] = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.records: list[Record] = []
        try:
            # O_NONBLOCK: opening a FIFO that nobody writes to would hang for ever.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _cannot_open(self.path, error) from None
        info = os.fstat(self.fd)
        if not stat.S_ISREG(info.st_mode):
            self.close()
            raise _not_regular(self.path, info.st_mode)
        self.size = info.st_size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`."""
        data = bytearray(size)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`."""
        done = 0
        while done < len(view):
            got = os.preadv(self.fd, [view[done:]], offset + done)
            if got == 0:
                raise UnsafeFile(f"{self.path.name} ends at byte {offset + done}, inside a tensor or a header",
                                 why=["the file is truncated, or shrank while it was read"],
                                 next="download it again")
            done += got

    def stream(self) -> BinaryIO:
        """The file as Python's libraries read one, from its first byte. It does not close this one."""
        return cast(BinaryIO, io.BufferedReader(_Stream(self)))

    def beside(self, name: str) -> InputFile:
        """The file of that name in the same folder, open. Raises as opening this one does."""
        return InputFile(self.path.with_name(name))

    def has_beside(self, name: str) -> bool:
        return self.path.with_name(name).exists()

    def is_at(self, path: Path) -> bool:
        """Does `path`, which exists, lead to this very file?"""
        return path.samefile(self.path)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class _Stream(io.RawIOBase):
    """A position in an InputFile."""

    def __init__(self, file: InputFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if at < 0:
            raise OSError(errno.EINVAL, "before the first byte")
        self._at = at
        return at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)[:max(self._file.size - self._at, 0)]
        self._file.read_into(view, self._at)
        self._at += len(view)
        return len(view)


_numbers = count(2)


def no_descriptor() -> int:
    """The `fd` of a file that has none: nobody else's."""
    return -next(_numbers)


class HeldFile(InputFile):
    """Bytes that a file spells in another way than it means them: held in memory, and read as a file is."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self.records = []
        self.fd = no_descriptor()
        self._content = bytearray()

    def put(self, data: bytes) -> int:
        """Add bytes; the offset at which they can be read."""
        self._content += data
        self.size = len(self._content)
        return self.size - len(data)

    def read_into(self, view: memoryview, offset: int) -> None:
        view[:] = self._content[offset:offset + len(view)]


def damaged(file: InputFile, record: Record) -> UnsafeFile:
    """The error for a record whose bytes do not have the CRC that the file claims for them."""
    return UnsafeFile(f"{file.path.name} is damaged: the bytes of {record.name} do not match their CRC-32",
                      next="download it again")


def _cannot_open(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no file {path}",
                          next="zooconv list  (for a name of the zoo: zooconv fetch-convert NAME)")
    if isinstance(error, OSError) and error.errno == errno.ENXIO:
        return UsageError(f"{path} is a socket, not a checkpoint file")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return UsageError(f"cannot open {path}: {reason}")


def _not_regular(path: Path, mode: int) -> UsageError:
    if stat.S_ISDIR(mode):
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", ".pth", ".bin", ".pt"))
        index = sorted(p.name for p in path.glob("*.index.json"))
        first = (index + inside)[:1]
        return UsageError(f"{path} is a folder, not a checkpoint file",
                          next=f"zooconv inspect {path / first[0]}" if first else "name a file in it")
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
    return UsageError(f"{path} is {kind}, not a checkpoint file")
