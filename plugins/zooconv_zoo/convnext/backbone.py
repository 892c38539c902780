"""ConvNeXt as plain torch, with the canonical names: what a converted file means, to be read beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import STAGES, DropPath, OutputShape, freeze

from .family import ConvNeXtConfig


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)



class Block(nn.Module):
    """Depthwise 7x7, norm, a two-layer perceptron per pixel, a learned scale, a residual (Fig. 4 of the paper)."""

    def __init__(self, dim: int, eps: float, drop_path: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(y)))
        out: Tensor = x + self.drop_path(y.permute(0, 3, 1, 2))
        return out


class ConvNeXt(nn.Module):
    """The backbone of `depths` blocks and `dims` channels per stage.

    `forward` takes images (N, 3, H, W) and returns, of res2 … res5, those in `out_features`: the stages' features
    (N, dims[s], H/2^(s+2), W/2^(s+2)), without a norm of their own. `drop_path` is the rate of the last block, rising
    from 0 at the first; `checkpointing` trades time for memory while training (torch.utils.checkpoint). The final
    `norm`, which the classifier applies to the pooled last stage, is used by `outputs` alone.

    `block` is what the stages are made of; V2 differs in nothing else.
    """

    block: ClassVar[type[nn.Module]] = Block

    def __init__(self, depths: Sequence[int], dims: Sequence[int], *, out_features: Sequence[str] = STAGES,
                 drop_path: float = 0.0, checkpointing: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, dims[0], kernel_size=4, stride=4), ChannelNorm(dims[0], eps))
        between = [nn.Sequential(ChannelNorm(small, eps), nn.Conv2d(small, large, kernel_size=2, stride=2))
                   for small, large in pairwise(dims)]
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(nn.Sequential(*(self.block(dim, eps, next(rates)) for _ in range(depth)))
                                    for depth, dim in zip(depths, dims, strict=True))
        self.norm = nn.LayerNorm(dims[-1], eps)
        self.dims, self.out_features, self.checkpointing = tuple(dims), tuple(out_features), checkpointing

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {name: OutputShape(dim, 2 ** (s + 2)) for s, (name, dim) in
                  enumerate(zip(STAGES, self.dims, strict=True))}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is the stem, 2 the stem and res2, and so on."""
        stem, *between = self.downsample_layers
        first, *stages = self.stages
        freeze(at, [stem], [first], *zip(between, stages, strict=True))
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = {}
        for name, downsample, stage in zip(STAGES, self.downsample_layers, self.stages, strict=True):
            x = downsample(x)
            for block in stage.children():
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            features[name] = x
        return {name: features[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: all stages, and the classifier's input `pooled`."""
        features = self.forward(images)
        return features | {"pooled": self.norm(features["res5"].mean((2, 3)))}


def build(config: ConvNeXtConfig, **options: Any) -> ConvNeXt:
    """The reference module of a config; `options` are those of the class."""
    return ConvNeXt(config.depths, config.dims, eps=config.eps, **options)
