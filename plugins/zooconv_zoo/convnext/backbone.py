"""ConvNeXt as plain torch, with the canonical names: what a converted file means, to be read beside the paper.

Features leave after each stage, without a norm of their own, at strides 4, 8, 16 and 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise 7x7, norm, a two-layer perceptron per pixel, a learned scale, a residual (Fig. 4 of the paper)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(y)))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


class ConvNeXt(nn.Module):
    """The backbone of `depths` blocks and `dims` channels per stage.

    `forward` takes images (N, 3, H, W) and returns the four stages' features (N, dims[s], H/2^(s+2), W/2^(s+2)). The
    final `norm`, which the classifier applies to the pooled last stage, is held but not used.
    """

    def __init__(self, depths: Sequence[int], dims: Sequence[int], eps: float = 1e-6) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, dims[0], kernel_size=4, stride=4), ChannelNorm(dims[0], eps))
        between = [nn.Sequential(ChannelNorm(small, eps), nn.Conv2d(small, large, kernel_size=2, stride=2))
                   for small, large in pairwise(dims)]
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(nn.Sequential(*(Block(dim, eps) for _ in range(depth)))
                                    for depth, dim in zip(depths, dims, strict=True))
        self.norm = nn.LayerNorm(dims[-1], eps)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
            features.append(x)
        return features
