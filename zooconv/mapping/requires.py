"""What weights require of a Detectron2 config, beyond being loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zooconv.mapping.lazy import LazyBackbone


@dataclass(frozen=True)
class Pitfall:
    """What a config's value does to the weights, by its key under MODEL: `Pitfall("RESNETS.STRIDE_IN_1X1", "…")`.

    `why` is the consequence, in words that go on where the value stands. One that does not cost accuracy is told, and
    the value stays.
    """

    key: str
    why: str
    costs: bool = True


@dataclass(frozen=True)
class Requires:
    """What a Detectron2 config must say for the weights to mean what they meant.

    `pixel_mean` and `pixel_std` are on the scale 0..255, in the channel order of `format`; None: as the weights were
    trained. `note` is what else to mind, or a function of the config that says it.

    `model` gives the keys under MODEL for a config of the family. Each must have that value in the user's config, or
    one of `also`, by its dotted name (`{"RESNETS.NORM": ("BN", "SyncBN")}`); of OUT_FEATURES, a part will do. `lazy`
    gives the backbone of a LazyConfig, of the family's config and of what a YAML one would have under MODEL; where
    there is no `model`, the project reads no other. `declares` are the
    project's own defaults under MODEL, which count where a config is silent. `weights` is the key under MODEL that
    names the file.

    `pitfalls` is asked about a user's config: with the family's config and all that stands under MODEL, it yields what
    wrong values of `model`'s keys cost, and what to mind about others.
    """

    format: str = "RGB"
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    model: Callable[[Any], Mapping[str, Any]] | None = None
    note: str | Callable[[Any], str] = ""
    also: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    lazy: Callable[[Any, Mapping[str, Any]], LazyBackbone] | None = None
    declares: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "WEIGHTS"
    pitfalls: Callable[[Any, Mapping[str, Any]], Iterable[Pitfall]] | None = None

    def advice(self, config: Any) -> str:
        """What else to mind about a member."""
        return self.note(config) if callable(self.note) else self.note
