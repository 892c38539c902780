"""How Detectron2 projects hold a Swin Transformer. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zooconv import Fresh, Layout, Requires, keep

from .dialects import CANONICAL as COMMON
from .family import POSITIONS, SwinConfig

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
    trained = 4 * config.positions or (224 if config.window == 7 else 384)
    return {"BACKBONE": {"NAME": "D2SwinTransformer"},
            "SWIN": {"EMBED_DIM": config.embed_dim, "DEPTHS": list(config.depths), "NUM_HEADS": list(config.heads),
                     "WINDOW_SIZE": config.window, "PRETRAIN_IMG_SIZE": trained,
                     "APE": bool(config.positions), "PATCH_NORM": True}}


NO_NORM = {"norm.{wb}": "this layout has no final norm"}
SHIFT = ("its windows are shifted even where one covers the whole map, as the last stage's does at 224 pixels (384 for "
         "a window of 12); larger images, which detectors use, are not concerned")

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="microsoft/Swin-Transformer, under backbone.",
           requires=Requires(model=swin_keys, note="keeps the final norm, which a D2SwinTransformer lacks; "
                                                   "the layout of your project fits it exactly")),

    Layout(("mask2former", "maskformer", "maskdino", "dimaskdino", "oneformer", "odise"), mount="backbone.",
           rules=CANONICAL, source="facebookresearch/Mask2Former mask2former/modeling/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3), requires=Requires(model=swin_keys, note=SHIFT)),

    Layout(("fpn", "swint_detectron2"), mount="backbone.bottom_up.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=Requires(note="LazyConfig: set embed_dim, depths, num_heads, window_size of L(SwinTransformer)")),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/swin.py, as IDEA-Research/detrex builds it",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(note="LazyConfig: L(SwinTransformer) with out_indices=(1, 2, 3)")),

    Layout(("detic",), mount="backbone.bottom_up.", rules=CANONICAL,
           source="facebookresearch/Detic detic/modeling/backbone/swintransformer.py",
           omit=NO_NORM, fresh=output_norms(1, 2, 3), requires=Requires(note="MODEL.SWIN.SIZE names the variant")),

    Layout(("glee",), mount="", rules=CANONICAL, source="FoundationVision/GLEE projects/GLEE/glee/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=Requires(note="is read from MODEL.SWIN.PRETRAINED_WEIGHT, not MODEL.WEIGHTS, without a prefix")),
]
