"""Checksums: SHA-256 of files and of tensors, the tree digest of a set of tensors, and CRC-32.

The **tree digest** names a set of tensors whatever file holds them: SHA-256 over the sorted lines
`name NUL dtype NUL shape NUL sha256(bytes) LF`, the bytes being little-endian in C order and the shape comma-separated.
The same weights in a `.pth` and in a `.safetensors` file have the same tree digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zooconv.tensor import Shape

try:  # ISA-L checks 57 GB/s where zlib checks 5; the value is the same.
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["FileDigest", "TensorDigest", "canonical_json", "crc32", "digest_in", "file_sha256", "strict_json",
           "text_sha256", "tree_digest"]


class TensorDigest(NamedTuple):
    """SHA-256 of one tensor's bytes."""

    name: str
    dtype: str
    shape: Shape
    sha256: str


class FileDigest(NamedTuple):
    """A file's name, its size in bytes, and its SHA-256."""

    file: str
    size: int
    sha256: str


def tree_digest(tensors: Iterable[TensorDigest]) -> str:
    """One SHA-256 for a set of tensors, independent of order and container."""
    lines = sorted(
        f"{t.name}\0{t.dtype}\0{','.join(map(str, t.shape))}\0{t.sha256}\n".encode() for t in tensors
    )
    return hashlib.sha256(b"".join(lines)).hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> FileDigest:
    """Hash a file from disk. Raises OSError."""
    with Path(path).open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(Path(path).name, os.fstat(file.fileno()).st_size, digest)


def digest_in(name: str) -> str | None:
    """The first digits of a file's SHA-256, where its name has them as torch's have: `resnet50-0676ba61.pth`.

    https://docs.pytorch.org/docs/stable/hub.html#torch.hub.load_state_dict_from_url (check_hash)
    """
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z0-9]+$", name)
    return found[1] if found else None


def canonical_json(value: object) -> str:
    """JSON with one spelling: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def strict_json(text: str) -> Any:
    """What JSON says, where it has one meaning. Raises ValueError for a key that stands twice and for NaN, too."""
    return json.loads(text, object_pairs_hook=_no_twice, parse_constant=_no_constant)


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"{key!r:.80} stands twice")
        made[key] = value
    return made


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
