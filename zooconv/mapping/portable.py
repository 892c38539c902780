"""Portable plans: names without a mount, for a loader that matches them by their ends.

With "matching_heuristics" in a file, Detectron2 gives a tensor of the model the longest name of the file that its own
name ends with, at a dot. One file then serves every mount; but a short name (`norm.weight`) also fits modules that are
none of the backbone's: a tensor of the same shape raises an error there, or is put in the wrong place.

Read off detectron2/checkpoint/c2_model_loading.py: align_and_update_state_dicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from zooconv.errors import UsageError, ZooError
from zooconv.mapping.family import Layout
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import Plan, make_plan

PARTS = 3
"""So many parts must a name have: heads are full of `norm.weight` and `fc1.bias`, not of `stages.0.0.norm.weight`."""


def unmounted(layout: Layout) -> Layout:
    """The layout without its mount. Raises UsageError for one that has none to leave out."""
    if not layout.mount:
        raise UsageError(f"layout {layout.name} has no mount that --portable could leave out",
                         next="leave out --portable, or choose another layout: zooconv layouts")
    return replace(layout, mount="")


def portable_plan(found: Fit, layout: Layout, *, fresh: bool = True, choices: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a file that Detectron2 loads under any mount. See `make_plan`.

    Raises UsageError, naming layouts that will do, where a name could fit a module that it is not meant for.
    """
    plan = make_plan(found, unmounted(layout), fresh=fresh, choices=choices)
    if doubts := list(doubtful(spec.name for spec in plan.targets)):
        others = [f"--layout {one.name}{option}" for one in found.family.layouts
                  if (option := _way(found, one, fresh, choices)) is not None]
        raise UsageError(f"layout {layout.name} cannot be portable: {len(doubts)} of its names fit other modules too",
                         why=[*doubts[:20], *([f"what can be: {', '.join(others)}"] if others else [])],
                         next=f"{others[0]} --portable" if others else "leave out --portable: --layout has the mount")
    return plan


def doubtful(names: Iterable[str]) -> Iterator[str]:
    """The names that a loader which matches by ends could give to a module that they are not meant for, and why."""
    names = list(names)
    ends: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        ends.update({".".join(parts[i:]): name for i in range(1, len(parts))})
    for name in names:
        if name.count(".") + 1 < PARTS:
            yield f"{name}  (many modules of a detector have a name that ends so)"
        elif name in ends:
            yield f"{name}  ({ends[name]} ends so, too)"


def _way(found: Fit, layout: Layout, fresh: bool, choices: Mapping[str, Any] | None) -> str | None:
    """The option with which a layout can be portable, which may be none; or None where it cannot."""
    for kept, option in ((True, ""), (False, " --no-fresh"))[not fresh:]:
        try:
            plan = make_plan(found, unmounted(layout), fresh=kept, choices=choices)
        except ZooError:
            return None
        if not any(doubtful(spec.name for spec in plan.targets)):
            return option
    return None
