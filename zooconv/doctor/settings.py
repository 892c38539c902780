"""A user's config held against what the weights need.

Where they disagree, Detectron2 says nothing, and the features are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zooconv.d2config.file import merged, read_config
from zooconv.d2config.keys import config_for
from zooconv.errors import ZooError
from zooconv.mapping.family import Layout
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import make_plan

# detectron2/config/defaults.py: what a config has that does not say otherwise
DEFAULTS = {
    "MODEL": {"PIXEL_MEAN": [103.53, 116.28, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0],
              "RESNETS": {"STRIDE_IN_1X1": True, "DEPTH": 50, "NUM_GROUPS": 1, "WIDTH_PER_GROUP": 64,
                          "RES2_OUT_CHANNELS": 256, "STEM_OUT_CHANNELS": 64, "NORM": "FrozenBN"}},
    "INPUT": {"FORMAT": "BGR"},
}
_OWN = ("MODEL.WEIGHTS", "MODEL.BACKBONE.NAME")  # the file itself, and what the project calls its class


class Wrong(NamedTuple):
    """A key of the config, what it says, and what the weights need."""

    key: str
    says: Any
    needs: Any

    def __str__(self) -> str:
        return f"{self.key}: {plain(self.needs)}  (the config has {plain(self.says)})"


def needed(found: Fit, layout: Layout) -> dict[str, Any] | None:
    """What a config must say for these weights in this layout; None where the layout cannot be made of them."""
    try:
        return config_for(make_plan(found, layout), "")
    except ZooError:
        return None


def wrong_settings(path: Path, wanted: Mapping[str, Any]) -> list[Wrong]:
    """The keys of a config that disagree. Raises UsageError where the file is no YAML config."""
    return list(_compare(merged(DEFAULTS, read_config(path)), wanted, ""))


def _compare(has: Mapping[str, Any], wanted: Mapping[str, Any], above: str) -> Iterator[Wrong]:
    for key, needs in wanted.items():
        path, says = above + key, has.get(key)
        if isinstance(needs, Mapping):
            yield from _compare(says if isinstance(says, Mapping) else {}, needs, path + ".")
        elif says is not None and path not in _OWN and not _same(says, needs):
            yield Wrong(path, says, needs)


def _same(says: Any, needs: Any) -> bool:
    if isinstance(needs, (list, tuple)):
        return isinstance(says, (list, tuple)) and len(says) == len(needs) and all(map(_same, says, needs))
    if isinstance(needs, float) and isinstance(says, (int, float)):
        return abs(says - needs) < 0.01  # 0.485 x 255 is written as 123.675 and as 123.68
    return bool(says == needs)


def plain(value: Any) -> Any:
    """A value as YAML has it."""
    return list(map(plain, value)) if isinstance(value, (list, tuple)) else value
