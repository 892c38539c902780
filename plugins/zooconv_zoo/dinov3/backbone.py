"""DINOv3's ViT as plain torch, with the canonical names: what a converted file means, to be read beside the paper.

It takes images of any size: where a patch is, its queries and keys are told by a rotation, which follows from the size
of the map and is no tensor. It is computed in double precision; the official code reads its periods from the file,
where they are rounded to bfloat16 (as timm's RotaryEmbeddingDinoV3 says), timm and transformers compute them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import OutputShape, freeze

from .blocks import Block, angles
from .family import PATCH, DINOv3Config


class PatchEmbed(nn.Module):
    """Images (N, 3, H, W), padded to whole patches, to one vector a patch: (N, C, H/16, W/16)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return self.proj(pad(images, (0, -width % PATCH, 0, -height % PATCH)))  # type: ignore[no-any-return]


class DINOv3ViT(nn.Module):
    """The backbone. `forward` takes images (N, 3, H, W) and returns those in `out_features`, each (N, C, H/16, W/16).

    `last_feat` is the last block's map behind the final norm, as Detectron2's ViT calls it; `block0`, `block1` … are
    what leaves each block, without a norm. `drop_path` is the rate of the last block, rising from 0 at the first;
    `checkpointing` trades time for memory while training.
    """

    def __init__(self, config: DINOv3Config, *, out_features: Sequence[str] = ("last_feat",), drop_path: float = 0.0,
                 checkpointing: bool = False) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, config.depth).tolist()
        self.config, self.out_features, self.checkpointing = config, tuple(out_features), checkpointing
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.storage_tokens = nn.Parameter(torch.zeros(1, config.storage, config.dim))
        self.patch_embed = PatchEmbed(config.dim)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.dim, config.eps)

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        return dict.fromkeys(self.out_features, OutputShape(self.config.dim, PATCH))

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is patch embedding and tokens, 2 the first block too, and so on."""
        freeze(at, [self.patch_embed, self.cls_token, self.storage_tokens], *([block] for block in self.blocks))
        return self

    def tokens(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The class token, the storage tokens and every map's patches, by the map's name: (N, 1 + storage + HW, C)."""
        patches = self.patch_embed(images)
        height, width = patches.shape[2:]
        places = angles(height, width, self.config.dim // self.config.heads)
        cos, sin = places.cos().to(patches), places.sin().to(patches)
        learned = (token.expand(len(images), -1, -1) for token in (self.cls_token, self.storage_tokens))
        x = torch.cat([*learned, patches.flatten(2).transpose(1, 2)], 1)
        for i, block in enumerate(self.blocks):
            x = (checkpoint(block, x, cos, sin, use_reentrant=False) if self.checkpointing and self.training
                 else block(x, cos, sin))
            yield f"block{i}", x
        yield "last_feat", self.norm(x)

    def as_map(self, tokens: Tensor, images: Tensor) -> Tensor:
        """The patches among the tokens, where they are."""
        height, width = (-(-size // PATCH) for size in images.shape[2:])
        return tokens[:, 1 + self.config.storage:].transpose(1, 2).reshape(len(tokens), -1, height, width)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = {name: self.as_map(x, images) for name, x in self.tokens(images) if name in self.out_features}
        return {name: found[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor takes part in: all maps, and the class token behind the final norm."""
        found = dict(self.tokens(images))
        return {name: self.as_map(x, images) for name, x in found.items()} | {"class_token": found["last_feat"][:, 0]}


def build(config: DINOv3Config, **options: Any) -> DINOv3ViT:
    """The reference module of a config; `options` are those of the class."""
    return DINOv3ViT(config, **options)
