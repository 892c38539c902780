"""What Detectron2 must be told of a ResNet: detectron2/modeling/backbone/resnet.py, build_resnet_backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zooconv import Call, LazyBackbone, Named, Pitfall, Requires
from zooconv_zoo.configs import DETREX, STAGES, neck

from .family import ResNetConfig

Keys = dict[str, object]
NOTE = ("STRIDE_IN_1X1 must be what the config beside says (False, but for Detectron's own weights), not its default:"
        " with the other value the same file loads without a warning, and the features are about 30 % off")

# projects/DeepLab/deeplab/resnet.py, the only builder that has the stem; its default RES5_MULTI_GRID would dilate res5
DEEP_STEM = {"STEM_TYPE": "deeplab", "RES5_MULTI_GRID": [1, 1, 1]}

# detectron2/config/defaults.py
DECLARED = {
    "BACKBONE": {"NAME": "build_resnet_backbone"}, "ROI_HEADS": {"NAME": "Res5ROIHeads"},
    "RESNETS": {"DEPTH": 50, "OUT_FEATURES": ["res4"], "NUM_GROUPS": 1, "NORM": "FrozenBN", "WIDTH_PER_GROUP": 64,
                "STRIDE_IN_1X1": True, "RES2_OUT_CHANNELS": 256, "STEM_OUT_CHANNELS": 64},
}

COUNTING = ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")  # detectron2/layers/batch_norm.py: get_norm
ALSO = {
    "RESNETS.NORM": ("FrozenBN", *COUNTING),
    "BACKBONE.NAME": ("build_resnet_backbone", "build_resnet_deeplab_backbone"),
}
FPNS = {**ALSO, "BACKBONE.NAME": ("build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone",
                                  "build_p67_resnet_fpn_backbone")}


def requires(builder: str = "", also: Mapping[str, Any] = ALSO, *, lazy: bool = True, keys: Keys | None = None,
             **resnets: object) -> Requires:
    """What `builder` reads. `resnets` and `keys` stand under MODEL.RESNETS and MODEL, over what all need."""
    def model(config: ResNetConfig) -> Keys:
        usual = "build_resnet_deeplab_backbone" if config.deep_stem else "build_resnet_backbone"
        norm = {"NORM": "GN" if config.group_norm else "FrozenBN"}
        return {"BACKBONE": {"NAME": builder or usual},
                "RESNETS": {"DEPTH": config.layers, "STRIDE_IN_1X1": False, "NUM_GROUPS": config.groups,
                            "WIDTH_PER_GROUP": config.width_per_group, "RES2_OUT_CHANNELS": config.out_channels,
                            "STEM_OUT_CHANNELS": config.stem_channels, **(DEEP_STEM if config.deep_stem else {}),
                            **norm, "OUT_FEATURES": STAGES, **resnets}, **(keys or {})}
    return Requires(model=model, note=NOTE, also=also, declares=DECLARED, pitfalls=pitfalls,
                    lazy=lazily(str(resnets.get("NORM", ""))) if lazy else None)


def pitfalls(config: ResNetConfig, model: Mapping[str, Any]) -> Iterator[Pitfall]:
    """What else happens without a word."""
    norm = model.get("RESNETS", {}).get("NORM")
    frozen = model.get("BACKBONE", {}).get("FREEZE_AT", 0)
    yield Pitfall("RESNETS.STRIDE_IN_1X1", "the same file loads without a warning with either value, and with the "
                                           "wrong one its features are about 30 % off")
    if norm in COUNTING and not config.group_norm:
        stem = f"of its stem and stages, BACKBONE.FREEZE_AT freezes the first {frozen} alone"
        yield Pitfall("RESNETS.NORM", f"goes on counting statistics, where FrozenBN keeps the weights' own: with few "
                                      f"images a device, accuracy falls; {stem}", costs=False)
    elif config.group_norm:
        yield Pitfall("RESNETS.NORM", "these weights' norms are group norms: with others, their scales and shifts are "
                                      "loaded without a warning, and mean something else")
    else:
        yield Pitfall("RESNETS.NORM", "these weights' norms are batch norms: with others, their scales and shifts are "
                                      "loaded without a warning, and their statistics are lost")


# -- LazyConfig: configs/common/models/mask_rcnn_fpn.py ---------------------------------------------------------------

CODE = "detectron2.modeling.backbone.resnet"


def lazily(norm: str = "") -> Callable[[ResNetConfig, Mapping[str, Any]], LazyBackbone]:
    def backbone(config: ResNetConfig, keys: Mapping[str, Any]) -> LazyBackbone:
        kind = "GN" if config.group_norm else norm or "FrozenBN"
        stem = "detectron2.projects.deeplab.resnet:DeepLabStem" if config.deep_stem else f"{CODE}:BasicStem"
        stride = {"stride_in_1x1": keys.get("RESNETS", {}).get("STRIDE_IN_1X1", False)} if config.bottleneck else {}
        return LazyBackbone(
            Call(f"{CODE}:ResNet",
                 {"stem": Call(stem, {"in_channels": 3, "out_channels": config.stem_channels, "norm": kind}),
                  "stages": usual_stages(config, kind, stride) or every_stage(config, kind, stride)}),
            free={"out_features": STAGES})
    return backbone


def detrexs(config: ResNetConfig, keys: Mapping[str, Any]) -> LazyBackbone:
    """projects/dino/configs/models/dino_r50.py."""
    made = lazily()(config, keys)
    channels = [config.out_channels << s for s in (1, 2, 3)]
    return LazyBackbone(made.call, {"out_features": STAGES[1:], "freeze_at": 1}, neck(channels, STAGES[1:]), DETREX)


def usual_stages(config: ResNetConfig, norm: str, stride: Mapping[str, bool]) -> Call | None:
    """`make_default_stages` makes those of Table 1 of the paper."""
    usual = (64, 256 if config.bottleneck else 64, 64)
    if config.layers not in (18, 34, 50, 101, 152) or (
            config.groups * config.width_per_group, config.out_channels, config.stem_channels) != usual \
            or config.groups > 1 or config.bottleneck != (config.layers >= 50):
        return None
    return Call(f"{CODE}:ResNet.make_default_stages", {"depth": config.layers, **stride, "norm": norm})


def every_stage(config: ResNetConfig, norm: str, stride: Mapping[str, bool]) -> list[Call]:
    """`make_stage`, for each."""
    inputs, stages = config.stem_channels, []
    for s, depth in enumerate(config.depths):
        outputs = config.out_channels << s
        width = config.groups * config.width_per_group << s
        block = {"bottleneck_channels": width, "num_groups": config.groups} if config.bottleneck else {}
        stages.append(Call(f"{CODE}:ResNet.make_stage", {
            "block_class": Named(f"{CODE}:{'BottleneckBlock' if config.bottleneck else 'BasicBlock'}"),
            "num_blocks": depth, "stride_per_block": [2 if s else 1, *[1] * (depth - 1)], "in_channels": inputs,
            "out_channels": outputs, **block, **stride, "norm": norm}))
        inputs = outputs
    return stages
