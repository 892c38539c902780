"""The way back: a file into a layout, and out of it again, byte for byte, on the real road from file to file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zooconv.conversion import Conversion
from zooconv.errors import CheckFailed
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.family import Family, Layout
from zooconv.mapping.rules import Drop
from zooconv.mapping.template import Choice, Template
from zooconv.names import local
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.testing.checkpoints import Arrays, lively_weights, random_array, save_safetensors, spelled
from zooconv.testing.roads import toy


@dataclass(frozen=True)
class Return:
    """What came back from `layout`: `bare`, without the original's help, and `whole`, filled from it.

    `why` says why nothing can: the layout does not hold the member, or computes new values of it.
    """

    layout: str
    there: Conversion | None = None
    bare: Conversion | None = None
    whole: Conversion | None = None
    why: str = ""

    @property
    def faults(self) -> list[str]:
        """What is not as it was in the file that set out."""
        if self.there is None or self.bare is None or self.whole is None:
            return []
        given = {d.name: d for d in self.there.written.source}
        odd = [f"{d.name}: came back changed" for d in self.bare.written.target if given.get(d.name, d) != d]
        there, plan = self.there.preview, self.bare.preview.plan
        gone = there.plan.dropped if there.plan.changes else there.found.dropped
        accounted = {d.name for d in self.bare.written.target} | set(plan.missing) | set(gone)
        odd += [f"{name}: did not come back, and is not told as missing" for name in given if name not in accounted]
        if self.whole.content.tree != self.there.source_content.tree:
            odd.append("filled from the original, it is not the original tensor for tensor")
        return odd


def returns(family: Family[Any], dialect: Dialect, folder: Path) -> Iterator[Return]:
    """From `dialect` into every layout and back, below `folder`: random weights, and one of each tensor it drops."""
    tensors = spelled(dialect, lively_weights(family, toy(family, dialect))) | beside(dialect)
    path = save_safetensors(folder / "original.safetensors", tensors)
    for layout in family.layouts:
        yield _returned(path, dialect, layout, folder)


def beside(dialect: Dialect) -> Arrays:
    """A small random tensor for each rule that drops one."""
    names = [_some_name(dialect.in_files(rule.source)) for rule in dialect.rules
             if isinstance(rule, Drop) and rule.same_as is None]
    return {name: random_array(name, (2, 3)) for name in names}


def _some_name(template: Template) -> str:
    """A name that the template matches."""
    bound = {f.name: f.words[0] if isinstance(f, Choice) else 1 for f in template.fields}
    name = template.render(bound)
    assert name is not None
    return name


def _returned(path: Path, dialect: Dialect, layout: Layout, folder: Path) -> Return:
    def walk(source: Path, file: str, **more: Any) -> Conversion:
        options = Options(output=folder / file, load_check=False, report=False, force=True,
                          registry=folder / "registry.json", **more)
        return run(local(source), options)

    try:
        there = walk(path, f"{layout.name}.pth", layout=layout.name)
        if there.preview.plan.computed:
            return Return(layout.name, why="; ".join(there.preview.plan.changes))
        bare = walk(there.path, f"{layout.name}_bare.safetensors", to=dialect.name)
        whole = walk(there.path, f"{layout.name}_whole.safetensors", to=dialect.name, fill_from=str(path))
    except CheckFailed as error:
        return Return(layout.name, why=error.why[0] if error.why else error.what)
    return Return(layout.name, there, bare, whole)
