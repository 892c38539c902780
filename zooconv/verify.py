"""Artifacts on disk against their records: is every file still the one that was written?"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from zooconv.check import tensor_digests
from zooconv.checkpoint.open import open_checkpoint
from zooconv.digest import file_sha256, tree_digest
from zooconv.errors import UsageError, ZooError
from zooconv.registry import Record, Registry

Status = Literal["ok", "changed", "missing"]


class Outcome(NamedTuple):
    """What became of one artifact."""

    name: str
    file: str
    status: Status
    why: str = ""


def verify(registry: Registry, names: Sequence[str] = ()) -> Iterable[Outcome]:
    """Re-hash the named artifacts, or all: the file, and every tensor that our reader finds in it.

    A name is a whole one (`convnext_tiny_22k/d2`), a model's (`convnext_tiny_22k`), a file's, or a pattern. Raises
    UsageError for a name that the registry does not have.
    """
    wanted = list(registry.records) if not names else [n for name in names for n in _matching(registry, name)]
    for name in dict.fromkeys(wanted):
        record = registry.records[name]
        yield Outcome(name, record.path, *_one(registry, record))


def _matching(registry: Registry, name: str) -> list[str]:
    found = [n for n, record in registry.records.items()
             if n == name or n.startswith(f"{name}/") or record.path == name or fnmatch.fnmatchcase(n, name)]
    if not found:
        known = ", ".join(list(registry.records)[:12]) or "it is empty"
        raise UsageError(f"{registry.path} has no artifact {name!r}", why=[f"it has {known}"], next="zooconv verify")
    return found


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
