"""ConvNeXt V2 as plain torch, with the canonical names: the ConvNeXt of V1, made of other blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zooconv_zoo.convnext.backbone import ConvNeXt
from zooconv_zoo.layers import DropPath

from .family import ConvNeXtV2Config


class GlobalResponseNorm(nn.Module):
    """Of (N, H, W, C): each channel by its share of the image's energy, with a residual (section 4 of the paper)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        energy: Tensor = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = energy / (energy.mean(-1, keepdim=True) + self.eps)
        out: Tensor = x + self.gamma * (x * share) + self.beta
        return out


class Block(nn.Module):
    """Depthwise 7x7, norm, a two-layer perceptron per pixel with its responses normalised, a residual (Fig. 5)."""

    def __init__(self, dim: int, eps: float, drop_path: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.grn = GlobalResponseNorm(4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(nn.functional.gelu(self.pwconv1(y))))
        out: Tensor = x + self.drop_path(y.permute(0, 3, 1, 2))
        return out


class ConvNeXtV2(ConvNeXt):
    """The backbone of `depths` blocks and `dims` channels per stage; options, outputs and `freeze` are ConvNeXt's."""

    block = Block


def build(config: ConvNeXtV2Config, **options: Any) -> ConvNeXtV2:
    """The reference module of a config; `options` are those of the class."""
    return ConvNeXtV2(config.depths, config.dims, **options)
