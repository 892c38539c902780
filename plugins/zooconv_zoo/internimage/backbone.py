"""InternImage as plain torch, with the canonical names: what a converted file means, to be read beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import STAGES, OutputShape, freeze

from .family import InternImageConfig
from .layers import Block, norm


class Level(nn.Module):
    """Blocks at one resolution, norms after some and at the end, and the convolution that leads to the next."""

    def __init__(self, config: InternImageConfig, s: int, rates: Sequence[float]) -> None:
        super().__init__()
        dim, self.normed = config.dims[s], config.normed_blocks(s)
        self.blocks = nn.ModuleList(Block(config, s, rate) for rate in rates)
        self.norm = norm(dim) if config.level_norm else nn.Identity()
        self.post_norms = nn.ModuleList(norm(dim) for _ in self.normed)
        if s + 1 < len(config.depths):
            self.downsample = nn.ModuleDict({"conv": nn.Conv2d(dim, 2 * dim, 3, 2, 1, bias=False),
                                             "norm": norm(2 * dim, first=True)})

    def forward(self, x: Tensor, *, checkpointing: bool) -> Tensor:
        for b, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if checkpointing and self.training else block(x)
            x = self.post_norms[self.normed.index(b)](x) if b in self.normed else x
        out: Tensor = self.norm(x)
        return out

    def next(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample["norm"](self.downsample["conv"](x.permute(0, 3, 1, 2)))
        return out


class Stem(nn.Module):
    """Two convolutions of stride 2, each with a norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, dim // 2, 3, 2, 1), norm(dim // 2, first=True, back=True)
        self.conv2, self.norm2 = nn.Conv2d(dim // 2, dim, 3, 2, 1), norm(dim, first=True)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm2(self.conv2(gelu(self.norm1(self.conv1(images)))))
        return out


class InternImage(nn.Module):
    """The backbone. `forward` takes images (N, 3, H, W) and returns, of res2 … res5, those in `out_features`.

    Features are (N, C 2^s, H/2^(s+2), W/2^(s+2)). `drop_path` is the rate of the last block, rising from 0;
    `checkpointing` trades time for memory while training.
    """

    def __init__(self, config: InternImageConfig, *, out_features: Sequence[str] = STAGES, drop_path: float = 0.0,
                 checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.out_features, self.checkpointing = config, tuple(out_features), checkpointing
        rates = iter(torch.linspace(0, drop_path, sum(config.depths)).tolist())
        self.patch_embed = Stem(config.channels)
        self.levels = nn.ModuleList(Level(config, s, [next(rates) for _ in range(depth)])
                                    for s, depth in enumerate(config.depths))

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {name: OutputShape(dim, 2 ** (s + 2)) for s, (name, dim) in
                  enumerate(zip(STAGES, self.config.dims, strict=True))}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is the stem, 2 res2 and what leads on from it too, and so on."""
        freeze(at, [self.patch_embed], *([level] for level in self.levels))
        return self

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: all stages."""
        x, found = self.patch_embed(images), {}
        for name, level in zip(STAGES, self.levels, strict=True):
            assert isinstance(level, Level)
            x = level(x, checkpointing=self.checkpointing)
            found[name] = x.permute(0, 3, 1, 2)
            x = level.next(x) if level is not self.levels[-1] else x
        return found

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.outputs(images)
        return {name: found[name] for name in self.out_features}


def build(config: InternImageConfig, **options: Any) -> InternImage:
    """The reference module of a config; `options` are those of the class."""
    return InternImage(config, **options)
