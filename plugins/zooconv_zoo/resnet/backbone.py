"""ResNet as plain torch, with the canonical names: what a converted file means, to be read beside the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import BatchNorm, OutputShape, freeze

from .family import ResNetConfig

STAGES = ("res2", "res3", "res4", "res5")


class Conv(nn.Conv2d):
    """A convolution without a bias, and the norm after it."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, *,
                 group_norm: bool = False) -> None:
        super().__init__(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.GroupNorm(32, outputs) if group_norm else BatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(super().forward(x))
        return out


MakeConv = Callable[..., Conv]


class Block(nn.Module):
    """Convolutions with a ReLU after each, beside a shortcut: the identity, or a 1x1 convolution to other channels."""

    def __init__(self, shortcut: Conv | None, *convs: Conv) -> None:
        super().__init__()
        self.shortcut = shortcut
        for j, conv in enumerate(convs, start=1):
            self.add_module(f"conv{j}", conv)

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = (part for name, part in self.named_children() if name != "shortcut")
        y = x
        for conv in inner:
            y = relu(conv(y))
        return relu(last(y) + (x if self.shortcut is None else self.shortcut(x)))


def basic(conv: MakeConv, inputs: int, outputs: int, stride: int) -> Iterator[Conv]:
    """Two 3x3 convolutions (Fig. 5 of the paper, left)."""
    yield conv(inputs, outputs, 3, stride)
    yield conv(outputs, outputs, 3)


def bottleneck(conv: MakeConv, inputs: int, width: int, outputs: int, strides: tuple[int, int],
               groups: int) -> Iterator[Conv]:
    """1x1, 3x3 in groups, 1x1 (Fig. 5 of the paper, right; Fig. 3c of ResNeXt's)."""
    yield conv(inputs, width, 1, strides[0])
    yield conv(width, width, 3, strides[1], groups)
    yield conv(width, outputs, 1)


class Stem(nn.Module):
    """A 7x7 convolution, or three 3x3 ones, and a pooling layer: a quarter of the image, each way."""

    def __init__(self, conv: MakeConv, channels: int, *, deep: bool) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv(3, half, 3, 2) if deep else conv(3, channels, 7, 2)
        if deep:
            self.conv2, self.conv3 = conv(half, half, 3), conv(half, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.children():
            x = relu(conv(x))
        return max_pool2d(x, kernel_size=3, stride=2, padding=1)


class ResNet(nn.Module):
    """The backbone of a config.

    `forward` takes images (N, 3, H, W) and returns, of stem and res2 … res5, those in `out_features`: res{s} is
    (N, out_channels * 2^(s-2), H/2^s, W/2^s). `stride_in_1x1` says where a bottleneck has its stride, as
    MODEL.RESNETS.STRIDE_IN_1X1 does: in the 3x3 convolution for weights from torchvision, timm and transformers, in the
    first 1x1 for the original ones of the paper's authors (MSRA). `checkpointing` trades time for memory while training
    (torch.utils.checkpoint).
    """

    def __init__(self, config: ResNetConfig, *, stride_in_1x1: bool = False,
                 out_features: Sequence[str] = STAGES, checkpointing: bool = False) -> None:
        super().__init__()
        conv = partial(Conv, group_norm=config.group_norm)
        self.stem = Stem(conv, config.stem_channels, deep=config.deep_stem)
        self.shapes = {"stem": OutputShape(config.stem_channels, 4)}
        inputs = config.stem_channels
        for s, (name, depth) in enumerate(zip(STAGES, config.depths, strict=True)):
            outputs, width = config.out_channels << s, config.groups * config.width_per_group << s
            stage = nn.Sequential()
            for b in range(depth):
                stride = 2 if s > 0 and b == 0 else 1
                strides = (stride, 1) if stride_in_1x1 else (1, stride)
                shortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None
                stage.append(Block(shortcut, *(
                    bottleneck(conv, inputs, width, outputs, strides, config.groups) if config.bottleneck
                    else basic(conv, inputs, outputs, stride))))
                inputs = outputs
            self.add_module(name, stage)
            self.shapes[name] = OutputShape(outputs, 4 << s)
        self.out_features, self.checkpointing = tuple(out_features), checkpointing

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        return {name: self.shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing, statistics included: 1 is the stem, 2 the stem and res2, and so on."""
        freeze(at, *([part] for part in self.children()))
        return self.train(self.training)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        for name, part in self.named_children():
            for block in [part] if name == "stem" else part.children():
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            features |= {name: x} if name in self.out_features else {}
            if len(features) == len(self.out_features):
                break
        return features

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: the stem and all stages."""
        x, features = images, {}
        for name, part in self.named_children():
            features[name] = x = part(x)
        return features


def build(config: ResNetConfig, **options: Any) -> ResNet:
    """The reference module of a config; `options` are those of the class."""
    return ResNet(config, **options)
