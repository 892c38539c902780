"""How Detectron2 projects hold a ResNet. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Iterator

from zooconv import Fresh, Layout, Requires, rename

from .configs import FPNS, NOTE, detrexs, requires
from .dialects import CANONICAL
from .family import ResNetConfig, tensors


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
           source=RESNET, requires=requires(),
           projects={"detrex": Requires(lazy=detrexs, note=NOTE)}),

    Layout(("fpn",), mount="backbone.bottom_up.", rules=CANONICAL, refuses=basic_stem,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/fpn.py: build_resnet_fpn_backbone",
           requires=requires("build_resnet_fpn_backbone", FPNS)),

    # NORM: BN or SyncBN: nn.BatchNorm2d, which counts its batches
    Layout(("bn",), mount="backbone.", rules=CANONICAL, source=RESNET, fresh=counters, refuses=batch_norms,
           requires=requires(NORM="BN")),

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
           requires=requires(lazy=False, keys={"ROI_HEADS": {"NAME": "Res5ROIHeads"}}, OUT_FEATURES=["res4"])),
]
