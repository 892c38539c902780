"""What the blocks of an EVA-02 are made of: rotary positions, attention, gated perceptrons, windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention, silu

from .family import HEAD, REFERENCE, EVA02Config

EPS = 1e-6


def turns(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Cosine and sine by which each place's pairs of channels are turned: (2, H·W, HEAD), in float32 as everywhere.

    Half of the pairs turn with the row, half with the column; both count from 0 to REFERENCE, whatever the size.
    """
    pairs = HEAD // 4
    speeds = 1 / 10000 ** (torch.arange(pairs, device=device) / pairs)
    sides = [torch.arange(side, device=device) / side * REFERENCE for side in (height, width)]
    angles = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1)[..., None] * speeds
    return torch.stack((angles.cos(), angles.sin())).flatten(1, 2).flatten(-2).repeat_interleave(2, -1)


def turned(x: Tensor, by: Tensor) -> Tensor:
    """Each pair of channels of `x` (N, heads, places, HEAD) turned by its place's angle."""
    cosine, sine = by.to(x.dtype)
    out: Tensor = x * cosine + torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2) * sine
    return out


class Attention(nn.Module):
    """Attention of rotated queries and keys. One matrix makes all three, or three (`sub_norm`); keys have no bias."""

    def __init__(self, config: EVA02Config) -> None:
        super().__init__()
        dim = config.embed_dim
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.parts = ("q_proj", "k_proj", "v_proj") if config.sub_norm else ("qkv",)
        for name in self.parts:
            self.add_module(name, nn.Linear(dim, 3 * dim // len(self.parts), bias=False))
        self.inner_attn_ln = nn.LayerNorm(dim, EPS) if config.attn_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, by: Tensor) -> Tensor:
        weight = torch.cat([getattr(self, name).weight for name in self.parts])
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        q, k, v = linear(x, weight, bias).view(*x.shape[:2], 3, -1, HEAD).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(turned(q, by), turned(k, by), v)
        out: Tensor = self.proj(self.inner_attn_ln(found.transpose(-2, -3).flatten(-2)))
        return out


class SwiGLU(nn.Module):
    """A perceptron whose hidden layer is gated (arXiv:2002.05202). One matrix makes gate and gated, or two."""

    def __init__(self, config: EVA02Config) -> None:
        super().__init__()
        dim, hidden = config.embed_dim, config.hidden
        self.parts = ("w1", "w2") if config.sub_norm else ("w12",)
        for name in self.parts:
            self.add_module(name, nn.Linear(dim, 2 * hidden // len(self.parts)))
        self.ffn_ln = nn.LayerNorm(hidden, EPS) if config.sub_norm else nn.Identity()
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, gated = torch.cat([getattr(self, name)(x) for name in self.parts], -1).chunk(2, -1)
        out: Tensor = self.w3(self.ffn_ln(silu(gate) * gated))
        return out


def split(x: Tensor, size: tuple[int, int], window: int) -> Tensor:
    """A map's places (N, H·W, C) as those of windows (N·windows, W², C); the map is padded with zeros."""
    number, _, channels = x.shape
    rows, columns = (-(-side // window) for side in size)
    x = pad(x.view(number, *size, channels), (0, 0, 0, -size[1] % window, 0, -size[0] % window))
    x = x.view(number, rows, window, columns, window, channels).transpose(2, 3)
    return x.reshape(-1, window ** 2, channels)


def joined(x: Tensor, size: tuple[int, int], window: int) -> Tensor:
    """The map again, of its windows."""
    rows, columns = (-(-side // window) for side in size)
    x = x.view(-1, rows, columns, window, window, x.shape[-1]).transpose(2, 3)
    x = x.reshape(-1, rows * window, columns * window, x.shape[-1])
    return x[:, :size[0], :size[1]].flatten(1, 2)
