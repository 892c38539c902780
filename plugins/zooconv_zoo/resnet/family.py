"""ResNet (He et al. 2015, arXiv:1512.03385), ResNeXt (arXiv:1611.05431) and Wide ResNet (arXiv:1605.07146).

Canonical names: facebookresearch/detectron2 detectron2/modeling/backbone/resnet.py. Stages are res2 … res5, as the maps
that they make are 1/4 … 1/32 of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from zooconv import Refusal, Shapes, TensorSpec

Shape = tuple[int, ...]
EPSILON = 1e-5  # of a batch norm, here and everywhere


@dataclass(frozen=True)
class ResNetConfig:
    """Blocks per stage, and the widths that Detectron2's config speaks of.

    `out_channels` leave a block of res2, `groups` times `width_per_group` lie within it (its 3x3 convolution, where it
    is a bottleneck); both double from stage to stage. A block that is no bottleneck has two 3x3 convolutions. A deep
    stem has three 3x3 convolutions for one 7x7 (DeepLab's); group norms have 32 groups.
    """

    depths: tuple[int, ...]
    bottleneck: bool = True
    groups: int = 1
    width_per_group: int = 64
    out_channels: int = 256
    stem_channels: int = 64
    deep_stem: bool = False
    group_norm: bool = False

    @property
    def layers(self) -> int:
        """The number by which members go: convolutions one after the other, and a classifier."""
        return (3 if self.bottleneck else 2) * sum(self.depths) + 2


def basic(*depths: int) -> ResNetConfig:
    return ResNetConfig(depths, bottleneck=False, out_channels=64)


# Table 1 of the paper; the builders at the end of torchvision/models/resnet.py, and of timm/models/resnet.py for 26,
# 101_32x4d, 101_32x16d, 101_32x32d, deep stems (c, s) and group norms; Detectron2's MODEL_ZOO.md for 152_32x8d.
VARIANTS = {
    "18": basic(2, 2, 2, 2),
    "26": ResNetConfig((2, 2, 2, 2)),
    "34": basic(3, 4, 6, 3),
    "50": ResNetConfig((3, 4, 6, 3)),
    "101": ResNetConfig((3, 4, 23, 3)),
    "152": ResNetConfig((3, 8, 36, 3)),
    "50_32x4d": ResNetConfig((3, 4, 6, 3), groups=32, width_per_group=4),
    "101_32x4d": ResNetConfig((3, 4, 23, 3), groups=32, width_per_group=4),
    "101_32x8d": ResNetConfig((3, 4, 23, 3), groups=32, width_per_group=8),
    "101_32x16d": ResNetConfig((3, 4, 23, 3), groups=32, width_per_group=16),
    "101_32x32d": ResNetConfig((3, 4, 23, 3), groups=32, width_per_group=32),
    "152_32x8d": ResNetConfig((3, 8, 36, 3), groups=32, width_per_group=8),
    "101_64x4d": ResNetConfig((3, 4, 23, 3), groups=64, width_per_group=4),
    "wide50_2": ResNetConfig((3, 4, 6, 3), width_per_group=128),
    "wide101_2": ResNetConfig((3, 4, 23, 3), width_per_group=128),
    "50_gn": ResNetConfig((3, 4, 6, 3), group_norm=True),
    "101_gn": ResNetConfig((3, 4, 23, 3), group_norm=True),
    "50c": ResNetConfig((3, 4, 6, 3), deep_stem=True),
    "101c": ResNetConfig((3, 4, 23, 3), deep_stem=True),
    "152c": ResNetConfig((3, 8, 36, 3), deep_stem=True),
    "50s": ResNetConfig((3, 4, 6, 3), stem_channels=128, deep_stem=True),  # Detectron2's DeepLab/R-52
    "101s": ResNetConfig((3, 4, 23, 3), stem_channels=128, deep_stem=True),  # and R-103
    "152s": ResNetConfig((3, 8, 36, 3), stem_channels=128, deep_stem=True),
}

# Three blocks in res5, as Detectron2's C4 head has them; a stem of 64 channels, as timm's always is.
TOY = ResNetConfig((1, 1, 1, 3), width_per_group=4, out_channels=16)
TOY_DEEP = replace(TOY, deep_stem=True)
TOY_GN = replace(TOY, group_norm=True)


def infer(shapes: Shapes) -> ResNetConfig:
    """Read depths, the kind of block and all widths off the canonical names and shapes."""
    depths = shapes.counts("res{s}.{b}.conv1.weight")[2:]
    if len(depths) != 4:
        raise ValueError(f"a ResNet has four stages, and this file {len(depths)}")
    bottleneck = bool(shapes.counts("res{s}.{b}.conv3.weight"))
    width = shapes.usual("res{s}.{b}.conv1.weight", s=2)[0]
    groups = width // shapes.usual("res{s}.{b}.conv2.weight", s=2)[1]
    deep, grouped = "stem.conv3.weight" in shapes, not any(name.endswith("running_mean") for name in shapes)
    last = "res{s}.{b}.conv3.weight" if bottleneck else "res{s}.{b}.conv2.weight"
    return ResNetConfig(depths, bottleneck, groups, width // groups,
                        out_channels=shapes.usual(last, s=2)[0],
                        stem_channels=shapes[f"stem.conv{3 if deep else 1}.weight"][0], deep_stem=deep,
                        group_norm=grouped)


def tensors(config: ResNetConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    for name, weight in convolutions(config):
        yield TensorSpec(f"{name}.weight", weight)
        yield TensorSpec(f"{name}.norm.weight", weight[:1])
        yield TensorSpec(f"{name}.norm.bias", weight[:1])
        if not config.group_norm:
            yield TensorSpec(f"{name}.norm.running_mean", weight[:1])
            yield TensorSpec(f"{name}.norm.running_var", weight[:1])


def convolutions(config: ResNetConfig) -> Iterator[tuple[str, Shape]]:
    """All of them, without a bias, and with a norm after each."""
    inputs = channels = config.stem_channels
    if config.deep_stem:
        yield "stem.conv1", (channels // 2, 3, 3, 3)
        yield "stem.conv2", (channels // 2, channels // 2, 3, 3)
        yield "stem.conv3", (channels, channels // 2, 3, 3)
    else:
        yield "stem.conv1", (channels, 3, 7, 7)
    for s, depth in enumerate(config.depths):
        outputs, width = config.out_channels << s, config.groups * config.width_per_group << s
        for b in range(depth):
            block = f"res{s + 2}.{b}"
            if inputs != outputs:  # else the shortcut is the identity
                yield f"{block}.shortcut", (outputs, inputs, 1, 1)
            if config.bottleneck:
                yield f"{block}.conv1", (width, inputs, 1, 1)
                yield f"{block}.conv2", (width, width // config.groups, 3, 3)
                yield f"{block}.conv3", (outputs, width, 1, 1)
            else:
                yield f"{block}.conv1", (outputs, inputs, 3, 3)
                yield f"{block}.conv2", (outputs, outputs, 3, 3)
            inputs = outputs


REFUSALS = (
    Refusal("attention within its blocks (squeeze-and-excitation, ECA); a Detectron2 ResNet has none",
            has="layer{s}.{b}.{p:se|se_module}.{q:fc1|conv}.weight"),
    Refusal("blocks that split their channels (ResNeSt, Res2Net); a Detectron2 ResNet has one 3x3 convolution",
            has="layer{s}.{b}.{p:conv2.conv|convs.0}.weight"),
    Refusal("a CLIP ResNet: a stem of three convolutions, and average pooling for strides; a Detectron2 ResNet has one "
            "7x7 convolution, and strides in its convolutions", has="attnpool.c_proj.weight"),
    Refusal("blurred strides (anti-aliased); a Detectron2 ResNet has plain ones", has="maxpool.{i}.filt"),
    Refusal("shortcuts that pool before their convolution (_d, _t); a Detectron2 ResNet has one strided convolution",
            has="layer{s}.{b}.downsample.2.weight"),
)
