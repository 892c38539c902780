"""Swin Transformer V2 as plain torch, with the canonical names: what a converted file means, beside the paper.

As in the first version (`zooconv_zoo.swin.backbone`), maps are padded to whole windows, and every second block shifts
its windows. Three things differ (Fig. 1): attention is of cosines, position biases are a function of positions, norms
come after what they normalise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from zooconv_zoo.layers import DropPath, Mlp
from zooconv_zoo.swin.backbone import Block, Swin, relative_index

from .family import HIDDEN, SwinV2Config


def positions(window: int, trained: int) -> Tensor:
    """Relative positions on the log-spaced scale of Section 3.3, in float32 as everywhere: ((2W-1)², 2).

    `trained` is the window of the pretraining.
    """
    steps = torch.arange(1 - window, window, dtype=torch.float32) / (max(trained, 2) - 1) * 8
    scaled = steps.sign() * (steps.abs() + 1).log2() / math.log2(8)
    return torch.cartesian_prod(scaled, scaled)


class CosineAttention(nn.Module):
    """Attention among the places of a window by cosines, with a bias that is a function of their relative position."""

    index: Tensor
    table: Tensor

    def __init__(self, dim: int, heads: int, window: int, trained: int) -> None:
        super().__init__()
        self.heads = heads
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, heads, bias=False))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("index", relative_index(window), persistent=False)
        self.register_buffer("table", positions(window, trained), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """`x` is (N, windows, W², C); `apart` (windows, 1, W², W²) is true where two places must not see each other."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        q, k, v = (self.qkv(x) + bias).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        place = 16 * self.cpb_mlp(self.table.to(x.dtype))[self.index].permute(2, 0, 1).sigmoid()
        scores = normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-1, -2) * scale + place
        if apart is not None:
            scores = scores.masked_fill(apart, -torch.inf)
        out: Tensor = self.proj((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2))
        return out


class BlockV2(Block):
    """A block of the first version with cosine attention, and with norms at the ends of its residuals."""

    def __init__(self, dim: int, heads: int, window: int, trained: int, shift: int, drop_path: float) -> None:
        nn.Module.__init__(self)
        self.window, self.shift = window, shift
        self.drop_path = DropPath(drop_path)
        self.norm1 = nn.LayerNorm(dim)
        self.attn: nn.Module = CosineAttention(dim, heads, window, trained)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attend(x)))
        out: Tensor = x + self.drop_path(self.norm2(self.mlp(x)))
        return out


class PatchMergingV2(nn.Module):
    """Four neighbours' channels side by side, halved, and then normalised."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.norm(self.reduction(torch.cat(four, -1)))
        return out


class SwinV2(Swin):
    """The backbone of the first version with other blocks and another merging.

    `trained` is the window of the pretraining where it was another one.
    """

    def __init__(self, embed_dim: int, depths: Sequence[int], heads: Sequence[int], window: int, *, trained: int = 0,
                 **options: Any) -> None:
        self.trained = trained or window
        super().__init__(embed_dim, depths, heads, window, **options)

    def block(self, dim: int, heads: int, window: int, shift: int, drop_path: float) -> Block:
        return BlockV2(dim, heads, window, self.trained, shift, drop_path)

    def merging(self, dim: int) -> nn.Module:
        return PatchMergingV2(dim)


def build(config: SwinV2Config, **options: Any) -> SwinV2:
    """The reference module of a config; `options` are those of the class."""
    return SwinV2(config.embed_dim, config.depths, config.heads, config.window, **options)
