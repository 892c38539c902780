"""ViT as plain torch, with the canonical names: what a converted file means, to be read beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import DropPath, OutputShape, freeze

from .family import ViTConfig


class Patches(nn.Module):
    """A linear layer per patch, as a convolution: `proj`."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.dim, config.patch, stride=config.patch, bias=not config.pre_norm)

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.proj(images)
        return patches


class Attention(nn.Module):
    """Every token looks at every other (section 3.1 of arXiv:1706.03762), in several heads."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Perceptron(nn.Module):
    """Two linear layers per token. QuickGELU, x sigmoid(1.702 x), is what OpenAI's CLIP was trained with."""

    def __init__(self, config: ViTConfig, quick_gelu: bool) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.fc1 = nn.Linear(config.dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        out: Tensor = self.fc2(x * (1.702 * x).sigmoid() if self.quick_gelu else gelu(x))
        return out


class SwiGLU(nn.Module):
    """A perceptron whose first half opens and closes the second (arXiv:2002.05202)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.w12 = nn.Linear(config.dim, 2 * config.hidden)
        self.w3 = nn.Linear(config.hidden, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(silu(gate) * value)
        return out


class LayerScale(nn.Module):
    """A learned factor per channel (arXiv:2103.17239)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Attention, then a perceptron; each after a norm, each beside a shortcut."""

    def __init__(self, config: ViTConfig, drop_path: float, quick_gelu: bool) -> None:
        super().__init__()
        dim, scaled = config.dim, config.layerscale
        self.norm1 = nn.LayerNorm(dim, config.eps)
        self.attn = Attention(config)
        self.ls1 = LayerScale(dim) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, config.eps)
        self.mlp = SwiGLU(config) if config.gated else Perceptron(config, quick_gelu)
        self.ls2 = LayerScale(dim) if scaled else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        out: Tensor = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return out


class ViT(nn.Module):
    """The backbone of a config.

    `forward` takes images (N, 3, H, W) and returns, of last_feat and block0, block1 …, those in `out_features`: what
    leaves the block at the patches (N, dim, H/patch, W/patch), without a norm; last_feat is the last block's. Where an
    image has another grid of patches than those whose positions were learned, these are interpolated bicubically.
    `drop_path` is the rate of the last block, rising from 0 at the first; `checkpointing` trades time for memory while
    training (torch.utils.checkpoint). The final `norm` is used by `outputs` alone.
    """

    def __init__(self, config: ViTConfig, *, out_features: Sequence[str] = ("last_feat",), drop_path: float = 0.0,
                 checkpointing: bool = False, quick_gelu: bool = False) -> None:
        super().__init__()
        dim, rates = config.dim, torch.linspace(0, drop_path, config.depth).tolist()
        self.config, self.out_features, self.checkpointing = config, tuple(out_features), checkpointing
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.class_token else None
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, config.pos_prefix + config.grid ** 2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, dim)) if config.registers else None
        self.patch_embed = Patches(config)
        self.norm_pre = nn.LayerNorm(dim, config.eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, rate, quick_gelu) for rate in rates)
        self.norm = nn.LayerNorm(dim, config.eps) if config.norm else nn.Identity()

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        return dict.fromkeys(self.out_features, OutputShape(self.config.dim, self.config.patch))

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is all that makes the tokens, 2 the first block too, and so on."""
        freeze(at, [self.patch_embed, self.norm_pre, *self.parameters(recurse=False)],
               *([block] for block in self.blocks))
        return self

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (N, T, dim): the class token and the registers as far as there are any, then the patches by rows."""
        patches, (rows, grid) = self.patch_embed(images), self.positions()
        if patches.shape[2:] != grid.shape[2:]:
            grid = interpolate(grid, patches.shape[2:], mode="bicubic", align_corners=False)
        tokens: list[Tensor] = [token for token in (self.cls_token, self.register_tokens) if token is not None]
        if tokens:
            first = torch.cat(tokens, 1)
            count = min(rows.shape[1], first.shape[1])  # those of the class token alone, or of all
            tokens = [first[:, :count] + rows[:, :count], first[:, count:]]
        expanded = [token.expand(len(images), -1, -1) for token in tokens]
        x: Tensor = self.norm_pre(torch.cat([*expanded, (patches + grid).flatten(2).transpose(1, 2)], 1))
        return x

    def positions(self) -> tuple[Tensor, Tensor]:
        """The rows that belong to tokens besides the patches (1, pos_prefix, dim), and the patches' as a map."""
        side = self.config.grid
        rows, grid = self.pos_embed[:, :-side * side], self.pos_embed[:, -side * side:]
        return rows, grid.transpose(1, 2).reshape(1, -1, side, side)

    def features(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The patches as a map after each block, and all tokens after the last."""
        x, found = self.embed(images), {}
        size = [pixels // self.config.patch for pixels in images.shape[2:]]
        for b, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            found[f"block{b}"] = x[:, self.config.prefix:].transpose(1, 2).unflatten(2, size)
        return found | {"last_feat": found[f"block{b}"]}, x

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found, _ = self.features(images)
        return {name: found[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in: some blocks, and all tokens after the final norm."""
        found, x = self.features(images)
        return {f"block{b}": found[f"block{b}"] for b in told(self.config.depth)} | {"tokens": self.norm(x)}


def told(depth: int) -> list[int]:
    """The blocks after which `outputs` looks: at most four, at equal distances, the last among them."""
    return list(range(depth - 1, -1, -max(depth // 4, 1)))[:4][::-1]


def build(config: ViTConfig, **options: Any) -> ViT:
    """The reference module of a config; `options` are those of the class."""
    return ViT(config, **options)
