"""How Detectron2 projects hold a ResNet. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zooconv import Fresh, Layout, Requires, rename

from .dialects import CANONICAL
from .family import ResNetConfig, tensors

Keys = dict[str, object]
NOTE = ("STRIDE_IN_1X1 must be what the config beside says (False, but for Detectron's own weights), not its default:"
        " with the other value the same file loads without a warning, and the features are about 30 % off")

# projects/DeepLab/deeplab/resnet.py, the only builder that has the stem; its default RES5_MULTI_GRID would dilate res5
DEEP_STEM = {"STEM_TYPE": "deeplab", "RES5_MULTI_GRID": [1, 1, 1]}


def keys(builder: str = "", **resnets: object) -> Callable[[ResNetConfig], Keys]:
    """What build_resnet_backbone reads: detectron2/modeling/backbone/resnet.py."""
    def model(config: ResNetConfig) -> Keys:
        usual = "build_resnet_deeplab_backbone" if config.deep_stem else "build_resnet_backbone"
        return {"BACKBONE": {"NAME": builder or usual},
                "RESNETS": {"DEPTH": config.layers, "STRIDE_IN_1X1": False, "NUM_GROUPS": config.groups,
                            "WIDTH_PER_GROUP": config.width_per_group, "RES2_OUT_CHANNELS": config.out_channels,
                            "STEM_OUT_CHANNELS": config.stem_channels, **(DEEP_STEM if config.deep_stem else {}),
                            **({"NORM": "GN"} if config.group_norm else {}), **resnets}}
    return model


def c4_keys(config: ResNetConfig) -> Keys:
    return keys(OUT_FEATURES=["res4"])(config) | {"ROI_HEADS": {"NAME": "Res5ROIHeads"}}


def basic_stem(config: ResNetConfig) -> str | None:
    """build_resnet_backbone makes no others."""
    return "its stem is three convolutions; this builder's BasicStem is one" if config.deep_stem else None


def batch_norms(config: ResNetConfig) -> str | None:
    return "its norms are group norms; layout d2 holds them" if config.group_norm else None


def three_bottlenecks(config: ResNetConfig) -> str | None:
    """Detectron2's Res5ROIHeads._build_res5_block makes no others."""
    if config.bottleneck and config.depths[-1] == 3:
        return basic_stem(config)
    kind = "bottlenecks" if config.bottleneck else "blocks of two 3x3 convolutions"
    return f"its res5 is {config.depths[-1]} {kind}; the res5 of Res5ROIHeads is always 3 bottlenecks"


def counters(config: ResNetConfig) -> Iterator[Fresh]:
    """`num_batches_tracked` of every norm."""
    for spec in tensors(config):
        if spec.name.endswith("norm.weight"):
            yield Fresh(f"{spec.name.removesuffix('weight')}num_batches_tracked", (), 0, "I64")


RESNET = "facebookresearch/detectron2 detectron2/modeling/backbone/resnet.py"

LAYOUTS = [
    # NORM: FrozenBN, Detectron2's default: weight, bias and statistics are buffers, and nothing is counted; or GN.
    # With a deep stem, as projects/DeepLab/deeplab/resnet.py has it
    Layout(("d2", "mask2former", "maskdino", "dimaskdino", "detrex"), mount="backbone.", rules=CANONICAL,
           source=RESNET, requires=Requires(model=keys(), note=NOTE)),

    Layout(("fpn",), mount="backbone.bottom_up.", rules=CANONICAL, refuses=basic_stem,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/fpn.py: build_resnet_fpn_backbone",
           requires=Requires(model=keys("build_resnet_fpn_backbone", OUT_FEATURES=["res2", "res3", "res4", "res5"]),
                             note=NOTE)),

    # NORM: BN or SyncBN: nn.BatchNorm2d, which counts its batches
    Layout(("bn",), mount="backbone.", rules=CANONICAL, source=RESNET, fresh=counters, refuses=batch_norms,
           requires=Requires(model=keys(NORM="BN"), note=f"{NOTE}. NORM may be SyncBN")),

    # the backbone ends with res4; res5 runs on each region, and stands among the heads
    Layout(("c4",), mount="", refuses=three_bottlenecks, parts=("backbone.", "roi_heads.res5."),
           source=f"{RESNET}, and detectron2/modeling/roi_heads/roi_heads.py: Res5ROIHeads",
           rules=[
               rename("backbone.res{s:2|3|4}.{b}.conv{j}.weight",       "res{s:2|3|4}.{b}.conv{j}.weight"),
               rename("backbone.res{s:2|3|4}.{b}.conv{j}.norm.{bn}",    "res{s:2|3|4}.{b}.conv{j}.norm.{bn}"),
               rename("backbone.res{s:2|3|4}.{b}.shortcut.weight",      "res{s:2|3|4}.{b}.shortcut.weight"),
               rename("backbone.res{s:2|3|4}.{b}.shortcut.norm.{bn}",   "res{s:2|3|4}.{b}.shortcut.norm.{bn}"),
               rename("backbone.stem.conv1.weight",                     "stem.conv1.weight"),
               rename("backbone.stem.conv1.norm.{bn}",                  "stem.conv1.norm.{bn}"),
               rename("roi_heads.res5.{b}.conv{j}.weight",              "res5.{b}.conv{j}.weight"),
               rename("roi_heads.res5.{b}.conv{j}.norm.{bn}",           "res5.{b}.conv{j}.norm.{bn}"),
               rename("roi_heads.res5.{b}.shortcut.weight",             "res5.{b}.shortcut.weight"),
               rename("roi_heads.res5.{b}.shortcut.norm.{bn}",          "res5.{b}.shortcut.norm.{bn}"),
           ],
           requires=Requires(model=c4_keys, note=NOTE)),
]
