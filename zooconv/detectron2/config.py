"""MODEL.ZOOCONV: what zooconv's backbones read from a config."""

from __future__ import annotations

from typing import Any

# By key: the default, and what it means. A mapping may be given any keys.
SETTINGS: dict[str, tuple[Any, str]] = {
    "FAMILY": ("", "the family, `convnext` say; with a name of the table above, it may be left out"),
    "VARIANT": (None, "a known member, as `zooconv show MODEL` names it: `tiny`, `50`"),
    "CONFIG": ({}, "where the member differs from the variant: `{patch: 16}`"),
    "OUT_FEATURES": ([], "empty: the module's own, which are all stages, or a plain transformer's last map"),
    "FREEZE_AT": (0, "1: the stem learns nothing; 2: the stem and the first stage (or block); and so on"),
    "FREEZE_NORMS": (True, "batch norms keep their statistics and learn nothing, as FrozenBN"),
    "DROP_PATH": (0.0, "stochastic depth: the rate of the last block, rising from 0 at the first"),
    "CHECKPOINTING": (False, "trade time for memory while training"),
    "OPTIONS": ({}, "what this family's module takes besides: `{window: 14}`"),
    "SQUARE_PAD": (0, "of ZooSimpleFeaturePyramid: images are padded to squares of this side"),
}


def add_zooconv_config(cfg: Any) -> None:
    """Add the defaults under MODEL.ZOOCONV to a config (detectron2.config.CfgNode); done twice, it is done once.

    `import zooconv.detectron2` adds them to Detectron2's own defaults, so that every `get_cfg()` has them.
    """
    if "ZOOCONV" in cfg.MODEL:
        return
    node = type(cfg)
    cfg.MODEL.ZOOCONV = node()
    for key, (default, _) in SETTINGS.items():
        cfg.MODEL.ZOOCONV[key] = node(new_allowed=True) if default == {} else default
