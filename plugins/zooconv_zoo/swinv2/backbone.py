"""Swin Transformer V2 as plain torch, with the canonical names: what a converted file means, beside the paper.

As in the first version (`zooconv_zoo.swin.backbone`), maps are padded to whole windows, and every second block shifts
its windows. Three things differ (Fig. 1): attention is of cosines, position biases are a function of positions, norms
come after what they normalise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.swin.backbone import STAGES, Block, Mlp, OutputShape, PatchEmbed, relative_index

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
        self.window, self.shift, self.drop = window, shift, drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attn: nn.Module = CosineAttention(dim, heads, window, trained)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attend(x)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


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


class StageV2(nn.Module):
    """Blocks at one resolution, and the merging that leads to the next."""

    def __init__(self, blocks: Sequence[BlockV2], downsample: PatchMergingV2 | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class SwinV2(nn.Module):
    """The backbone. `forward` takes images (N, 3, H, W) and returns, of res2 … res5, those in `out_features`.

    Features are (N, C 2^s, H/2^(s+2), W/2^(s+2)). `trained` is the window of the pretraining where it was another one.
    `drop_path` is the rate of the last block, rising from 0; `checkpointing` trades time for memory while training.
    """

    def __init__(self, embed_dim: int, depths: Sequence[int], heads: Sequence[int], window: int, *, trained: int = 0,
                 out_features: Sequence[str] = STAGES, drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.dims = tuple(embed_dim * 2 ** s for s in range(len(depths)))
        self.out_features, self.checkpointing = tuple(out_features), checkpointing
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        self.patch_embed = PatchEmbed(embed_dim)
        self.layers = nn.ModuleList()
        for s, (depth, dim, count) in enumerate(zip(depths, self.dims, heads, strict=True)):
            blocks = [BlockV2(dim, count, window, trained or window, window // 2 if b % 2 else 0, next(rates))
                      for b in range(depth)]
            self.layers.append(StageV2(blocks, PatchMergingV2(dim) if s + 1 < len(depths) else None))
        self.norm = nn.LayerNorm(self.dims[-1])

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {name: OutputShape(dim, 2 ** (s + 2))
                  for s, (name, dim) in enumerate(zip(STAGES, self.dims, strict=False))}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, stages: int) -> Self:
        """Let the patch embedding (0) and the first `stages` stages learn nothing."""
        for part in (self.patch_embed, *list(self.layers)[:stages]):
            part.requires_grad_(False)
        return self

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """Every stage's features, channels last."""
        x, found = self.patch_embed(images), {}
        for name, stage in zip(STAGES, self.layers, strict=False):
            assert isinstance(stage, StageV2)
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


def build(config: SwinV2Config) -> SwinV2:
    """The reference module of a config."""
    return SwinV2(config.embed_dim, config.depths, config.heads, config.window)
