"""Artifacts on disk against their records: is every file still the one that was written?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from zooconv.certificate import Certificate, certificate_path, check_certificate, read_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.digest import file_sha256, tree_digest
from zooconv.errors import CheckFailed, SourceUnavailable, ZooError
from zooconv.provenance import original_of, source_of
from zooconv.registry import Record, Registry
from zooconv.reread import tensor_digests

if TYPE_CHECKING:
    from zooconv.hub import Hub

PARTIAL = "its source was fetched in part, and is as the hub states it; --certificate fetches all of it and checks"
Status = Literal["ok", "changed", "missing"]


class Outcome(NamedTuple):
    """What became of one artifact."""

    name: str
    file: str
    status: Status
    why: str = ""


def verify(registry: Registry, names: Sequence[str] = (), *, certificate: bool = False, source: Path | None = None,
           hub: Hub | None = None) -> Iterable[Outcome]:
    """Re-hash the named artifacts, or all: the file, and every tensor that our reader finds in it.

    With `certificate`, the certificate as well, against the artifact and its source, which must be at hand (see
    `zooconv.provenance.source_of`). A name is a whole one (`convnext_tiny_22k/d2`), a model's (`convnext_tiny_22k`), a
    file's, or a pattern. Raises UsageError for a name that the registry does not have.
    """
    for name in registry.matching(*names):
        record = registry.records[name]
        status, why = _one(registry, record)
        if status == "ok" and certificate and (wrong := certificate_faults(registry, record, source, hub)):
            status, why = "changed", f"certificate: {wrong[0]}" + (f" … and {len(wrong) - 1} more" if wrong[1:] else "")
        elif status == "ok" and record.source.verified == "partial" and not certificate:
            why = PARTIAL
        yield Outcome(name, record.path, status, why)


def certificate_faults(registry: Registry, record: Record, source: Path | None = None,
                       hub: Hub | None = None) -> list[str]:
    """What contradicts an artifact's certificate: its record, its source, or the artifact itself.

    A source that is not at hand is such a thing, too. Raises UsageError where there is no certificate.
    """
    path = registry.artifact(record)
    certificate = read_certificate(certificate_path(path))
    if faults := unrecorded(certificate, record):
        return faults
    try:
        with (source_of(record, registry, given=source, hub=hub) as origin, open_checkpoint(path) as artifact,
              original_of(record, registry, hub=hub) as original):
            return check_certificate(certificate, origin, artifact, original)
    except (SourceUnavailable, CheckFailed) as error:
        return [str(error)]


def unrecorded(certificate: Certificate, record: Record) -> list[str]:
    """What is wrong with a certificate before either file is opened: it is another than the recorded one."""
    return [] if certificate.sha256 == record.output.certificate else ["it is not the one that was recorded"]


def _one(registry: Registry, record: Record) -> tuple[Status, str]:
    path = registry.artifact(record)
    if not path.exists():
        return "missing", f"no file {path}"
    expected = record.output.files[0]
    try:
        found = file_sha256(path)
        if found.sha256 != expected.sha256:
            return "changed", f"sha256 {found.sha256[:12]}…, recorded {expected.sha256[:12]}…"
        with open_checkpoint(path) as checkpoint:
            tree = tree_digest(tensor_digests(checkpoint.tensors))
    except (OSError, ZooError) as error:
        return "changed", f"cannot be read: {error}"
    return ("ok", "") if tree == record.output.content.tree else ("changed", "the tensors differ from the record")
