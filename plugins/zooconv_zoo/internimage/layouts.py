"""How Detectron2 projects hold an InternImage. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zooconv import Call, Fresh, Layout, LazyBackbone, Requires
from zooconv_zoo.configs import DETREX, neck

from .dialects import CANONICAL
from .family import VARIANTS, InternImageConfig


def scales(config: InternImageConfig) -> Iterable[Fresh]:
    """The layer scales of a tiny one: detrex's has them, trained ones have none, and 1 changes nothing."""
    if config.layer_scale or config.center_feature_scale:
        return
    for s, (depth, dim) in enumerate(zip(config.depths, config.dims, strict=True)):
        for b in range(depth):
            yield from (Fresh(f"levels.{s}.blocks.{b}.gamma{n}", (dim,), 1.0) for n in (1, 2))


def keys(config: InternImageConfig) -> Mapping[str, object]:
    return {"CHANNELS": config.channels, "DEPTHS": list(config.depths), "GROUPS": list(config.groups),
            "OFFSET_SCALE": config.offset_scale, "LAYER_SCALE": 1.0 if config.layer_scale else None,
            "POST_NORM": config.post_norm, "RES_POST_NORM": config.res_post_norm,
            "DW_KERNEL_SIZE": config.dw_kernel if config.dw_kernel != 3 else None,
            "LEVEL2_POST_NORM": config.level2_post_norm,
            "LEVEL2_POST_NORM_BLOCK_IDS": list(config.normed_blocks(2)) or None,
            "CENTER_FEATURE_SCALE": config.center_feature_scale}


def model(config: InternImageConfig) -> Mapping[str, object]:
    return {"BACKBONE": {"NAME": "D2InternImage"}, "INTERNIMAGE": keys(config)}


def detrexs(config: InternImageConfig, _: Mapping[str, object]) -> LazyBackbone:
    """A tiny one's layer scales are added by this layout, and must be there to be loaded."""
    scale = None if config.center_feature_scale and not config.layer_scale else 1.0
    return LazyBackbone(
        Call("detrex.modeling.backbone:InternImage",
             {"channels": config.channels, "depths": list(config.depths), "groups": list(config.groups),
              "mlp_ratio": 4.0, "norm_layer": "LN", "layer_scale": scale, "offset_scale": config.offset_scale,
              "post_norm": config.post_norm, "dw_kernel_size": config.dw_kernel if config.dw_kernel != 3 else None,
              "res_post_norm": config.res_post_norm, "level2_post_norm": config.level2_post_norm,
              "level2_post_norm_block_ids": list(config.normed_blocks(2)) or None,
              "center_feature_scale": config.center_feature_scale, "out_indices": (1, 2, 3)}),
        free={"core_op": "DCNv3", "drop_path_rate": 0.0, "with_cp": False},
        beside=neck(config.dims[1:]), formats=DETREX)


# add_glee_config of projects/GLEE/glee/config.py
DECLARED = {"INTERNIMAGE": {**keys(VARIANTS["large"]), "PRETRAINED_WEIGHT": None}}

MIND = "no weight tells offset_scale: 2.0 for large and xlarge, else 1.0"

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="OpenGVLab/InternImage, under backbone.",
           requires=Requires(note=MIND)),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="IDEA-Research/detrex detrex/modeling/backbone/internimage.py, projects/dino/configs/"
                  "dino-internimage", fresh=scales,
           requires=Requires(lazy=detrexs, note=MIND)),

    # GLEE reads MODEL.INTERNIMAGE.PRETRAINED_WEIGHT into the backbone itself, so that nothing stands before its names
    Layout(("glee",), mount="", rules=CANONICAL,
           source="FoundationVision/GLEE projects/GLEE/glee/backbone/internimage.py",
           requires=Requires(model=model, declares=DECLARED, weights="INTERNIMAGE.PRETRAINED_WEIGHT",
                             note="name the file in MODEL.INTERNIMAGE.PRETRAINED_WEIGHT, not in MODEL.WEIGHTS")),
]
