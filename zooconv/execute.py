"""A plan carried out: one pass over the source, one over the target, memory bounded by the largest move.

Tensors go out in the plan's order. On their way every chunk is checked for NaN and Inf, summed for the record's CRC-32,
written, and hashed twice, for the tensor and for the file; a further thread hashes the source as a whole. A move that
only renames or reshapes is streamed; any other is made in memory, its elements opaque.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zooconv.atomic import Draft
from zooconv.audit import Audit
from zooconv.canonical import canonical_digests, expression_sha256, leaf_digests
from zooconv.checkpoint.open import Checkpoint
from zooconv.checkpoint.write import Writer
from zooconv.digest import FileDigest, TensorDigest, crc32, tree_digest
from zooconv.errors import CheckFailed
from zooconv.files import damaged
from zooconv.finite import finite_check
from zooconv.mapping.expr import Expr, bytes_of, evaluate, leaves, stream
from zooconv.mapping.plan import LEFT, Moves
from zooconv.pump import CHUNK, Pump, Watch, pumping
from zooconv.tensor import LazyTensor, TensorSpec, array_bytes

if TYPE_CHECKING:
    from zooconv.tensor import Array


@dataclass(frozen=True)
class Written:
    """What a pass measured: digests of both sides and of what each means, CRC-32 of targets, those with NaN or Inf.

    `frame` is the CRC-32 of all bytes of the file that are no tensor's. `canonical` are the canonical tensors of the
    source, `placed` those of the target; `filled` are the tensors that came from an original;
    `unread` those of the source that were not looked at.
    """

    file: FileDigest
    target: tuple[TensorDigest, ...]
    crcs: tuple[int, ...]
    frame: int
    source_files: tuple[FileDigest, ...]
    source: tuple[TensorDigest, ...]
    canonical: tuple[TensorDigest, ...]
    placed: tuple[TensorDigest, ...]
    nonfinite: tuple[str, ...]
    filled: tuple[TensorDigest, ...] = ()
    unread: tuple[TensorSpec, ...] = ()


def execute(plan: Moves, checkpoint: Checkpoint, draft: Draft, writer: Writer, audit: Audit | None, *,
            allow_nonfinite: bool = False, unread: Collection[str] = (), watch: Watch = lambda size: None) -> Written:
    """Write the plan's targets into `draft`, through `writer`'s frame.

    `audit` is the pass over the source as a whole, or None where its digests are known already. `watch` is told each
    number of bytes written. Dropped tensors that are `unread` are not hashed. Raises CheckFailed where tensors are not
    finite or a dropped one breaks its condition, UnsafeFile where the source is damaged, ZooError where the disk is
    full.
    """
    draft.allocate(writer.size)
    with pumping() as pump:
        work = _Work(plan, checkpoint, draft, writer, pump=pump, watch=watch)
        if audit is not None:
            audit.covered = work.covered
        for index, move in enumerate(plan.moves):
            work.target(index, move.target, move.value)
        for name in plan.dropped:
            if name not in unread:
                work.source_only(name)
        target, source = work.digests()
        canonical, placed = work.canonical(target, source)
        file = work.finish(tree_digest(target))
        draft.sync()
    files = audit.result() if audit is not None else ()
    _check_dropped(plan, {t.name: t.sha256 for t in source})
    if work.nonfinite and not allow_nonfinite:
        raise CheckFailed(f"{len(work.nonfinite)} tensors hold NaN or Inf",
                          why=[*work.nonfinite[:20], *_too_large(plan, work.nonfinite)],
                          next="if that is how they must be: --allow-nonfinite")
    own, filled = (tuple(d for d in source if (d.name in plan.filled) == other) for other in (False, True))
    return Written(file, target, tuple(work.crcs), work.frame, files, own, canonical, placed,
                   tuple(work.nonfinite), filled, tuple(spec for n, spec in checkpoint.specs.items() if n in unread))


class _Work:
    """The state of one pass."""

    def __init__(self, plan: Moves, checkpoint: Checkpoint, draft: Draft, writer: Writer, *, pump: Pump,
                 watch: Watch) -> None:
        self.plan, self.tensors, self.draft, self.writer = plan, checkpoint.tensors, draft, writer
        self.pump, self.watch = pump, watch
        self.file_hash, self.file_lane = hashlib.sha256(), pump.lane()
        self.tensor_lane = pump.lane()
        self.target_hash: list[tuple[TensorSpec, hashlib._Hash]] = []
        self.source_hash: dict[str, hashlib._Hash] = {}
        self.crcs: list[int] = []
        self.frame = 0
        self.nonfinite: list[str] = []

    @property
    def covered(self) -> set[tuple[int, int]]:
        """The records whose CRC-32 this pass checks itself, because it reads them whole: (descriptor, offset)."""
        read = {leaf.name for move in self.plan.moves if (leaf := stream(move.value))} | set(self.plan.dropped)
        return {(t.file.fd, t.record.offset) for t in (self.tensors[name] for name in read) if t.fills_record}

    # -- tensors -----------------------------------------------------------------------------------------------------

    def target(self, index: int, spec: TensorSpec, value: Expr) -> None:
        """Write one target tensor."""
        digest = hashlib.sha256()
        self.target_hash.append((spec, digest))
        self._around(self.writer.before(index))
        leaf = stream(value)
        tensor = self.tensors[leaf.name] if leaf else None
        if leaf is not None and tensor is not None and tensor.strides is None:
            crc, finite = self._copy(tensor, digest, write=True)
            self.source_hash.setdefault(leaf.name, digest)
        else:
            crc, finite = self._put(self._made(value), spec.dtype, digest)
        if not finite:
            self.nonfinite.append(spec.name)
        self.crcs.append(crc)
        self._around(self.writer.after(index, crc))

    def source_only(self, name: str) -> None:
        """Hash a source tensor that is not written: the source's tree digest knows it."""
        if name in self.source_hash:
            return
        tensor = self.tensors[name]
        digest = self.source_hash[name] = hashlib.sha256()
        if tensor.strides is None:
            self._copy(tensor, digest, write=False)
        else:
            self._hash(tensor.array(), digest)

    def _copy(self, tensor: LazyTensor, digest: hashlib._Hash, *, write: bool) -> tuple[int, bool]:
        """Stream a tensor, chunk by chunk, to its hash and, if it is wanted, to the target."""
        check = finite_check(tensor.dtype) if write else None
        crc, finite, lanes = 0, True, (2 if write else 1)
        for offset, size in tensor.chunks(CHUNK):
            buffer = self.pump.take(lanes)
            view = buffer.view[:size]
            tensor.file.read_into(view, offset)
            self.tensor_lane.put(digest.update, view, buffer)
            crc = crc32(view, crc)
            if write:
                finite = finite and (check is None or check(view))
                self.draft.write(view)
                self.file_lane.put(self.file_hash.update, view, buffer)
                self.watch(size)
        if tensor.fills_record and tensor.record.crc not in (None, crc):
            raise damaged(tensor.file, tensor.record)
        return crc, finite

    def _made(self, value: Expr) -> Array:
        """An expression's value; the source tensors that it reads are hashed on the way."""
        arrays: dict[str, Array] = {}
        for leaf in leaves(value):
            if leaf.name not in arrays:
                arrays[leaf.name] = self.tensors[leaf.name].array()
                if leaf.name not in self.source_hash:
                    digest = self.source_hash[leaf.name] = hashlib.sha256()
                    self._hash(arrays[leaf.name], digest)
        return evaluate(value, arrays.__getitem__)

    def _hash(self, array: Array, digest: hashlib._Hash) -> None:
        self.tensor_lane.put(digest.update, array_bytes(array))

    def _put(self, array: Array, dtype: str, digest: hashlib._Hash) -> tuple[int, bool]:
        """Write a tensor that lies in memory."""
        data, check = array_bytes(array), finite_check(dtype)
        self.tensor_lane.put(digest.update, data)
        self._emit(data)
        self.watch(len(data))
        return crc32(data), check is None or check(data)

    # -- the file ----------------------------------------------------------------------------------------------------

    def _around(self, data: bytes) -> None:
        """Write bytes of the frame."""
        self.frame = crc32(data, self.frame)
        self._emit(data)

    def _emit(self, data: bytes | memoryview) -> None:
        self.draft.write(data)
        self.file_lane.put(self.file_hash.update, memoryview(data))

    def digests(self) -> tuple[tuple[TensorDigest, ...], tuple[TensorDigest, ...]]:
        """The digests of all target tensors and of all source tensors, once they are ready."""
        self.tensor_lane.wait()
        target = tuple(TensorDigest(s.name, s.dtype, s.shape, h.hexdigest()) for s, h in self.target_hash)
        source = tuple(TensorDigest(name, self.tensors[name].dtype, self.tensors[name].shape, h.hexdigest())
                       for name, h in self.source_hash.items())
        return target, source

    def canonical(self, target: Iterable[TensorDigest], source: Iterable[TensorDigest]
                  ) -> tuple[tuple[TensorDigest, ...], tuple[TensorDigest, ...]]:
        """The digests of all canonical tensors of either side, most of which are those of a tensor of its file."""
        written = {bytes_of(move.value): digest.sha256 for move, digest in zip(self.plan.moves, target, strict=True)}
        known = written | leaf_digests(source)
        here = canonical_digests(self.plan.canonical, self.tensors, known)
        known |= {bytes_of(self.plan.canonical[digest.name]): digest.sha256 for digest in here}
        return here, canonical_digests(self.plan.placed, self.tensors, known)

    def finish(self, tree: str) -> FileDigest:
        """Write the end of the file; its digest."""
        self._around(self.writer.end(tree))
        self.file_lane.wait()
        return FileDigest(self.draft.target.name, self.writer.size, self.file_hash.hexdigest())


def _too_large(plan: Moves, nonfinite: Collection[str]) -> list[str]:
    """What a cast may have to do with it."""
    cast = any(move.target.name in nonfinite and move.target.dtype == "F16"
               and any(leaf.dtype != "F16" for leaf in leaves(move.value)) for move in plan.moves)
    return ["float16 ends at 65504, and makes Inf of larger numbers; bfloat16 reaches as far as float32"] * cast


def _check_dropped(plan: Moves, sha256: Mapping[str, str]) -> None:
    """Hold the tensors that were dropped on a condition against it."""
    odd = [f"{name} differs from {other}, whose second name it should be" for name, other in plan.same_as.items()
           if sha256[name] != sha256.get(other)]
    other = {name: value for name, value in plan.known.items() if sha256[name] != expression_sha256(value, {})}
    trained = [name for name in other if plan.dropped[name] == LEFT]
    odd += [f"{name} is not {value}" + (", as it was before training" if name in trained else "")
            for name, value in other.items()]
    if odd:
        raise CheckFailed(f"{len(odd)} tensors would be lost: {plan.title} has no place for them", why=odd[:20],
                          next="--drop-trained  (leaves behind what was trained, and says so)" if trained else
                          "zooconv layouts  (for one that has)")
