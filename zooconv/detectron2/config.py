"""MODEL.ZOOCONV: what zooconv's backbones read from a config."""

from __future__ import annotations

from typing import Any


def add_zooconv_config(cfg: Any) -> None:
    """Add the defaults under MODEL.ZOOCONV to a config (detectron2.config.CfgNode); done twice, it is done once.

    `import zooconv.detectron2` adds them to Detectron2's own defaults, so that every `get_cfg()` has them.
    """
    if "ZOOCONV" in cfg.MODEL:
        return
    node = type(cfg)
    cfg.MODEL.ZOOCONV = node({
        "FAMILY": "",           # of ZooFPN and ZooSimpleFeaturePyramid: what stands under the pyramid, "convnext" say
        "VARIANT": None,        # a known member, as `zooconv show MODEL` names it: tiny, 50
        "OUT_FEATURES": [],     # empty: the module's own, which are all stages, or a plain transformer's last map
        "FREEZE_AT": 0,         # 1: the stem learns nothing, 2: the stem and the first stage (or block), and so on
        "FREEZE_NORMS": True,   # batch norms keep their statistics, and learn nothing, as FrozenBN
        "DROP_PATH": 0.0,       # of the last block, rising from 0 at the first
        "CHECKPOINTING": False,  # trade time for memory while training
        "SQUARE_PAD": 0,        # of ZooSimpleFeaturePyramid: pad images to squares of this side
    })
    cfg.MODEL.ZOOCONV.CONFIG = node(new_allowed=True)   # where the member differs from VARIANT: {patch: 16}
    cfg.MODEL.ZOOCONV.OPTIONS = node(new_allowed=True)  # what this family's module takes besides: {window: 14}
