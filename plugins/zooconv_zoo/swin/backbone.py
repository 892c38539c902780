"""Swin Transformer as plain torch, with the canonical names: what a converted file means, beside the paper.

It follows Detectron2's ports: maps are padded to whole windows, and every second block shifts its windows, also where
one window covers the whole map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import STAGES, DropPath, Mlp, OutputShape, freeze

from .family import SwinConfig


def relative_index(window: int) -> Tensor:
    """The row of the position table for each pair of places in a window: (W², W²)."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y[:, None] - y + window - 1) * (2 * window - 1) + (x[:, None] - x + window - 1)


def windows(x: Tensor, size: int) -> Tensor:
    """(N, H, W, C) -> (N, windows, size², C)."""
    n, h, w, c = x.shape
    return x.view(n, h // size, size, w // size, size, c).transpose(2, 3).reshape(n, -1, size * size, c)


def unwindows(x: Tensor, size: int, height: int, width: int) -> Tensor:
    """The inverse of `windows`."""
    n, c = len(x), x.shape[-1]
    return x.view(n, height // size, width // size, size, size, c).transpose(2, 3).reshape(n, height, width, c)


class WindowAttention(nn.Module):
    """Attention among the places of a window, with a learned bias for each relative position (Section 3.2)."""

    index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("index", relative_index(window), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """`x` is (N, windows, W², C); `apart` (windows, 1, W², W²) is true where two places must not see each other."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
        if apart is not None:
            scores = scores.masked_fill(apart, -torch.inf)
        out: Tensor = self.proj((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2))
        return out



class Block(nn.Module):
    """Attention in windows, shifted by half a window in every second block, then a perceptron (Fig. 3b)."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.drop_path = DropPath(drop_path)
        self.norm1 = nn.LayerNorm(dim)
        self.attn: nn.Module = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attend(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def attend(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        x = pad(x, (0, 0, 0, -w % self.window, 0, -h % self.window))
        _, height, width, _ = x.shape
        shifted = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        apart = self.strangers(height, width, x.device) if self.shift else None
        y = unwindows(self.attn(windows(shifted, self.window), apart), self.window, height, width)
        return (y.roll((self.shift, self.shift), (1, 2)) if self.shift else y)[:, :h, :w]

    def strangers(self, height: int, width: int, device: torch.device) -> Tensor:
        """Which places of a shifted window come from opposite borders of the map."""
        def region(size: int) -> Tensor:
            at = torch.arange(size, device=device)
            return (at >= size - self.window).long() + (at >= size - self.shift).long()
        regions = 3 * region(height)[:, None] + region(width)
        inside = windows(regions[None, :, :, None], self.window)[0, :, :, 0]
        return (inside[:, None, :, None] != inside[:, None, None, :])


class PatchMerging(nn.Module):
    """Four neighbours' channels side by side, in the order (0,0), (1,0), (0,1), (1,1), normalised, and halved."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduction(self.norm(torch.cat(four, -1)))
        return out


class PatchEmbed(nn.Module):
    """Images (N, 3, H, W) to patches of 4 x 4 pixels, channels last: (N, H/4, W/4, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        h, w = images.shape[2:]
        out: Tensor = self.norm(self.proj(pad(images, (0, -w % 4, 0, -h % 4))).permute(0, 2, 3, 1))
        return out


def resized(positions: Tensor, size: Sequence[int]) -> Tensor:
    """The map of absolute positions for a map of another size, as Detectron2's ports have it."""
    same = tuple(positions.shape[2:]) == tuple(size)
    return positions if same else interpolate(positions, size=tuple(size), mode="bicubic")


class Stage(nn.Module):
    """Blocks at one resolution, and the merging that leads to the next."""

    def __init__(self, blocks: Iterable[Block], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class Swin(nn.Module):
    """The backbone. `forward` takes images (N, 3, H, W) and returns, of res2 … res5, those in `out_features`.

    Features are (N, C 2^s, H/2^(s+2), W/2^(s+2)), without a norm of their own. `drop_path` is the rate of the last
    block, rising from 0 at the first; `checkpointing` trades time for memory while training.
    """

    def __init__(self, embed_dim: int, depths: Sequence[int], heads: Sequence[int], window: int, *,
                 positions: int = 0, out_features: Sequence[str] = STAGES, drop_path: float = 0.0,
                 checkpointing: bool = False) -> None:
        super().__init__()
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, embed_dim, positions, positions)) if positions else None
        self.dims = tuple(embed_dim * 2 ** s for s in range(len(depths)))
        self.out_features, self.checkpointing = tuple(out_features), checkpointing
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        self.patch_embed = PatchEmbed(embed_dim)
        self.layers = nn.ModuleList()
        for s, (depth, dim, count) in enumerate(zip(depths, self.dims, heads, strict=True)):
            blocks = [self.block(dim, count, window, window // 2 if b % 2 else 0, next(rates)) for b in range(depth)]
            self.layers.append(Stage(blocks, self.merging(dim) if s + 1 < len(depths) else None))
        self.norm = nn.LayerNorm(self.dims[-1])

    def block(self, dim: int, heads: int, window: int, shift: int, drop_path: float) -> Block:
        return Block(dim, heads, window, shift, drop_path)

    def merging(self, dim: int) -> nn.Module:
        return PatchMerging(dim)

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {name: OutputShape(dim, 2 ** (s + 2))
                  for s, (name, dim) in enumerate(zip(STAGES, self.dims, strict=False))}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is the embeddings, 2 res2 and what leads on from it too, and so on."""
        freeze(at, [self.patch_embed, self.absolute_pos_embed], *([layer] for layer in self.layers))
        return self

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """Every stage's features, channels last."""
        x, found = self.patch_embed(images), {}
        if self.absolute_pos_embed is not None:
            x = x + resized(self.absolute_pos_embed, x.shape[1:3]).permute(0, 2, 3, 1)
        for name, stage in zip(STAGES, self.layers, strict=False):
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            found[name] = x
            x = stage.downsample(x) if stage.downsample else x
        return found

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.stages(images)
        return {name: found[name].permute(0, 3, 1, 2) for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: all stages, and the classifier's input `pooled`."""
        found = self.stages(images)
        last = list(found.values())[-1]
        return {n: f.permute(0, 3, 1, 2) for n, f in found.items()} | {"pooled": self.norm(last).mean((1, 2))}


def build(config: SwinConfig, **options: Any) -> Swin:
    """The reference module of a config; `options` are those of the class."""
    return Swin(config.embed_dim, config.depths, config.heads, config.window, positions=config.positions, **options)
