"""How Detectron2 projects hold an InternImage. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zooconv import Fresh, Layout, Requires

from .dialects import CANONICAL
from .family import InternImageConfig


def scales(config: InternImageConfig) -> Iterable[Fresh]:
    """The layer scales of a tiny one: detrex's has them, trained ones have none, and 1 changes nothing."""
    if config.layer_scale or config.center_feature_scale:
        return
    for s, (depth, dim) in enumerate(zip(config.depths, config.dims, strict=True)):
        for b in range(depth):
            yield from (Fresh(f"levels.{s}.blocks.{b}.gamma{n}", (dim,), 1.0) for n in (1, 2))


def model(config: InternImageConfig) -> Mapping[str, object]:
    return {"BACKBONE": {"NAME": "D2InternImage"},
            "INTERNIMAGE": {
                "CHANNELS": config.channels, "DEPTHS": list(config.depths), "GROUPS": list(config.groups),
                "OFFSET_SCALE": config.offset_scale, "LAYER_SCALE": 1.0 if config.layer_scale else None,
                "POST_NORM": config.post_norm, "RES_POST_NORM": config.res_post_norm,
                "DW_KERNEL_SIZE": config.dw_kernel if config.dw_kernel != 3 else None,
                "LEVEL2_POST_NORM": config.level2_post_norm,
                "LEVEL2_POST_NORM_BLOCK_IDS": list(config.normed_blocks(2)) or None,
                "CENTER_FEATURE_SCALE": config.center_feature_scale}}


MIND = "no weight tells offset_scale: 2.0 for large and xlarge, else 1.0"

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="OpenGVLab/InternImage, under backbone.",
           requires=Requires(note=MIND)),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="IDEA-Research/detrex detrex/modeling/backbone/internimage.py, projects/dino/configs/"
                  "dino-internimage", fresh=scales,
           requires=Requires(note=f"LazyConfig: set channels, depths, groups, offset_scale, post_norm of "
                                  f"L(InternImage); {MIND}; layer_scale=None, dw_kernel_size=5 and what else huge "
                                  "ones have, for these")),

    # GLEE reads MODEL.INTERNIMAGE.PRETRAINED_WEIGHT into the backbone itself, so that nothing stands before its names
    Layout(("glee",), mount="", rules=CANONICAL,
           source="FoundationVision/GLEE projects/GLEE/glee/backbone/internimage.py",
           requires=Requires(model=model, note="name the file in MODEL.INTERNIMAGE.PRETRAINED_WEIGHT, not in "
                                               "MODEL.WEIGHTS")),
]
