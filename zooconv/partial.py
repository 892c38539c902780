"""A source that is fetched in part: which tensors a plan needs, and what is known of the rest."""

from __future__ import annotations

from collections.abc import Mapping

from zooconv.certificate import Certificate
from zooconv.checkpoint.open import Checkpoint
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import leaves
from zooconv.mapping.plan import Plan
from zooconv.names import HubSource, LocalSource, Source
from zooconv.registry import Record

REASON = ("in safetensors, the header says where each tensor is, and nothing else in the file matters; in a file of "
          "torch, what the tensors are is a program, for which only the digest of the whole file vouches")


def must_be_distant(source: Source) -> None:
    """Raise UsageError for a source of which no part is fetched: a file that is here, or at an address."""
    if isinstance(source, LocalSource):
        raise UsageError(f"{source.path} is here already: nothing is fetched", next="leave out --partial")
    if not isinstance(source, HubSource):
        raise UsageError(f"{source.url} is not fetched in part", next="leave out --partial",
                         why=["there, nothing vouches for the bytes but a digest of them all"])


def must_be_divisible(checkpoint: Checkpoint) -> None:
    """Raise UsageError for a container that is not read in part."""
    if not checkpoint.format.startswith("safetensors"):
        raise UsageError(f"{checkpoint.path.name} ({checkpoint.format}) is not fetched in part", why=[REASON],
                         next="leave out --partial")


def unread(plan: Plan, checkpoint: Checkpoint) -> frozenset[str]:
    """The source's tensors that nothing asks for: dropped, no condition on them, and no part of the backbone."""
    values = [*(move.value for move in plan.moves), *plan.canonical.values(), *plan.placed.values()]
    needed = {leaf.name for value in values for leaf in leaves(value)}
    needed |= {*plan.same_as, *plan.same_as.values(), *plan.known}
    return frozenset(plan.dropped) & checkpoint.tensors.keys() - needed


def keep_needed(checkpoint: Checkpoint, left: frozenset[str]) -> None:
    """Fetch all tensors of a distant checkpoint but those that are `left`."""
    from zooconv.sources.ranged import RemoteFile

    for file in checkpoint.files:
        if isinstance(file, RemoteFile):
            file.keep((t.offset, t.offset + t.nbytes) for name, t in checkpoint.tensors.items()
                      if t.file is file and name not in left)


def hold_against_known(certificate: Certificate, records: Mapping[str, Record], version: str) -> None:
    """Compare the backbone that was read with that of any artifact made of the very same file, when it came whole.

    Raises CheckFailed where they differ: then what was served is not the file.
    """
    mine = (certificate.family, version, _chosen(certificate.options), certificate.source.files)
    for name, record in records.items():
        source, made = record.source, record.converter
        known = source.content.canonical if source.content and source.verified is None else None
        if known and known != certificate.source.canonical and mine == (
                made.name, made.version, _chosen(made.options), source.files):
            raise CheckFailed("the tensors that were fetched are not those of the file that they should be of",
                              why=[f"fetched: canonical digest {certificate.source.canonical}",
                                   f"known:   canonical digest {known}, of {name}, made of the whole file"],
                              next="nothing was put in place; fetch the whole file: leave out --partial")


def _chosen(options: Mapping[str, object]) -> tuple[object, ...]:
    """The options that decide which tensors of a file are its backbone."""
    return tuple(options.get(key) for key in ("ema", "key", "prefix"))
