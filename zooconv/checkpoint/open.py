"""Opening a checkpoint: what container it is by its bytes, not by its name, and its tensors, still unread."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zooconv.checkpoint import shards
from zooconv.checkpoint.container import unwrap
from zooconv.checkpoint.plain_pickle import read_plain_pickle
from zooconv.checkpoint.safetensors import MAX_HEADER, read_safetensors
from zooconv.checkpoint.torch_legacy import is_torch_legacy, read_torch_legacy
from zooconv.checkpoint.torch_zip import read_torch_zip
from zooconv.errors import UnsafeFile, UsageError, ZooError
from zooconv.files import InputFile
from zooconv.tensor import LazyTensor, TensorSpec

Reader = Callable[[InputFile], Any]


class OnlyWhole(UsageError):
    """A distant file of which nothing is known until all of it is here."""


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint: its tensors by name, and all that is known of where they lay.

    `format` is its container, `wrapper` the keys under which the weights stood, `beside` what else is in the file.
    A context manager: closing it closes its files.
    """

    path: Path
    format: str
    tensors: Mapping[str, LazyTensor]
    wrapper: tuple[str, ...]
    beside: tuple[str, ...]
    files: tuple[InputFile, ...]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """The tensors' headers."""
        return {name: TensorSpec(name, t.shape, t.dtype) for name, t in self.tensors.items()}

    @property
    def tied(self) -> list[tuple[str, str]]:
        """Pairs of names for the very same bytes; each is read as a tensor of its own."""
        first: dict[tuple[object, ...], str] = {}
        pairs = []
        for name, t in self.tensors.items():
            place = (t.file.fd, t.offset, t.dtype, t.shape, t.strides)
            if t.nbytes and first.setdefault(place, name) != name:
                pairs.append((first[place], name))
        return pairs

    def close(self) -> None:
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def open_checkpoint(path: str | Path | InputFile, *, ema: bool | None = None, key: str | None = None,
                    strays: bool = False) -> Checkpoint:
    """Open a checkpoint of any container that zooconv reads, by its path, or as the file that was opened for it.

    Nothing in the file is executed.

    `ema` and `key` choose among several sets of weights in one file; `strays` passes over what is no tensor among them
    (see `unwrap`). Raises UsageError for a path that is no file
    or a choice that is open, UnsafeFile for a file that is malformed, damaged or not a container that zooconv reads,
    OnlyWhole for a distant one whose headers cannot be read alone.
    """
    with ExitStack() as undo:
        file = undo.enter_context(path if isinstance(path, InputFile) else InputFile(path))
        format_, read = sniff(file)
        files: tuple[InputFile, ...] = (file,)
        if read is None:
            tree, parts, format_ = _sharded(file, undo)
            files += parts
        else:
            tree = read(file)
        try:
            found = unwrap(tree, ema=ema, key=key, strays=strays)
        except ZooError as error:
            error.what = f"{file.path.name}: {error.what}"
            raise
        undo.pop_all()
        return Checkpoint(file.path, format_, found.tensors, found.wrapper, found.beside, files)


def _sharded(index: InputFile, undo: ExitStack) -> tuple[dict[str, LazyTensor], tuple[InputFile, ...], str]:
    where = shards.read_index(index)
    tensors: dict[str, LazyTensor] = {}
    held: dict[str, set[str]] = {}
    files, format_ = [], ""
    for name in shards.shard_names(index, where):
        file = undo.enter_context(index.beside(name))
        format_, read = sniff(file)
        if read is None:
            raise UnsafeFile(f"{name}, a shard of {index.path.name}, is an index itself")
        part = unwrap(read(file)).tensors
        held[name] = set(part)
        tensors |= part
        files.append(file)
    shards.compare(index.path.name, where, held)
    return {name: tensors[name] for name in where}, tuple(files), f"{format_}, {len(files)} shards"


def sniff(file: InputFile) -> tuple[str, Reader | None]:
    """The container that a file's first bytes announce, and its reader; an index of shards has none of its own.

    Raises UnsafeFile, with the way out, for everything else.
    """
    head = file.read(0, min(512, file.size))
    for announces, name, reader, way_out in CONTAINERS:
        if announces(head):
            if way_out:
                raise UnsafeFile(f"{file.path.name} is {name}", next=way_out)
            if file.distant and reader in (read_torch_legacy, read_plain_pickle):
                raise OnlyWhole(f"{file.path.name} ({name}) has no headers apart from its tensors",
                                why=["to know what it is, all of it must be read"], next="fetch it: zooconv fetch NAME")
            return name, reader
    raise UnsafeFile(f"{file.path.name} is no checkpoint that zooconv knows",
                     why=[f"it begins with the bytes {head[:8].hex(' ')}"])


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and struct.unpack("<Q", head[:8])[0] <= MAX_HEADER and head[8:].lstrip()[:1] == b"{"


# How a file begins, what it then is, who reads it, and what to do about one that nobody reads here. Order matters:
# the first that fits is taken. A reader for .npz will take its row's place.
_RESAVE = "load it where you trust it, and save it once more with torch.save or safetensors"
CONTAINERS: list[tuple[Callable[[bytes], bool], str, Reader | None, str]] = [
    (lambda head: not head, "an empty file", None, "download it again"),
    (_is_safetensors, "safetensors", read_safetensors, ""),
    (lambda head: head[:4] == b"PK\3\4", "torch zip", read_torch_zip, ""),
    (lambda head: head.lstrip()[:1] == b"{", "shard index", None, ""),
    (lambda head: head[:23] == b"version https://git-lfs", "a git-lfs pointer, not the weights", None, "git lfs pull"),
    (is_torch_legacy, "torch legacy", read_torch_legacy, ""),
    (lambda head: head[257:262] == b"ustar", "a tar archive, or a torch file of before version 0.2", None, _RESAVE),
    (lambda head: head[:1] == b"\x80", "pickle", read_plain_pickle, ""),
    (lambda head: head[:6] == b"\x93NUMPY", "a numpy array", None, _RESAVE),
    (lambda head: head[:2] == b"\x1f\x8b", "compressed with gzip", None, "gunzip it first"),
    (lambda head: head.lstrip()[:1] == b"<", "a web page, perhaps of a login or a proxy", None, "download it again"),
]
