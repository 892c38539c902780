"""MViTv2 as plain torch, with the canonical names: what a converted file means, to be read beside the paper.

As `build` makes it, it is the classification model. Detectron2's MViT is the same with `window=56` and
`double_kv_stride=True`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zooconv_zoo.layers import DropPath, OutputShape, freeze

from .attention import EPS, Attention, Size
from .family import Block as Sizes
from .family import MViTConfig

STAGES = ("scale2", "scale3", "scale4", "scale5")


class Block(nn.Module):
    """Pooling attention and a perceptron, each with a norm before it and a shortcut.

    A shortcut is projected where the channels change, and pooled where the queries are; the projection takes what the
    norm gives, an unchanged shortcut does not.
    """

    def __init__(self, block: Sizes, attention: Attention, drop_path: float) -> None:
        super().__init__()
        self.drop_path, self.tokens = DropPath(drop_path), attention.tokens
        self.widens, self.in_mlp = block.inputs != block.outputs, block.outputs != block.dim
        self.norm1 = nn.LayerNorm(block.inputs, EPS)
        self.attn = attention
        self.norm2 = nn.LayerNorm(block.dim, EPS)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(block.dim, 4 * block.dim), act=nn.GELU(),
                                             fc2=nn.Linear(4 * block.dim, block.outputs)))
        self.proj = nn.Linear(block.inputs, block.outputs) if self.widens else nn.Identity()
        self.pool = nn.MaxPool2d(block.q_stride + 1, block.q_stride, padding=1) if block.q_stride > 1 else None

    def forward(self, x: Tensor, size: Size) -> tuple[Tensor, Size]:
        normed = self.norm1(x)
        shortcut = self.proj(normed) if self.widens and not self.in_mlp else x
        if self.pool is not None:
            places = torch.unflatten(shortcut[:, self.tokens:].transpose(1, 2), 2, size)
            shortcut = torch.cat([shortcut[:, :self.tokens], self.pool(places).flatten(2).transpose(1, 2)], 1)
        y, size = self.attn(normed, size)
        x = shortcut + self.drop_path(y)
        normed = self.norm2(x)
        shortcut = self.proj(normed) if self.in_mlp else x
        return shortcut + self.drop_path(self.mlp(normed)), size


class PatchEmbed(nn.Module):
    """Overlapping patches of 7 x 7 pixels, one for each 4 x 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.proj(images)
        return out


class MViT(nn.Module):
    """The backbone of a config.

    `forward` takes images (N, 3, H, W) and returns, of scale2 … scale5, those in `out_features`: the stages' features
    (N, C, H/2^i, W/2^i), without a norm of their own. `drop_path` is the rate of the last block, rising from 0 at the
    first; `checkpointing` trades time for memory while training (torch.utils.checkpoint). The final `norm`, which the
    classifier applies to the last stage, is used by `outputs` alone.

    For detection: `window` is the side of windows in the first stage, in patches, halved with each stage; the last
    blocks of scale3 … scale5 attend everywhere (hybrid window attention). `double_kv_stride` pools keys and values
    twice as much in the last blocks of scale3 and scale4. Both are Detectron2's choices for large images.

    `token_residual` adds pooled queries to the class token, too, as timm does and the authors did until their commit
    8ee2015 ("fix cls embed").
    """

    def __init__(self, config: MViTConfig, *, out_features: Sequence[str] = STAGES, window: int = 0,
                 double_kv_stride: bool = False, residual_pooling: bool = True, token_residual: bool = False,
                 use_rel_pos: bool = True, drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        if window and config.cls_token:
            raise ValueError("a class token belongs to no window")
        rates = iter(torch.linspace(0, drop_path, sum(config.depths)).tolist())
        self.sizes, self.out_features, self.checkpointing = list(config.blocks()), tuple(out_features), checkpointing
        if config.cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dims[0]))
        self.patch_embed = PatchEmbed(config.dims[0])
        self.tokens, self.blocks = int(config.cls_token), nn.ModuleList()
        for block in self.sizes:
            coarser = double_kv_stride and block.last and block.stage in (1, 2)
            everywhere = block.last and block.stage > 0
            attention = Attention(block, tokens=self.tokens, kv_stride=block.kv_stride * (2 if coarser else 1),
                                  window=0 if everywhere else window * block.side // config.grid,
                                  residual_pooling=residual_pooling, token_residual=token_residual,
                                  use_rel_pos=use_rel_pos)
            self.blocks.append(Block(block, attention, next(rates)))
        self.norm = nn.LayerNorm(config.dims[-1], EPS)

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        shapes = {STAGES[b.stage]: OutputShape(b.outputs, 2 ** (b.stage + 2)) for b in self.sizes if b.last}
        return {name: shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is the patch embedding, 2 the blocks of scale2 too, and so on."""
        blocks = list(zip(self.blocks, self.sizes, strict=True))
        freeze(at, [self.patch_embed, *self.parameters(recurse=False)],
               *([block for block, sizes in blocks if sizes.stage == s] for s in range(len(STAGES))))
        return self

    def stages(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Every stage's features, and all tokens (N, tokens + H W, C) behind the last block."""
        x, found = self.patch_embed(images), {}
        size: Size = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) if self.tokens else x
        for block, sizes in zip(self.blocks, self.sizes, strict=True):
            again = self.checkpointing and self.training
            x, size = checkpoint(block, x, size, use_reentrant=False) if again else block(x, size)
            if sizes.last:
                found[STAGES[sizes.stage]] = x[:, self.tokens:].transpose(1, 2).unflatten(2, size)
        return found, x

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found, _ = self.stages(images)
        return {name: found[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that a tensor of the backbone takes part in, and that can be told apart in it.

        Beside all stages and the classifier's input `pooled`, these are all `keys`, since the bias of their norm adds
        the same to every score of a query, which softmax takes away again; and all projected `shortcuts`, since their
        bias is added to that of the layer which they lead around, and only the sum is felt.
        """
        blocks: list[Any] = list(self.blocks)
        with heard(b.attn.norm_k for b in blocks) as keys, heard(b.proj for b in blocks if b.widens) as shortcuts:
            found, x = self.stages(images)
        normed = self.norm(x)
        pooled = normed[:, 0] if self.tokens else normed.mean(1)
        return found | {"pooled": pooled, "keys": torch.cat(keys), "shortcuts": torch.cat(shortcuts)}


@contextmanager
def heard(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """What modules give while they run, flattened: one after another."""
    given: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda m, i, out: given.append(out.flatten())) for module in modules]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def build(config: MViTConfig, **options: Any) -> MViT:
    """The reference module of a config; `options` are those of the class."""
    return MViT(config, **options)
