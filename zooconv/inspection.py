"""What a file is, said without writing anything: container, family, dialect, config, and what it can become."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zooconv.canonical import canonical_digest
from zooconv.checkpoint.open import Checkpoint
from zooconv.errors import CheckFailed, ZooError
from zooconv.mapping.family import Layout, config_facts
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import make_plan
from zooconv.output import facts, megabytes, some
from zooconv.plugins import all_layouts, families
from zooconv.recognise import recognise
from zooconv.report import dropped_lines, fetched_line, identity_line, where

if TYPE_CHECKING:
    from zooconv.hub import Fetched


@dataclass(frozen=True)
class Inspection:
    """A checkpoint's description as plain data; `error` says why no family has it, if none has."""

    data: dict[str, Any]
    error: ZooError | None = None

    @property
    def text(self) -> str:
        """The description for people."""
        data = self.data
        dtypes = ", ".join(f"{n} {dtype}" for dtype, n in data["dtypes"].items())
        head = [("file", where(data)), ("fetched", fetched_line(data)), ("container", data["format"]),
                ("weights under", ".".join(data["wrapper"])), ("beside them", some(data["beside"], 6)),
                ("tensors", f"{data['tensors']}  ({dtypes}; {data['params']:,} elements, {megabytes(data['bytes'])})"),
                ("tied", some([f"{a} = {b}" for a, b in data["tied"]]))]
        if self.error is not None:
            return facts(*head, ("is", "\n".join(["not recognised: " + self.error.what, *self.error.why])))
        mine = {**data, "source": {"prefix": data["prefix"]}}
        return facts(*head, ("is", identity_line(mine)),
                     ("canonical", data["canonical"] or ("not known from headers alone" if "fetched" in data else "")),
                     ("would drop", "\n".join(dropped_lines(data["dropped"])) or "nothing"),
                     ("can become", "\n".join(filter(None, [", ".join(data["layouts"]), _named(data["upstreams"])]))),
                     ("cannot become", "\n".join(f"{name}: {why}" for name, why in data["not_layouts"].items())))


def inspect_checkpoint(checkpoint: Checkpoint, prefix: str | None = None, *, digest: bool = True,
                       fetched: Fetched | None = None) -> Inspection:
    """Describe an open checkpoint. What no family recognises is described as far as it goes.

    `fetched` tells where it is, if it is not local. `digest` asks for the canonical digest, for which every tensor is
    read: not of a file of which only the headers came.
    """
    tensors = checkpoint.tensors
    data: dict[str, Any] = {
        "file": str(checkpoint.path), "format": checkpoint.format, "wrapper": list(checkpoint.wrapper),
        "beside": list(checkpoint.beside), "tied": checkpoint.tied, "tensors": len(tensors),
        "params": sum(math.prod(t.shape) for t in tensors.values()), "bytes": sum(t.nbytes for t in tensors.values()),
        "dtypes": dict(sorted(Counter(t.dtype for t in tensors.values()).items())),
        **(fetched.data if fetched else {}),
    }
    ranged = fetched is not None and fetched.transfer is not None
    try:
        found = recognise(checkpoint.specs, families(), what=checkpoint.path.name, prefix=prefix)
    except ZooError as error:
        return Inspection(data | {"family": None, "why": [error.what, *error.why]}, error)
    layouts, not_layouts = _targets(found, all_layouts(found.family))
    for other in _otherwise(checkpoint, found, prefix):
        more, not_more = _targets(other, all_layouts(other.family))
        layouts += [name for name in more if name not in layouts]
        not_layouts = not_more | not_layouts
    upstreams, _ = _targets(found, map(Layout.of, found.family.dialects))
    return Inspection(data | {
        "family": found.family.name, "title": found.family.title, "dialect": found.dialect.name, "prefix": found.prefix,
        "config": config_facts(found.config), "variant": found.variant, "dropped": found.dropped,
        "layouts": layouts, "not_layouts": not_layouts, "upstreams": upstreams,
        "canonical": canonical_digest(found.canonical, tensors) if digest and not ranged else None,
    })


def _named(upstreams: list[str]) -> str:
    return f"with --to, a file in the names of {', '.join(upstreams)}" if upstreams else ""


def _otherwise(checkpoint: Checkpoint, found: Fit, prefix: str | None) -> Iterator[Fit]:
    """The same file as families that stand for many architectures read it, for layouts that are theirs alone."""
    for family in families():
        if family.members and family.name != found.family.name:
            with suppress(CheckFailed):
                yield recognise(checkpoint.specs, [family], what=checkpoint.path.name, prefix=prefix)


def _targets(found: Fit, targets: Iterable[Layout]) -> tuple[list[str], dict[str, str]]:
    """The targets that a file can become, by all their names, and those that it cannot, with the reason."""
    can: list[str] = []
    cannot: dict[str, str] = {}
    for layout in targets:
        try:
            make_plan(found, layout)
        except ZooError as error:
            cannot[layout.name] = "; ".join(error.why)
        else:
            can += layout.names
    return can, cannot
