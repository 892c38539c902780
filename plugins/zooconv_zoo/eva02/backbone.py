"""EVA-02 as plain torch, with the canonical names: what a converted file means, to be read beside the paper.

As a classifier is pretrained, every token attends to all others, the class token among them. Detectors leave it out
and attend within windows in most blocks (ViTDet, arXiv:2203.16527): `class_token`, `window`, `windowed`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import DropPath, OutputShape, freeze

from .family import HEAD, EVA02Config
from .layers import EPS, Attention, SwiGLU, joined, split, turns


class Block(nn.Module):
    """Attention among the tokens, then a perceptron for each; norms come before."""

    def __init__(self, config: EVA02Config, drop: float) -> None:
        super().__init__()
        self.drop_path = DropPath(drop)
        self.norm1 = nn.LayerNorm(config.embed_dim, EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, EPS)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, by: Tensor, size: tuple[int, int], window: int) -> Tensor:
        y = self.norm1(x)
        y = joined(self.attn(split(y, size, window), by), size, window) if window else self.attn(y, by)
        x = x + self.drop_path(y)
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class EVA02(nn.Module):
    """The backbone. `forward` takes images (N, 3, H, W), sides multiples of the patch, and returns `out_features`.

    Features are (N, C, H/patch, W/patch): `last_feat`, which pyramids are made of, or `block1`, `block2` …; the final
    `norm` is used by `outputs` alone. `drop_path` is the rate of the last block, rising from 0; `checkpointing` trades
    time for memory while training.
    """

    def __init__(self, config: EVA02Config, *, out_features: Sequence[str] = ("last_feat",), window: int = 0,
                 windowed: Collection[int] = (), drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        if windowed and (config.class_token or not window):
            raise ValueError("blocks that attend within windows need the size of these, and have no class token")
        dim = config.embed_dim
        self.config, self.window, self.windowed = config, window, frozenset(windowed)
        self.out_features, self.checkpointing = tuple(out_features), checkpointing
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid ** 2 + 1, dim))
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, config.patch, config.patch)})
        rates = torch.linspace(0, drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, EPS)

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        return dict.fromkeys(self.out_features, OutputShape(self.config.embed_dim, self.config.patch))

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is the embeddings, 2 the first block too, and so on."""
        freeze(at, [self.patch_embed, *self.parameters(recurse=False)], *([block] for block in self.blocks))
        return self

    def positions(self, size: tuple[int, int]) -> Tensor:
        """The learned embedding of each place (1, H·W, C): the trained map, resampled to `size` as in ViTDet."""
        side = self.config.grid
        if size == (side, side):
            return self.pos_embed[:, 1:]
        grid = self.pos_embed[:, 1:].view(1, side, side, -1).permute(0, 3, 1, 2)
        return interpolate(grid, size, mode="bicubic").flatten(2).transpose(1, 2)

    def tokens(self, images: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Every block's tokens, the class token first, and how many patches high and wide the image is."""
        x = self.patch_embed["proj"](images)
        size, found = (x.shape[2], x.shape[3]), []
        x = x.flatten(2).transpose(1, 2) + self.positions(size)
        by = turns(*size, x.device)
        within = turns(self.window, self.window, x.device) if self.windowed else by
        if self.config.class_token:  # which is not turned
            x = torch.cat(((self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x), 1)
            by = torch.cat((by.new_tensor([[[1.0]], [[0.0]]]).expand(-1, -1, HEAD), by), 1)
        for b, block in enumerate(self.blocks):
            given = (x, within, size, self.window) if b in self.windowed else (x, by, size, 0)
            x = checkpoint(block, *given, use_reentrant=False) if self.checkpointing and self.training else (
                block(*given))
            found.append(x)
        return found, size

    def maps(self, tokens: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        return {f"block{n}": x[:, -size[0] * size[1]:].transpose(1, 2).reshape(len(x), -1, *size)
                for n, x in enumerate(tokens, 1)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.maps(*self.tokens(images))
        found["last_feat"] = found[f"block{len(self.blocks)}"]
        return {name: found[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in.

        All blocks' maps, and the two things that the norm is applied to: each token, and the mean of the patches.
        """
        found, size = self.tokens(images)
        maps = self.maps(found, size)
        mean = list(maps.values())[-1].mean((2, 3))
        return maps | {"tokens": self.norm(found[-1]), "pooled": self.norm(mean)}


def build(config: EVA02Config, **options: Any) -> EVA02:
    """The reference module of a config; `options` are those of the class."""
    return EVA02(config, **options)
