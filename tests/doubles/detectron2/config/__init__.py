"""detectron2/config/config.py: a config is fvcore's, and every new one a copy of the defaults."""

from fvcore.common.config import CfgNode

from detectron2.config import defaults


def get_cfg() -> CfgNode:
    return defaults._C.clone()
