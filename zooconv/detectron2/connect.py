"""What `import zooconv.detectron2` does to an installed Detectron2: paths, config defaults, backbones, words."""

from __future__ import annotations

import logging

from detectron2.config import defaults
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.utils.file_io import PathManager

from zooconv.detectron2.adapter import builders
from zooconv.detectron2.config import add_zooconv_config
from zooconv.detectron2.handler import register


def connect() -> None:
    """Make zooconv known to Detectron2. Done twice, it is done once."""
    register(PathManager)
    add_zooconv_config(defaults._C)  # of which every get_cfg() is a copy
    for name, build in builders().items():
        if name not in BACKBONE_REGISTRY:
            BACKBONE_REGISTRY.register(build)
    logging.getLogger("zooconv").parent = logging.getLogger("detectron2")  # zooconv's words go where Detectron2's go
