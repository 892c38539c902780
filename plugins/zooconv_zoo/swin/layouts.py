"""How Detectron2 projects hold a Swin Transformer. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from zooconv import Call, Fresh, Layout, LazyBackbone, Pitfall, Requires, keep
from zooconv_zoo.configs import DETREX, STAGES, neck

from .dialects import CANONICAL as COMMON
from .family import POSITIONS, VARIANTS, SwinConfig

# Detectron2 ports keep absolute positions as the map to which they are added
CANONICAL = [*COMMON, *keep(POSITIONS)]


def output_norms(*stages: int) -> Callable[[SwinConfig], Iterable[Fresh]]:
    """`norm{i}` after these stages, at its start: weight 1, bias 0."""
    def fresh(config: SwinConfig) -> Iterable[Fresh]:
        for i in stages:
            yield Fresh(f"norm{i}.weight", config.dims[i:i + 1], 1.0)
            yield Fresh(f"norm{i}.bias", config.dims[i:i + 1], 0.0)
    return fresh


def swin_keys(config: SwinConfig) -> dict[str, object]:
    """MODEL.SWIN of Mask2Former and its kin (mask2former/config.py, add_maskformer2_config)."""
    return {"BACKBONE": {"NAME": "D2SwinTransformer"},
            "SWIN": {"EMBED_DIM": config.embed_dim, "DEPTHS": list(config.depths), "NUM_HEADS": list(config.heads),
                     "WINDOW_SIZE": config.window, "PRETRAIN_IMG_SIZE": trained(config),
                     "APE": bool(config.positions), "PATCH_NORM": True, "OUT_FEATURES": STAGES}}


def trained(config: SwinConfig) -> int:
    """The side in pixels of the images that it was trained on, as far as its shapes tell."""
    return 4 * config.positions or (224 if config.window == 7 else 384)


DECLARED = {"SWIN": dict(EMBED_DIM=96, DEPTHS=[2, 2, 6, 2], NUM_HEADS=[3, 6, 12, 24], WINDOW_SIZE=7, APE=False,
                         PRETRAIN_IMG_SIZE=224, PATCH_NORM=True, OUT_FEATURES=STAGES)}


def pitfalls(config: SwinConfig, model: Mapping[str, Any]) -> Iterator[Pitfall]:
    """What wrong values do, where it is not what they do everywhere."""
    side = model.get("SWIN", {}).get("WINDOW_SIZE")
    yield Pitfall("SWIN.WINDOW_SIZE", "the tables of relative positions have another length then: Detectron2 skips them "
                                      "all, and attention starts without positions. To have the other window: zooconv "
                                      f"convert --window {side}")
    yield Pitfall("SWIN.APE", "absolute positions are in the file with True, and not with False: the others start "
                              "random, or are left out")
    if not config.positions:
        yield Pitfall("SWIN.PRETRAIN_IMG_SIZE", "is read for absolute positions alone (APE), which these weights have "
                                                "not", costs=False)


USUAL = Requires(model=swin_keys, declares=DECLARED, pitfalls=pitfalls)

# detic/modeling/backbone/swintransformer.py: size2config
DETIC = {"tiny": "T", "small": "S", "base": "B", "base_384": "B-22k-384", "large": "L-22k", "large_384": "L-22k-384"}


def detic_keys(config: SwinConfig) -> dict[str, object]:
    size = next(({"SIZE": name} for variant, name in DETIC.items() if VARIANTS[variant] == config), {})
    return {"BACKBONE": {"NAME": "build_swintransformer_fpn_backbone"}, "SWIN": {**size, "OUT_FEATURES": [1, 2, 3]}}


def detic_note(config: SwinConfig) -> str:
    return "" if config in VARIANTS.values() else "MODEL.SWIN.SIZE names a member, and has no name for this one"


def lazily(config: SwinConfig, *stages: int) -> LazyBackbone:
    """configs of projects/ViTDet/configs/COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py."""
    return LazyBackbone(
        Call("detectron2.modeling:SwinTransformer",
             {"pretrain_img_size": trained(config), "embed_dim": config.embed_dim, "depths": list(config.depths),
              "num_heads": list(config.heads), "window_size": config.window, "ape": bool(config.positions),
              "out_indices": stages}),
        free={"drop_path_rate": 0.2})


def under_fpn(config: SwinConfig) -> LazyBackbone:
    return replace(lazily(config, 0, 1, 2, 3), beside={"model.backbone.in_features": ("p0", "p1", "p2", "p3")})


def detrexs(config: SwinConfig) -> LazyBackbone:
    return replace(lazily(config, 1, 2, 3), beside=neck(config.dims[1:]), formats=DETREX)


NO_NORM = {"norm.{wb}": "this layout has no final norm"}
SHIFT = ("its windows are shifted even where one covers the whole map, as the last stage's does at 224 pixels (384 for "
         "a window of 12); larger images, which detectors use, are not concerned")

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="microsoft/Swin-Transformer, under backbone.",
           requires=replace(USUAL, note="keeps the final norm, which a D2SwinTransformer lacks; "
                                        "the layout of your project fits it exactly")),

    Layout(("mask2former", "maskformer", "maskdino", "dimaskdino", "oneformer", "odise"), mount="backbone.",
           rules=CANONICAL, source="facebookresearch/Mask2Former mask2former/modeling/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3), requires=replace(USUAL, note=SHIFT)),

    Layout(("fpn", "swint_detectron2"), mount="backbone.bottom_up.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=Requires(lazy=under_fpn, note=SHIFT)),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/swin.py, as IDEA-Research/detrex builds it",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(lazy=detrexs, note=SHIFT)),

    Layout(("detic",), mount="backbone.bottom_up.", rules=CANONICAL,
           source="facebookresearch/Detic detic/modeling/backbone/swintransformer.py",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(model=detic_keys, note=detic_note,
                             declares={"SWIN": {"SIZE": "T", "OUT_FEATURES": [1, 2, 3]}})),

    Layout(("glee",), mount="", rules=CANONICAL, source="FoundationVision/GLEE projects/GLEE/glee/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=replace(USUAL, declares={"SWIN": {**DECLARED["SWIN"], "PRETRAINED_WEIGHT": None}},
                            weights="SWIN.PRETRAINED_WEIGHT",
                            note="is read from MODEL.SWIN.PRETRAINED_WEIGHT, not MODEL.WEIGHTS, without a prefix")),
]
