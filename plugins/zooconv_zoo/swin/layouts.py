"""How Detectron2 projects hold a Swin Transformer. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from zooconv import Fresh, Layout, Requires, keep

from .configs import DETICS, GLEE, SWINTS, USUAL, detrexs, under_fpn
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
           requires=Requires(lazy=under_fpn, note=SHIFT),
           projects={"swint_detectron2": replace(SWINTS, note=SHIFT)}),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/swin.py, as IDEA-Research/detrex builds it",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(lazy=detrexs, note=SHIFT)),

    Layout(("detic",), mount="backbone.bottom_up.", rules=CANONICAL,
           source="facebookresearch/Detic detic/modeling/backbone/swintransformer.py",
           omit=NO_NORM, fresh=output_norms(1, 2, 3), requires=DETICS),

    Layout(("glee",), mount="", rules=CANONICAL, source="FoundationVision/GLEE projects/GLEE/glee/backbone/swin.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=GLEE),
]
