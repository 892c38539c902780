"""Every dialect of a family into every layout, with random weights, on the real road from file to file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import CheckFailed
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.family import Family
from zooconv.names import local
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.testing.checkpoints import lively_weights, save_safetensors, spelled


@dataclass(frozen=True)
class Road:
    """What became of a file of `dialect` on its way to `layout`.

    `exact`: every source tensor that is not dropped comes back byte for byte, as its certificate shows; `changed`: the
    same but for declared changes, which `why` names; `refused`: the layout cannot hold it; `failed`: what is wrong.
    """

    dialect: str
    layout: str
    status: Literal["exact", "changed", "refused", "failed"]
    why: str = ""


def roads(family: Family[Any], dialect: Dialect, folder: Path) -> Iterator[Road]:
    """Walk from `dialect` to every layout, below `folder`."""
    weights = lively_weights(family, toy(family, dialect))
    path = save_safetensors(folder / "source.safetensors", spelled(dialect, weights))
    for layout in family.layouts:
        options = Options(layout=layout.name, output=folder / f"{layout.name}.pth", load_check=False, report=False,
                          registry=folder / "registry.json")
        yield Road(dialect.name, layout.name, *_walked(family, dialect, path, options))


def _walked(family: Family[Any], dialect: Dialect, path: Path, options: Options
            ) -> tuple[Literal["exact", "changed", "refused", "failed"], str]:
    try:
        done = run(local(path), options)
    except CheckFailed as error:
        # a layout may refuse a member, or need what files of this dialect never have
        known = dialect.lacks or error.what.endswith(f"cannot hold this {family.title}")
        return "refused" if known else "failed", "; ".join(error.why[:3]) or error.what
    found = done.preview.found.family
    if found is not family:
        return "failed", (f"it is taken for a {found.title}" if found.name != family.name else
                          f"the {family.title} that is installed is not the one that is tested")
    with open_checkpoint(path) as source, open_checkpoint(done.path) as artifact:
        if wrong := check_certificate(done.certificate, source, artifact):
            return "failed", wrong[0]
    changes = done.preview.plan.changes
    return ("changed", "; ".join(changes)) if changes else ("exact", "")


def toy(family: Family[Any], dialect: Dialect | None = None) -> Any:
    """The member that costs the least; for a dialect that has no names for it, the dialect's own."""
    if dialect is not None and dialect.toy is not None:
        return dialect.toy

    def size(config: Any) -> int:
        return sum(math.prod(spec.shape) for spec in family.tensors(config))

    return family.toy if family.toy is not None else min(family.variants.values(), key=size)
