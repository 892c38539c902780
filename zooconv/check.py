"""The mandatory validation of what was written: the file is opened again, and nothing is taken from memory.

Our reader must find every tensor of the plan at the byte where the writer's frame has it, with its name, shape and
dtype; and every byte, a tensor's or the frame's, must give the CRC-32 that was measured on its way out. With `digests`,
every tensor is hashed once more as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.write import Writer
from zooconv.digest import TensorDigest, crc32
from zooconv.errors import CheckFailed, UnsafeFile
from zooconv.execute import Written
from zooconv.files import InputFile
from zooconv.mapping.plan import Moves
from zooconv.reread import reread
from zooconv.tensor import LazyTensor, TensorSpec


def check_written(path: Path, plan: Moves, writer: Writer, written: Written, *, digests: bool = False) -> None:
    """Hold the file at `path` against the plan and the pass that wrote it.

    Raises CheckFailed, listing every tensor that is not as planned.
    """
    try:
        checkpoint = open_checkpoint(path)
    except UnsafeFile as error:
        raise CheckFailed("the file that was written cannot be read back", why=[str(error)], next=_NEXT) from None
    with checkpoint:
        wrong = [f"{spec.name}: not in the file" for spec in plan.targets if spec.name not in checkpoint.tensors]
        wrong += [f"{name}: not in the plan" for name in checkpoint.tensors.keys() - {s.name for s in plan.targets}]
        if not wrong:
            for offset, crc, digest in zip(writer.offsets, written.crcs, written.target, strict=True):
                tensor = checkpoint.tensors[digest.name]
                wrong += [f"{digest.name}: {why}" for why in _faults(tensor, digest, offset, crc, digests=digests)]
        wrong += _around(checkpoint.files[0], plan.targets, writer, written.frame)
    if wrong:
        raise CheckFailed("the file that was written is not as planned", why=wrong[:20], next=_NEXT)


_NEXT = "the disk or the memory may be failing; nothing was put in place"


def _around(file: InputFile, specs: Sequence[TensorSpec], writer: Writer, frame: int) -> Sequence[str]:
    """What is wrong with the bytes around the tensors."""
    if file.size != writer.size:
        return [f"it has {file.size:,} bytes, must have {writer.size:,}"]
    crc = at = 0
    for spec, offset in zip(specs, writer.offsets, strict=True):
        crc, at = crc32(file.read(at, offset - at), crc), offset + spec.nbytes
    crc = crc32(file.read(at, file.size - at), crc)
    return [] if crc == frame else [f"the bytes around its tensors have the CRC-32 {crc:08x}, must have {frame:08x}"]


def _faults(tensor: LazyTensor, digest: TensorDigest, offset: int, crc: int, *, digests: bool) -> Sequence[str]:
    if (tensor.dtype, tensor.shape) != (digest.dtype, digest.shape):
        return [f"has {tensor.dtype} {tensor.shape}, must have {digest.dtype} {digest.shape}"]
    if tensor.nbytes and (tensor.offset != offset or not tensor.fills_record):
        return [f"lies at byte {tensor.offset:,}, must lie at {offset:,}"]
    found, sha256 = reread(tensor, sha=digests)
    if found != crc or tensor.record.crc not in (None, crc):
        return [f"its bytes have the CRC-32 {found:08x}, must have {crc:08x}"]
    if digests and sha256 != digest.sha256:
        return [f"its bytes have the SHA-256 {sha256}, must have {digest.sha256}"]
    return []
