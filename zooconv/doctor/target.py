"""The models that a file can be for, as names and shapes: a layout of a family, or a torch module of the user's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zooconv.doctor.matching import Shapes
from zooconv.errors import UsageError
from zooconv.mapping.expr import Leaf
from zooconv.mapping.family import Family, Layout
from zooconv.upstream import code


@dataclass(frozen=True)
class Target:
    """A model's tensors, those of them that no file needs to have, and the mount of the backbone where it is a part.

    `name` is the layout's, or the builder's.
    """

    name: str
    title: str
    shapes: Shapes
    spare: frozenset[str] = frozenset()
    mount: str = ""
    layout: Layout | None = None

    def judges(self, name: str) -> bool:
        """Is a tensor of this name this model's affair, and not that of the rest around a backbone?"""
        return self.layout is None or name.startswith(self.mount)


def layout_targets(family: Family[Any], config: Any) -> Iterator[Target]:
    """The backbones of a config in every layout that can hold it."""
    for layout in family.layouts:
        if layout.refusal(layout.after(config)) is None:
            yield layout_target(family, config, layout)


def layout_target(family: Family[Any], config: Any, layout: Layout) -> Target:
    """The backbone of a config as a layout has it. What the layout adds and what follows from the config is spare."""
    config = layout.after(config)
    kept = {spec.name: Leaf(spec.shape, spec.dtype, spec.name) for spec in family.tensors(config)
            if layout.omits(spec.name) is None}
    derived = {name: Leaf(value.shape, value.dtype, name) for name, value in family.derived_values(config).items()}
    needed = layout.body.from_canonical(kept).made
    made = layout.body.from_canonical(kept | derived).made
    shapes = {name: value.shape for name, value in made.items()}
    shapes |= {fresh.name: fresh.shape for fresh in layout.fresh_tensors(config)}
    mounted = {layout.mount + name: shape for name, shape in shapes.items()}
    spare = frozenset(layout.mount + name for name in shapes.keys() - needed.keys())
    return Target(layout.name, f"{family.title} in layout {layout.name}", mounted, spare, layout.mount, layout)


def module_target(where: str) -> Target:
    """The module that calling `package.module:builder` gives: the user's own code, run because the user named it.

    Raises UsageError where it cannot be imported, fails, or gives no torch module.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` has it: the code of the folder in which one stands
    try:
        module = code(where)()
        state = module.state_dict()
        shapes = {str(name): tuple(value.shape) for name, value in state.items()}
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        raise UsageError(f"{where} gives no model", why=[f"{type(error).__name__}: {error}".splitlines()[0]],
                         next="--into package.module:builder, where builder() gives a torch module") from None
    return Target(where, where, shapes, frozenset(name for name in shapes if name.endswith("num_batches_tracked")))
