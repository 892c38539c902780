"""DINOv3's ViT as plain torch, with the canonical names: what a converted file means, to be read beside the paper.

Images of any size: patches are told where they are by a rotation of queries and keys (Section 3.2), which is computed
in double precision from the size of the map, and is no tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, pad, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

from .family import PATCH, DINOv3Config

BASE = 100  # the longest period, in halves of an image


class OutputShape(NamedTuple):
    """Channels of a feature map, and how many pixels of the image one of its pixels spans."""

    channels: int
    stride: int


def angles(height: int, width: int, channels: int) -> Tensor:
    """How far each pair of a head's channels is turned, at each patch: (HW, C/2), float64.

    A patch is where its centre is, from -1 to 1 along each axis; a quarter of the channels turns with y, another with
    x, each pair with a period of its own from 1 to 100. A pair is the channels c and c + C/2.
    """
    y, x = ((torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1 for size in (height, width))
    periods = BASE ** (torch.arange(channels // 4, dtype=torch.float64) * 4 / channels)
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
        q, k, v = linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v)
        return self.proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))  # type: ignore[no-any-return]


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
        self.drop = drop_path
        self.norm1 = nn.LayerNorm(dim, config.eps)
        self.attn = Attention(dim, config.heads, config.qkv_bias)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, config.eps)
        self.mlp = (GatedMlp if config.gated else Mlp)(dim, config.hidden)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), cos, sin)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))

    def drop_path(self, x: Tensor) -> Tensor:
        """Stochastic depth (arXiv:1603.09382): while training, a residual is left out with this probability."""
        if not self.training or self.drop == 0:
            return x
        return x * x.new_empty(len(x), 1, 1).bernoulli_(1 - self.drop) / (1 - self.drop)


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

    def freeze(self, blocks: int) -> Self:
        """Let the patch embedding and the tokens (0), and the first `blocks` blocks, learn nothing."""
        self.cls_token.requires_grad_(False)
        self.storage_tokens.requires_grad_(False)
        for part in (self.patch_embed, *list(self.blocks)[:blocks]):
            part.requires_grad_(False)
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
        return tokens[:, 1 + self.config.storage:].transpose(1, 2).unflatten(2, (height, width))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = {name: self.as_map(x, images) for name, x in self.tokens(images) if name in self.out_features}
        return {name: found[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor takes part in: all maps, and the class token behind the final norm."""
        found = dict(self.tokens(images))
        return {name: self.as_map(x, images) for name, x in found.items()} | {"class_token": found["last_feat"][:, 0]}


def build(config: DINOv3Config) -> DINOv3ViT:
    """The reference module of a config."""
    return DINOv3ViT(config)
