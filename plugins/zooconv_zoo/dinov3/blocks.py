"""A DINOv3 ViT's blocks, and how a patch is told where it is (Section 3.2 of the paper)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from zooconv_zoo.layers import DropPath, Mlp

from .family import DINOv3Config


def angles(height: int, width: int, channels: int) -> Tensor:
    """How far each pair of a head's channels is turned, at each patch: (HW, C/2), float64.

    A patch is where its centre is, from -1 to 1 along each axis; half of the channels turn with y, the others with x,
    each pair with a period of its own from 1 to nearly 100. A pair is the channels c and c + C/2.
    """
    y, x = ((torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1 for size in (height, width))
    periods = 100 ** (torch.arange(channels // 4, dtype=torch.float64) * 4 / channels)
    return torch.cartesian_prod(y, x)[..., None].div(periods).mul(2 * math.pi).flatten(1)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the last patches of (N, heads, tokens, C), as many as there are angles: the tokens before them stay."""
    still, (a, b) = x[..., :-len(cos), :], x[..., -len(cos):, :].chunk(2, -1)
    return torch.cat([still, torch.cat([a * cos - b * sin, b * cos + a * sin], -1)], -2)


class Attention(nn.Module):
    """Self-attention whose queries and keys are turned; keys have no bias."""

    def __init__(self, dim: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        bias = None
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        n, tokens, dim = x.shape
        q, k, v = linear(x, self.qkv.weight, bias).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v)
        return self.proj(out.transpose(1, 2).reshape(n, tokens, dim))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma



class GatedMlp(nn.Module):
    """SwiGLU (arXiv:2002.05202): `w1` is the gate."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(dim, hidden), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(silu(self.w1(x)) * self.w2(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then a perceptron; each behind a norm, with a scale for each channel and a residual."""

    def __init__(self, config: DINOv3Config, drop_path: float) -> None:
        super().__init__()
        dim = config.dim
        self.drop_path = DropPath(drop_path)
        self.norm1 = nn.LayerNorm(dim, config.eps)
        self.attn = Attention(dim, config.heads, config.qkv_bias)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, config.eps)
        self.mlp = (GatedMlp if config.gated else Mlp)(dim, config.hidden)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), cos, sin)))
        out: Tensor = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return out
