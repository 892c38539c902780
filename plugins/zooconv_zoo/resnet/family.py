"""ResNet (He et al. 2015, arXiv:1512.03385), ResNeXt (arXiv:1611.05431) and Wide ResNet (arXiv:1605.07146).

Canonical names: facebookresearch/detectron2 detectron2/modeling/backbone/resnet.py. Stages are res2 … res5, as the maps
that they make are 1/4 … 1/32 of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Refusal, Shapes, TensorSpec


@dataclass(frozen=True)
class ResNetConfig:
    """Blocks per stage, and the widths that Detectron2's config speaks of.

    `out_channels` leave a block of res2, `groups` times `width_per_group` lie within it (its 3x3 convolution, where it
    is a bottleneck); both double from stage to stage. A block that is no bottleneck has two 3x3 convolutions.
    """

    depths: tuple[int, ...]
    bottleneck: bool = True
    groups: int = 1
    width_per_group: int = 64
    out_channels: int = 256
    stem_channels: int = 64

    @property
    def layers(self) -> int:
        """The number by which members go: convolutions one after the other, and a classifier."""
        return (3 if self.bottleneck else 2) * sum(self.depths) + 2


def basic(*depths: int) -> ResNetConfig:
    return ResNetConfig(depths, bottleneck=False, out_channels=64)


# Table 1 of the paper; the builders at the end of torchvision/models/resnet.py, and of timm/models/resnet.py for 26,
# 101_32x4d, 101_32x16d and 101_32x32d.
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
    "101_64x4d": ResNetConfig((3, 4, 23, 3), groups=64, width_per_group=4),
    "wide50_2": ResNetConfig((3, 4, 6, 3), width_per_group=128),
    "wide101_2": ResNetConfig((3, 4, 23, 3), width_per_group=128),
}

# Three blocks in res5, as Detectron2's C4 head has them; a stem of 64 channels, as timm's always is.
TOY = ResNetConfig((1, 1, 1, 3), width_per_group=4, out_channels=16)


def infer(shapes: Shapes) -> ResNetConfig:
    """Read depths, the kind of block and all widths off the canonical names and shapes."""
    depths = shapes.counts("res{s}.{b}.conv1.weight")[2:]
    if len(depths) != 4:
        raise ValueError(f"a ResNet has four stages, and this file {len(depths)}")
    bottleneck = bool(shapes.counts("res{s}.{b}.conv3.weight"))
    width = shapes.usual("res{s}.{b}.conv1.weight", s=2)[0]
    groups = width // shapes.usual("res{s}.{b}.conv2.weight", s=2)[1]
    last = "res{s}.{b}.conv3.weight" if bottleneck else "res{s}.{b}.conv2.weight"
    return ResNetConfig(depths, bottleneck, groups, width // groups,
                        out_channels=shapes.usual(last, s=2)[0], stem_channels=shapes["stem.conv1.weight"][0])


def tensors(config: ResNetConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    yield from _conv("stem.conv1", (config.stem_channels, 3, 7, 7))
    inputs = config.stem_channels
    for s, depth in enumerate(config.depths):
        outputs, width = config.out_channels << s, config.groups * config.width_per_group << s
        for b in range(depth):
            block = f"res{s + 2}.{b}"
            if inputs != outputs:  # else the shortcut is the identity
                yield from _conv(f"{block}.shortcut", (outputs, inputs, 1, 1))
            if config.bottleneck:
                yield from _conv(f"{block}.conv1", (width, inputs, 1, 1))
                yield from _conv(f"{block}.conv2", (width, width // config.groups, 3, 3))
                yield from _conv(f"{block}.conv3", (outputs, width, 1, 1))
            else:
                yield from _conv(f"{block}.conv1", (outputs, inputs, 3, 3))
                yield from _conv(f"{block}.conv2", (outputs, outputs, 3, 3))
            inputs = outputs


def _conv(name: str, weight: tuple[int, ...]) -> Iterator[TensorSpec]:
    """A convolution without a bias, and the batch norm after it."""
    yield TensorSpec(f"{name}.weight", weight)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield TensorSpec(f"{name}.norm.{part}", weight[:1])


REFUSALS = (
    Refusal("attention within its blocks (squeeze-and-excitation, ECA); a Detectron2 ResNet has none",
            has="layer{s}.{b}.{p:se|se_module}.{q:fc1|conv}.weight"),
    Refusal("blocks that split their channels (ResNeSt, Res2Net); a Detectron2 ResNet has one 3x3 convolution",
            has="layer{s}.{b}.{p:conv2.conv|convs.0}.weight"),
    Refusal("a CLIP ResNet: a stem of three convolutions, and average pooling for strides; a Detectron2 ResNet has one "
            "7x7 convolution, and strides in its convolutions", has="attnpool.c_proj.weight"),
    Refusal("blurred strides (anti-aliased); a Detectron2 ResNet has plain ones", has="maxpool.{i}.filt"),
    Refusal("a deep stem (_c, _d, _s, _t: three 3x3 convolutions); Detectron2's BasicStem has one 7x7 convolution",
            has="{p:conv1|stem}.{i}.weight"),
    Refusal("shortcuts that pool before their convolution (_d); a Detectron2 ResNet has one strided convolution",
            has="layer{s}.{b}.downsample.2.weight"),
    Refusal("norms without running statistics (group norms); the batch norms of these layouts have them",
            has="layer{s}.{b}.bn{j}.weight", lacks="layer{s}.{b}.bn{j}.running_mean"),
)
