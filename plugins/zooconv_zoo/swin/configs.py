"""What Detectron2 projects must be told of a Swin Transformer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from zooconv import Call, LazyBackbone, Pitfall, Requires
from zooconv_zoo.configs import DETREX, STAGES, neck

from .family import VARIANTS, SwinConfig


def swin_keys(config: SwinConfig) -> dict[str, object]:
    """MODEL.SWIN of Mask2Former and its kin (mask2former/config.py, add_maskformer2_config)."""
    return {"BACKBONE": {"NAME": "D2SwinTransformer"},
            "SWIN": {"EMBED_DIM": config.embed_dim, "DEPTHS": list(config.depths), "NUM_HEADS": list(config.heads),
                     "WINDOW_SIZE": config.window, "PRETRAIN_IMG_SIZE": trained(config),
                     "APE": bool(config.positions), "PATCH_NORM": True, "OUT_FEATURES": STAGES}}


def trained(config: SwinConfig) -> int:
    """The side in pixels of the images that it was trained on, as far as its shapes tell."""
    return 4 * config.positions or (224 if config.window == 7 else 384)


TINY = {"EMBED_DIM": 96, "DEPTHS": [2, 2, 6, 2], "NUM_HEADS": [3, 6, 12, 24], "WINDOW_SIZE": 7, "APE": False}
DECLARED = {"SWIN": {**TINY, "PRETRAIN_IMG_SIZE": 224, "PATCH_NORM": True, "OUT_FEATURES": STAGES}}


def pitfalls(config: SwinConfig, model: Mapping[str, Any]) -> Iterator[Pitfall]:
    """What wrong values do, where it is not what they do everywhere."""
    node = "SWINT" if "SWINT" in model else "SWIN"
    side = model.get(node, {}).get("WINDOW_SIZE")
    yield Pitfall(f"{node}.WINDOW_SIZE",
                  "the tables of relative positions have another length then: Detectron2 skips them all, and attention "
                  f"starts without positions. To have the other window: zooconv convert --window {side}")
    yield Pitfall(f"{node}.APE", "True makes absolute positions, and False none: they start random, or are left out")
    if not config.positions:
        yield Pitfall(f"{node}.PRETRAIN_IMG_SIZE",
                      "is read for absolute positions alone (APE), which these weights have not", costs=False)


USUAL = Requires(model=swin_keys, declares=DECLARED, pitfalls=pitfalls)
GLEE = replace(USUAL, declares={"SWIN": {**DECLARED["SWIN"], "PRETRAINED_WEIGHT": None}},
               weights="SWIN.PRETRAINED_WEIGHT",
               note="is read from MODEL.SWIN.PRETRAINED_WEIGHT, not MODEL.WEIGHTS, without a prefix")

# detic/modeling/backbone/swintransformer.py: size2config
DETIC = {"tiny": "T", "small": "S", "base": "B", "base_384": "B-22k-384", "large": "L-22k", "large_384": "L-22k-384"}


def detic_keys(config: SwinConfig) -> dict[str, object]:
    size = next(({"SIZE": name} for variant, name in DETIC.items() if VARIANTS[variant] == config), {})
    return {"BACKBONE": {"NAME": "build_swintransformer_fpn_backbone"}, "SWIN": {**size, "OUT_FEATURES": [1, 2, 3]}}


def detic_note(config: SwinConfig) -> str:
    return "" if config in VARIANTS.values() else "MODEL.SWIN.SIZE names a member, and has no name for this one"


# xiaohu2015/SwinT_detectron2 swint/config.py
SWINT_STAGES = ["stage2", "stage3", "stage4", "stage5"]
SWINT = {"SWINT": {**TINY, "OUT_FEATURES": SWINT_STAGES}}


def swint_keys(config: SwinConfig) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "build_swint_fpn_backbone"},
            "SWINT": {"EMBED_DIM": config.embed_dim, "DEPTHS": list(config.depths), "NUM_HEADS": list(config.heads),
                      "WINDOW_SIZE": config.window, "APE": bool(config.positions),
                      "OUT_FEATURES": SWINT_STAGES}}


def lazily(config: SwinConfig, *stages: int) -> LazyBackbone:
    """configs of projects/ViTDet/configs/COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py."""
    return LazyBackbone(
        Call("detectron2.modeling:SwinTransformer",
             {"pretrain_img_size": trained(config), "embed_dim": config.embed_dim, "depths": list(config.depths),
              "num_heads": list(config.heads), "window_size": config.window, "ape": bool(config.positions),
              "out_indices": stages}),
        free={"drop_path_rate": 0.2})


def under_fpn(config: SwinConfig, _: Mapping[str, object]) -> LazyBackbone:
    return replace(lazily(config, 0, 1, 2, 3), beside={"model.backbone.in_features": ("p0", "p1", "p2", "p3")})


def detrexs(config: SwinConfig, _: Mapping[str, object]) -> LazyBackbone:
    return replace(lazily(config, 1, 2, 3), beside=neck(config.dims[1:]), formats=DETREX)


DETICS = Requires(model=detic_keys, note=detic_note, declares={"SWIN": {"SIZE": "T", "OUT_FEATURES": [1, 2, 3]}})
SWINTS = Requires(model=swint_keys, declares=SWINT, pitfalls=pitfalls,
                  also={"BACKBONE.NAME": ("build_retinanet_swint_fpn_backbone",)})
