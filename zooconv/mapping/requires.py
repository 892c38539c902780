"""What weights require of a Detectron2 config, beyond being loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Requires:
    """What a Detectron2 config must say for the weights to mean what they meant.

    `pixel_mean` and `pixel_std` are on the scale 0..255, in the channel order of `format`; None: as the weights were
    trained. `model` gives the keys under MODEL for a config of the family. `note` is what else to mind, or a function
    of the config that says it.
    """

    format: str = "RGB"
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    model: Callable[[Any], Mapping[str, Any]] | None = None
    note: str | Callable[[Any], str] = ""

    def advice(self, config: Any) -> str:
        """What else to mind about a member."""
        return self.note(config) if callable(self.note) else self.note
