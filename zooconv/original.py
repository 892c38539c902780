"""The original of a backbone, open beside the source: for what Detectron2 never had (`--fill-from`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zooconv.audit import Audit
from zooconv.checkpoint.open import Checkpoint
from zooconv.digest import FileDigest
from zooconv.errors import UsageError
from zooconv.mapping.family import Family, Layout
from zooconv.mapping.like import MARK, Like, original

if TYPE_CHECKING:
    from zooconv.hub import Fetched


@dataclass(frozen=True)
class Original:
    """An open file to fill from; `fetched` tells where on the hub it came from, if it did."""

    fetched: Fetched | None
    checkpoint: Checkpoint
    audit: Audit | None

    def like(self, family: Family[Any], target: Layout) -> tuple[Layout, Like]:
        """The target as this file has it, under the same prefix, and the file as an example for it.

        Raises UsageError where the target is no upstream's, CheckFailed where the file is not in its names.
        """
        dialect = target.upstream or next((d for d in family.dialects if d.name in target.names), None)
        if dialect is None:
            raise UsageError(f"--fill-from completes a file in the names of an upstream, and {target.name} is a layout",
                             why=[f"upstreams: {', '.join(d.name for d in family.dialects)}"],
                             next=f"--to {family.dialects[0].name}")
        like = original(family, dialect, self.checkpoint.specs, self.checkpoint.path.name)
        return replace(Layout.of(dialect), mount=like.fit.prefix), like

    @property
    def files(self) -> tuple[FileDigest, ...]:
        """Its files, as fetching them or the pass beside the conversion has measured them."""
        return self.fetched.files if self.fetched else self.audit.result() if self.audit else ()


def beside(source: Checkpoint, other: Checkpoint, marked: Iterable[str]) -> Checkpoint:
    """A source with some tensors of an original beside its own, by their marked names."""
    names = {name: name.removeprefix(MARK) for name in marked if name.startswith(MARK)}
    taken = {name: other.tensors[own] for name, own in names.items() if own in other.tensors}
    return replace(source, tensors={**source.tensors, **taken}, files=source.files + other.files)
