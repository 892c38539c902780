"""RegNet X and Y as plain torch, with the canonical names: what a converted file means, to be read beside the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import BatchNorm, OutputShape, freeze

from .family import RegNetConfig

STAGES = ("s1", "s2", "s3", "s4")


def conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)


class Stem(nn.Module):
    """A 3x3 convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(3, width, 3, stride=2)
        self.bn = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()  # type: ignore[no-any-return]


class SqueezeExcitation(nn.Module):
    """Every channel is scaled by what a two-layer perceptron makes of all channels' means (arXiv:1709.01507)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.f_ex = nn.Sequential(nn.Conv2d(width, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.f_ex(x.mean((2, 3), keepdim=True))  # type: ignore[no-any-return]


class Transform(nn.Module):
    """1x1, grouped 3x3, squeeze-excitation in a Y, 1x1 (Fig. 4 of the paper, with its bottleneck ratio of 1)."""

    def __init__(self, inputs: int, width: int, stride: int, group_width: int, squeezed: int) -> None:
        super().__init__()
        self.a, self.a_bn = conv(inputs, width, 1), BatchNorm(width)
        self.b, self.b_bn = conv(width, width, 3, stride, groups=width // group_width), BatchNorm(width)
        self.se = SqueezeExcitation(width, squeezed) if squeezed else nn.Identity()
        self.c, self.c_bn = conv(width, width, 1), BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a_bn(self.a(x)).relu()
        x = self.se(self.b_bn(self.b(x)).relu())
        return self.c_bn(self.c(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transform and a residual; the first of a stage halves the resolution of both."""

    def __init__(self, inputs: int, width: int, first: bool, group_width: int, squeezed: int) -> None:
        super().__init__()
        if first:
            self.proj, self.bn = conv(inputs, width, 1, stride=2), BatchNorm(width)
        self.f = Transform(inputs, width, 2 if first else 1, group_width, squeezed)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.bn(self.proj(x)) if self.first else x
        return (shortcut + self.f(x)).relu()  # type: ignore[no-any-return]


class RegNet(nn.Module):
    """The backbone of `depths` blocks of `widths` channels, in groups of `group_widths`, per stage.

    `forward` takes images (N, 3, H, W) and returns, of stem and s1 … s4, those in `out_features`: features
    (N, width, H/stride, W/stride), of stride 2 after the stem, 4 after s1, and so on. `se_ratio` is what
    squeeze-excitation leaves of a block's input channels (Y: 0.25), 0 is none of it (X). `checkpointing` trades time
    for memory while training (torch.utils.checkpoint).
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int], group_widths: Sequence[int], *,
                 stem_width: int = 32, se_ratio: float = 0.0, out_features: Sequence[str] = STAGES,
                 checkpointing: bool = False) -> None:
        super().__init__()
        self.stem = Stem(stem_width)
        inputs = stem_width
        for s, (depth, width, group_width) in enumerate(zip(depths, widths, group_widths, strict=True), 1):
            stage = nn.Sequential()
            for b in range(1, depth + 1):
                stage.add_module(f"b{b}", Block(inputs, width, b == 1, group_width, round(se_ratio * inputs)))
                inputs = width
            self.add_module(f"s{s}", stage)
        self.widths, self.out_features, self.checkpointing = (stem_width, *widths), tuple(out_features), checkpointing

    def parts(self) -> Iterator[tuple[str, Sequence[nn.Module]]]:
        """The stem, and every stage's blocks."""
        yield "stem", [self.stem]
        for s in range(1, len(self.widths)):
            yield f"s{s}", [*self.get_submodule(f"s{s}").children()]

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {name: OutputShape(width, 2 ** (s + 1)) for s, ((name, _), width) in
                  enumerate(zip(self.parts(), self.widths, strict=True))}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing, statistics included: 1 is the stem, 2 the stem and s1, and so on."""
        freeze(at, *(blocks for _, blocks in self.parts()))
        return self.train(self.training)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.outputs(x)
        return {name: features[name] for name in self.out_features}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: the stem, and all stages."""
        features = {}
        for name, blocks in self.parts():
            for block in blocks:
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            features[name] = x
        return features


def build(config: RegNetConfig, **options: Any) -> RegNet:
    """The reference module of a config; `options` are those of the class."""
    return RegNet(config.depths, config.widths, config.group_widths, stem_width=config.stem_width,
                  se_ratio=config.se_ratio, **options)
