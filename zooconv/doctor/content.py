"""What a file is by its bytes, and what lies in it: as far as that can be known, also of files that nobody can use."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zooconv.checkpoint.open import sniff
from zooconv.checkpoint.pickle_vm import Window
from zooconv.checkpoint.torch_zip import MAX_PICKLE
from zooconv.doctor.pickles import Scan, scan
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile


@dataclass(frozen=True)
class Content:
    """A file's container, its first bytes, and what it holds.

    `format` is as `zooconv.checkpoint.open` names it, or one of `torchscript`, `npz`, `zip`, `damaged`. `tree` is what
    our reader made of it, its tensors still in the file; `trouble` says why it made nothing of it. `scan` tells of its
    pickle, and `records` are the names in a zip archive.
    """

    path: Path
    format: str
    head: bytes
    tree: Any = None
    trouble: UnsafeFile | None = None
    scan: Scan = field(default_factory=Scan)
    records: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        return self.trouble is None


@contextmanager
def looking_into(path: Path) -> Iterator[Content]:
    """What a file is; its tensors can be read inside the block. Raises UsageError for a path that is no file."""
    with InputFile(path) as file:
        head = file.read(0, min(512, file.size))
        tree, trouble, reader = None, None, None
        try:
            format_, reader = sniff(file)
            tree = reader(file) if reader else None
        except UnsafeFile as error:
            trouble = error
            format_ = format_ if reader else _other(head)
        if format_ == "torch zip":
            yield _zip(file, head, tree, trouble)
        else:
            pickles = {"torch legacy": 5, "pickle": 1}.get(format_, 1)
            yield Content(path, format_, head, tree, trouble, scan(Window(file), pickles))


def _other(head: bytes) -> str:
    """A container that has no reader here, in a word."""
    if not head:
        return "empty"
    if head[257:262] == b"ustar":
        return "tar"
    page = "html" if head.lstrip()[:1] == b"<" else "unknown"
    return {b"\x93N": "npy", b"\x1f\x8b": "gzip", b"ve": "git-lfs"}.get(head[:2], page)


def _zip(file: InputFile, head: bytes, tree: Any, trouble: UnsafeFile | None) -> Content:
    """Which of the zip archives it is."""
    try:
        with file.stream() as stream, zipfile.ZipFile(stream) as archive:
            names = tuple(archive.namelist())
            root = names[0].split("/")[0] if names else ""
            pickled = b""
            if f"{root}/data.pkl" in names:
                with archive.open(f"{root}/data.pkl") as record:
                    pickled = record.read(MAX_PICKLE)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError):
        return Content(file.path, "damaged", head, trouble=trouble)
    if f"{root}/constants.pkl" in names:
        kind = "torchscript"
    elif pickled:
        kind = "torch zip"
    else:
        kind = "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
    return Content(file.path, kind, head, tree, trouble, scan(pickled), names)
