"""The source as a whole: SHA-256 of each of its files, and the CRC-32 of every record that nobody else checks.

Runs beside everything else, in a thread of its own, from the moment the source is open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from zooconv.digest import FileDigest, crc32
from zooconv.files import InputFile, Record, damaged

_CHUNK = 1 << 18


class Audit:
    """A pass over files, under way. `result` waits for it.

    `covered` may be told, once it is known, which records are checked elsewhere, as (file descriptor, offset).
    """

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.files = files
        self.covered: set[tuple[int, int]] = set()
        self._digests: list[FileDigest] = []
        self._error: BaseException | None = None
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> tuple[FileDigest, ...]:
        """The digests of all files. Raises UnsafeFile where a record is damaged, or a file ends too soon."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return tuple(self._digests)

    def stop(self) -> None:
        """End the pass, done or not."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for file in self.files:
                self._digests.append(self._one(file))
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def _one(self, file: InputFile) -> FileDigest:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
        ahead = sorted((r for r in file.records if r.crc is not None), key=lambda r: r.offset, reverse=True)
        crc = 0
        for at in range(0, file.size, _CHUNK):
            if self._stopped.is_set():
                break
            view = buffer[:min(_CHUNK, file.size - at)]
            file.read_into(view, at)
            digest.update(view)
            while ahead and ahead[-1].offset < at + len(view):
                record = ahead[-1]
                if (file.fd, record.offset) not in self.covered:
                    crc = crc32(_overlap(view, at, record), crc)
                if record.offset + record.size > at + len(view):
                    break
                if (file.fd, record.offset) not in self.covered and crc != record.crc:
                    raise damaged(file, record)
                ahead.pop()
                crc = 0
        return FileDigest(file.path.name, file.size, digest.hexdigest())


@contextmanager
def auditing(files: Sequence[InputFile], *, wanted: bool) -> Iterator[Audit | None]:
    """An audit of these files that ends with the block, or none."""
    audit = Audit(files) if wanted else None
    try:
        yield audit
    finally:
        if audit is not None:
            audit.stop()


def _overlap(view: memoryview, at: int, record: Record) -> memoryview:
    """The part of a record that lies in the `view` of a file from byte `at`."""
    return view[max(record.offset - at, 0):max(record.offset + record.size - at, 0)]
