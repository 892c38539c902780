"""Swin Transformer V2 (Liu et al. 2022, arXiv:2111.09883).

Canonical names: microsoft/Swin-Transformer models/swin_transformer_v2.py, which Detectron2 ports keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Shapes, TensorSpec
from zooconv_zoo.tables import layer

HIDDEN = 512  # of the perceptron that makes position biases of positions


@dataclass(frozen=True)
class SwinV2Config:
    """Channels after the patch embedding, blocks and heads per stage."""

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels per stage: patch merging doubles them."""
        return tuple(self.embed_dim * 2 ** s for s in range(len(self.depths)))

    @property
    def window(self) -> int:
        """The window that a proof runs with: no tensor depends on it, because position biases are a function."""
        return 2 if self == TOY else 8


# Appendix A1 of the paper
VARIANTS = {
    "tiny": SwinV2Config(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": SwinV2Config(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": SwinV2Config(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": SwinV2Config(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}

TOY = SwinV2Config(6, (2, 1, 1, 1), (2, 2, 3, 4))


def infer(shapes: Shapes) -> SwinV2Config:
    """Read the config off canonical names and shapes."""
    scale = "layers.{s}.blocks.{b}.attn.logit_scale"
    depths = shapes.counts(scale)
    return SwinV2Config(shapes["patch_embed.norm.weight"][0], depths,
                        tuple(shapes.usual(scale, s=s)[0] for s in range(len(depths))))


def tensors(config: SwinV2Config) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    yield from layer("patch_embed.proj", (config.embed_dim, 3, 4, 4))
    yield from layer("patch_embed.norm", (config.embed_dim,))
    for s, (depth, dim, heads) in enumerate(zip(config.depths, config.dims, config.heads, strict=True)):
        for b in range(depth):
            block = f"layers.{s}.blocks.{b}"
            yield from layer(f"{block}.norm1", (dim,))
            yield TensorSpec(f"{block}.attn.logit_scale", (heads, 1, 1))
            yield TensorSpec(f"{block}.attn.q_bias", (dim,))
            yield TensorSpec(f"{block}.attn.v_bias", (dim,))
            yield from layer(f"{block}.attn.cpb_mlp.0", (HIDDEN, 2))
            yield TensorSpec(f"{block}.attn.cpb_mlp.2.weight", (heads, HIDDEN))
            yield TensorSpec(f"{block}.attn.qkv.weight", (3 * dim, dim))
            yield from layer(f"{block}.attn.proj", (dim, dim))
            yield from layer(f"{block}.norm2", (dim,))
            yield from layer(f"{block}.mlp.fc1", (4 * dim, dim))
            yield from layer(f"{block}.mlp.fc2", (dim, 4 * dim))
        if s + 1 < len(config.depths):  # patch merging: four neighbours' channels, halved, then normalised
            yield TensorSpec(f"layers.{s}.downsample.reduction.weight", (2 * dim, 4 * dim))
            yield from layer(f"layers.{s}.downsample.norm", (2 * dim,))
    yield from layer("norm", (config.dims[-1],))
