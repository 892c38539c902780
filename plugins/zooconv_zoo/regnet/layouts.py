"""How Detectron2 projects hold a RegNet. Read off Detectron2's own class, which LazyConfigs build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zooconv import Call, Layout, LazyBackbone, Named, Requires

from .dialects import CANONICAL
from .family import RegNetConfig

D2 = "facebookresearch/detectron2 detectron2/modeling/backbone/regnet.py"

CODE = "detectron2.modeling.backbone.regnet"


def anynet(config: RegNetConfig, _: Mapping[str, object]) -> LazyBackbone:
    """AnyNet takes what a checkpoint tells; RegNet, the parameters of a line, and quantises widths off it."""
    return LazyBackbone(
        Call(f"{CODE}:AnyNet",
             {"stem_class": Named(f"{CODE}:SimpleStem"), "stem_width": config.stem_width,
              "block_class": Named(f"{CODE}:ResBottleneckBlock"), "activation_class": Named("torch.nn:ReLU"),
              "depths": list(config.depths), "widths": list(config.widths),
              "group_widths": list(config.group_widths), "strides": [2] * len(config.depths),
              "bottleneck_ratios": [1.0] * len(config.depths), "se_ratio": config.se_ratio,
              "out_features": [f"s{s + 1}" for s in range(len(config.depths))]}),
        free={"norm": "SyncBN"})


def under_fpn(config: RegNetConfig, _: Mapping[str, object]) -> LazyBackbone:
    return replace(anynet(config, _), beside={"model.backbone.in_features": "${.bottom_up.out_features}"})


BGR = ("weights as pycls released them (.pyth) saw BGR: for these, INPUT.FORMAT is BGR, and mean and std stand the "
       "other way round; all other releases saw RGB")

LAYOUTS = [
    Layout(("d2", "fpn"), mount="backbone.bottom_up.", rules=CANONICAL, source=f"{D2}, under an FPN",
           requires=Requires(lazy=under_fpn, note=BGR)),

    Layout(("plain",), mount="backbone.", rules=CANONICAL, source=f"{D2}, as the backbone itself",
           requires=Requires(lazy=anynet, note=BGR)),
]
