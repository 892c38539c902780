"""FocalNet as plain torch, with the canonical names: what a converted file means, to be read beside the paper."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import STAGES, DropPath, OutputShape, freeze

from .family import FocalNetConfig


class PatchEmbed(nn.Module):
    """(N, C, H, W) to (N, H/stride, W/stride, dim): a convolution, then a norm. Odd borders are padded with zeros."""

    def __init__(self, channels: int, dim: int, stride: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = nn.functional.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class FocalModulation(nn.Module):
    """Each pixel's query, times what its surroundings say, gathered level by level (section 3 of the paper)."""

    def __init__(self, dim: int, levels: int, window: int, *, norm: bool, normalize: bool) -> None:
        super().__init__()
        self.f = nn.Linear(dim, 2 * dim + levels + 1)
        self.h = nn.Conv2d(dim, dim, kernel_size=1)
        self.proj = nn.Linear(dim, dim)
        self.focal_layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim, bias=False), nn.GELU())
            for size in range(window, window + 2 * levels, 2))
        self.ln = nn.LayerNorm(dim) if norm else nn.Identity()
        self.sizes, self.divisor = (dim, dim, levels + 1), levels + 1 if normalize else 1

    def forward(self, x: Tensor) -> Tensor:
        query, context, gates = self.f(x).permute(0, 3, 1, 2).split(self.sizes, 1)
        gathered = torch.zeros_like(context)
        for level, layer in enumerate(self.focal_layers):
            context = layer(context)
            gathered = gathered + context * gates[:, level, None]
        gathered = gathered + nn.functional.gelu(context.mean((2, 3), keepdim=True)) * gates[:, -1:]
        y = query * self.h(gathered / self.divisor)
        out: Tensor = self.proj(self.ln(y.permute(0, 2, 3, 1)))
        return out


class Block(nn.Module):
    """Modulation and perceptron, each with a norm before it or behind it, a scale or none, and a residual."""

    def __init__(self, config: FocalNetConfig, s: int, drop_path: float) -> None:
        super().__init__()
        dim, self.post_norm = config.dims[s], config.post_norm
        self.gamma_1 = nn.Parameter(torch.full((dim,), 1e-4)) if config.layer_scale else 1.0
        self.gamma_2 = nn.Parameter(torch.full((dim,), 1e-4)) if config.layer_scale else 1.0
        self.norm1 = nn.LayerNorm(dim)
        self.modulation = FocalModulation(dim, config.levels[s], config.windows[s], norm=config.modulation_norm,
                                          normalize=config.normalize_modulator)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.modulation(x)) if self.post_norm else self.modulation(self.norm1(x))
        x = x + self.drop_path(self.gamma_1 * y)
        y = self.norm2(self.mlp(x)) if self.post_norm else self.mlp(self.norm2(x))
        out: Tensor = x + self.drop_path(self.gamma_2 * y)
        return out


class Stage(nn.Module):
    """Blocks, and the patch embedding of the next stage."""

    def __init__(self, blocks: Sequence[Block], downsample: PatchEmbed | None, *, checkpointing: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample, self.checkpointing = downsample, checkpointing

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's features (N, C, H, W), and what the next stage is given."""
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
        features = x.permute(0, 3, 1, 2)
        return features, x if self.downsample is None else self.downsample(features)


class FocalNet(nn.Module):
    """The backbone of a config.

    `forward` takes images (N, 3, H, W) and returns, of res2 … res5, those in `out_features`: the stages' features
    (N, dims[s], H/2^(s+2), W/2^(s+2)), without a norm of their own. `drop_path` is the rate of the last block, rising
    from 0 at the first; `checkpointing` trades time for memory while training (torch.utils.checkpoint). The final
    `norm`, which the classifier applies to each pixel of the last stage before it pools, is used by `outputs` alone.
    """

    def __init__(self, config: FocalNetConfig, *, out_features: Sequence[str] = STAGES, drop_path: float = 0.0,
                 checkpointing: bool = False) -> None:
        super().__init__()
        dims, (stem, between) = config.dims, ((7, 2), (3, 1)) if config.conv_embed else ((4, 0), (2, 0))
        rates = iter(torch.linspace(0, drop_path, sum(config.depths)).tolist())
        self.patch_embed = PatchEmbed(3, dims[0], 4, *stem)
        self.layers = nn.ModuleList(
            Stage([Block(config, s, next(rates)) for _ in range(depth)],
                  PatchEmbed(dims[s], dims[s + 1], 2, *between) if s + 1 < len(dims) else None,
                  checkpointing=checkpointing)
            for s, depth in enumerate(config.depths))
        self.norm = nn.LayerNorm(dims[-1])
        self.dims, self.out_features = dims, tuple(out_features)

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {name: OutputShape(dim, 2 ** (s + 2)) for s, (name, dim) in
                  enumerate(zip(STAGES, self.dims, strict=True))}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is the patch embedding, 2 res2 too, 3 res3 and what leads to it."""
        before = [None, *(stage.downsample for stage in self.layers[:-1])]
        freeze(at, [self.patch_embed], *zip(before, (stage.blocks for stage in self.layers), strict=True))
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features, x = {}, self.patch_embed(x)
        for name, stage in zip(STAGES, self.layers, strict=True):
            features[name], x = stage(x)
        return {name: features[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: all stages, and the classifier's input `pooled`."""
        features = self.forward(images)
        return features | {"pooled": self.norm(features["res5"].permute(0, 2, 3, 1)).mean((1, 2))}


def build(config: FocalNetConfig, **options: Any) -> FocalNet:
    """The reference module of a config; `options` are those of the class."""
    return FocalNet(config, **options)
