"""A file's names held against the models that it can be for: what is loaded, what is missing, what goes astray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zooconv.doctor.loader import Reading
from zooconv.doctor.matching import Matching, match
from zooconv.doctor.target import Target, layout_targets
from zooconv.mapping.fit import Fit
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import Readings, members
from zooconv.tensor import TensorSpec


@dataclass(frozen=True)
class Held:
    """What Detectron2 loads of a file into one model.

    `lost` are tensors that the model needs and that the file has not; `spare` those that it has not, and that the model
    makes itself; `left` those of the file that it has no place for; `around` how many are not the backbone's.
    """

    target: Target
    matching: Matching
    by_ends: bool

    @property
    def lost(self) -> list[str]:
        skipped = {one.model for one in self.matching.skipped}
        return [name for name in self.matching.missing if name not in self.target.spare | skipped]

    @property
    def spare(self) -> list[str]:
        return [name for name in self.matching.missing if name in self.target.spare]

    @property
    def left(self) -> list[str]:
        return [name for name in self.matching.unexpected if self.by_ends or self.target.judges(name)]

    @property
    def around(self) -> int:
        return len(self.matching.unexpected) - len(self.left)

    @property
    def astray(self) -> list[str]:
        """Tensors without a place in the backbone that may be taken for others of the model, because ends match."""
        return self.left if self.by_ends and self.target.layout else []

    @property
    def whole(self) -> bool:
        """Does the model get all that it needs, and nothing that is not its own?"""
        return not (self.partly or self.astray)

    @property
    def partly(self) -> bool:
        """Does the model not get all that it needs?"""
        return bool(self.matching.raised or self.lost or self.matching.skipped)

    @property
    def rank(self) -> tuple[int, ...]:
        """The lower, the better."""
        return (self.matching.raised is not None, len(self.lost) + len(self.matching.skipped), len(self.left),
                len(self.matching.missing))


def hold(reading: Reading, target: Target) -> Held:
    """What becomes of a file in a model."""
    return Held(target, match(reading, target.shapes), reading.matching)


def hold_all(reading: Reading, targets: Iterable[Target]) -> list[Held]:
    """What becomes of a file in each of these models, that which it is best for first."""
    return sorted((hold(reading, target) for target in targets), key=lambda held: held.rank)


def nearest(tensors: Mapping[str, TensorSpec]) -> Fit | None:
    """The family, config and naming that tensors have, exactly or nearly: more than half of those under its prefix."""
    known = [family for family in families() if not family.members]
    fits = [f for some in (known, members(tensors, families())) for f in Readings(tensors, some).near()
            if f.config is not None and 2 * f.fitted > len(f.sources)]
    return min(fits, key=lambda f: (len(f.problems) - f.fitted, len(f.problems)), default=None)


def targets_for(found: Fit, layout: str | None, backbone: str | None) -> list[Target]:
    """The layouts that a file can be for: the one that is asked for, else those of the config's backbone, else all.

    Raises UsageError for a layout that the family has not.
    """
    every = list(layout_targets(found.family, found.config))
    if layout:
        chosen = chosen_layout(found.family, layout)
        return [replace(target, name=layout, title=f"{found.family.title} in layout {layout}")
                for target in every if target.layout is chosen]
    named = [target for target in every if backbone and _backbone(target, found) == backbone]
    return named or every


def _backbone(target: Target, found: Fit) -> Any:
    """The MODEL.BACKBONE.NAME that a layout goes with."""
    layout = target.layout
    keys = layout.requires.model(layout.after(found.config)) if layout and layout.requires.model else {}
    backbone = keys.get("BACKBONE", {})
    return backbone.get("NAME") if isinstance(backbone, Mapping) else None


def repaired(tensors: Iterable[TensorSpec]) -> Reading:
    """What Detectron2 would read if the file were repaired: the weights alone, each under its exact name."""
    shapes = {spec.name: spec.shape for spec in tensors}
    stripped = shapes and all(name.startswith("module.") for name in shapes)
    return replace(Reading(), entries={n.removeprefix("module.") if stripped else n: s for n, s in shapes.items()})
