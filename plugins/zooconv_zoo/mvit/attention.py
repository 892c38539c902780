"""The attention of an MViTv2: among pooled queries, keys and values, with positions of their own for both axes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from .family import Block

EPS = 1e-6

Size = tuple[int, int]


def relative(table: Tensor, queries: int, keys: int) -> Tensor:
    """The row of a table (2 side - 1, C) for each query and key along one axis: (queries, keys, C).

    Where one of them is coarser, its places are spread over the finer one's. A table that was made for maps of another
    side is interpolated, as Detectron2 does (get_rel_pos in detectron2/modeling/backbone/utils.py).
    """
    length = 2 * max(queries, keys) - 1
    if len(table) != length:
        table = interpolate(table.T[None], size=length, mode="linear")[0].T
    finer, coarser = max(keys / queries, 1.0), max(queries / keys, 1.0)
    apart = torch.arange(queries)[:, None] * finer - torch.arange(keys) * coarser + (keys - 1) * coarser
    return table[apart.long().to(table.device)]


def windows(x: Tensor, size: Size, side: int) -> tuple[Tensor, Size]:
    """A map (..., H W, C) as windows (..., windows, side², C), padded with zeros; and its padded size."""
    x = pad(torch.unflatten(x, -2, size), (0, 0, 0, -size[1] % side, 0, -size[0] % side))
    height, width = x.shape[-3:-1]
    x = torch.unflatten(torch.unflatten(x, -2, (-1, side)), -4, (-1, side)).transpose(-3, -4)
    return x.flatten(-3, -2).flatten(-4, -3), (height, width)


def unwindows(x: Tensor, padded: Size, size: Size, side: int) -> Tensor:
    """The inverse of `windows`: (..., H W, C)."""
    x = torch.unflatten(torch.unflatten(x, -2, (side, side)), -4, (padded[0] // side, padded[1] // side))
    x = x.transpose(-3, -4).flatten(-3, -2).flatten(-4, -3)
    return x[..., :size[0], :size[1], :].flatten(-3, -2)


class Attention(nn.Module):
    """Attention among pooled queries, keys and values (Fig. 2 of the paper).

    Positions enter as two tables, of distances along the height and along the width; pooled queries are added to what
    comes out of their places (`residual_pooling`), but, unless `token_residual`, not to a class token. With `window`, a
    side on the map that comes in, places attend within windows.
    """

    def __init__(self, block: Block, *, tokens: int, kv_stride: int, window: int, residual_pooling: bool,
                 token_residual: bool, use_rel_pos: bool) -> None:
        super().__init__()
        head = block.dim // block.heads
        self.heads, self.tokens, self.residual_pooling = block.heads, tokens, residual_pooling
        self.without_residual = 0 if token_residual else tokens
        self.sides = window // block.q_stride, window // kv_stride
        self.rel_pos_h = nn.Parameter(torch.zeros(block.positions, head)) if use_rel_pos else None
        self.rel_pos_w = nn.Parameter(torch.zeros(block.positions, head)) if use_rel_pos else None
        self.qkv = nn.Linear(block.inputs, 3 * block.dim)
        self.proj = nn.Linear(block.dim, block.dim)
        for part, stride in (("q", block.q_stride), ("k", kv_stride), ("v", kv_stride)):
            pool = nn.Conv2d(head, head, kernel_size=3, stride=stride, padding=1, groups=head, bias=False)
            self.add_module(f"pool_{part}", pool)
            self.add_module(f"norm_{part}", nn.LayerNorm(head, EPS))

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        """`x` is (N, tokens + H W, C); out comes the same for the size of the pooled queries."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        (q, q_size), (k, k_size), (v, _) = (self.pooled(which, x, size) for which, x in zip("qkv", parts, strict=True))
        y = self.in_windows(q, k, v, q_size, k_size) if self.sides[0] else self.attend(q, k, v, q_size, k_size)
        if self.residual_pooling:
            y = y + pad(q[:, :, self.without_residual:], (0, 0, self.without_residual, 0))
        return self.proj(y.transpose(-2, -3).flatten(-2)), q_size

    def pooled(self, which: str, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        """Queries, keys or values (N, heads, tokens + H W, C), pooled and normalised; tokens are normalised only."""
        pool, norm = self.get_submodule(f"pool_{which}"), self.get_submodule(f"norm_{which}")
        y = pool(torch.unflatten(x[:, :, self.tokens:].flatten(0, 1).transpose(1, 2), 2, size))
        places = y.flatten(2).transpose(1, 2).unflatten(0, x.shape[:2])
        return norm(torch.cat([x[:, :, :self.tokens], places], 2)), (y.shape[2], y.shape[3])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, q_size: Size, k_size: Size) -> Tensor:
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
        if self.rel_pos_h is not None and self.rel_pos_w is not None:
            places = torch.unflatten(q[..., self.tokens:, :], -2, q_size)
            h = torch.einsum("...hwc,hkc->...hwk", places, relative(self.rel_pos_h, q_size[0], k_size[0]))
            w = torch.einsum("...hwc,wkc->...hwk", places, relative(self.rel_pos_w, q_size[1], k_size[1]))
            bias = (h[..., :, None] + w[..., None, :]).flatten(-2).flatten(-3, -2)
            scores = scores + pad(bias, (self.tokens, 0, self.tokens, 0))  # tokens have no position
        out: Tensor = scores.softmax(-1) @ v
        return out

    def in_windows(self, q: Tensor, k: Tensor, v: Tensor, q_size: Size, k_size: Size) -> Tensor:
        q_side, k_side = self.sides
        q, padded = windows(q, q_size, q_side)
        k, v = windows(k, k_size, k_side)[0], windows(v, k_size, k_side)[0]
        return unwindows(self.attend(q, k, v, (q_side, q_side), (k_side, k_side)), padded, q_size, q_side)
