"""Tensors of an open checkpoint, read for their checksums alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from zooconv.digest import TensorDigest, crc32
from zooconv.pump import CHUNK
from zooconv.tensor import LazyTensor


def tensor_digests(tensors: Mapping[str, LazyTensor]) -> list[TensorDigest]:
    """SHA-256 of every tensor of an open checkpoint, from its file."""
    return [TensorDigest(name, t.dtype, t.shape, reread(t, sha=True)[1]) for name, t in tensors.items()]


def reread(tensor: LazyTensor, *, sha: bool) -> tuple[int, str]:
    """CRC-32 of a tensor's bytes as they are on disk and, if asked for, their SHA-256."""
    crc, digest = 0, hashlib.sha256()
    if tensor.strides is not None:
        data = tensor.array().tobytes()
        return crc32(data), hashlib.sha256(data).hexdigest()
    buffer = memoryview(bytearray(min(CHUNK, tensor.nbytes)))
    for at, size in tensor.chunks(CHUNK):
        view = buffer[:size]
        tensor.file.read_into(view, at)
        crc = crc32(view, crc)
        if sha:
            digest.update(view)
    return crc, digest.hexdigest()
