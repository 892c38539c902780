"""DINOv3's Vision Transformers (Siméoni et al. 2025, arXiv:2508.10104). Its ConvNeXts are of the family convnext.

Canonical names: facebookresearch/dinov3 dinov3/models/vision_transformer.py, but for one tensor. There, `attn.qkv.bias`
is one for queries, keys and values, with a mask that makes its second third zero; everybody else holds a bias of
queries and one of values. So do the canonical names, `attn.q_bias` and `attn.v_bias`: what has no effect has no name,
the same weights have the same tensors whoever spells them, and each dialect can be had back from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Refusal, Shapes, TensorSpec
from zooconv_zoo.tables import layer

PATCH = 16  # pixels


@dataclass(frozen=True)
class DINOv3Config:
    """What shapes tell of a member."""

    dim: int        # channels
    depth: int      # blocks
    hidden: int     # channels in a perceptron
    gated: bool     # has a perceptron a gate (SwiGLU)?
    qkv_bias: bool  # have queries and values a bias?
    storage: int = 4  # storage tokens, which others call registers

    @property
    def heads(self) -> int:
        """No tensor tells it: heads have 64 channels, those of the 7B 128; the toy has two heads."""
        return {4096: 32, TOY.dim: 2}.get(self.dim, self.dim // 64)

    @property
    def eps(self) -> float:
        """Of the norms: `layernormbf16` in dinov3/hub/backbones.py, of all members."""
        return 1e-5


# dinov3/hub/backbones.py. `_qkvb`, as timm says: with the bias of queries and values, which the official files and
# transformers' have. It came out of the distillation as zero, timm says, which publishes members without it, too. Of no
# official release: tiny (EUPE, which keeps the architecture), giant (LingBot-Vision, likewise).
VARIANTS = {
    "tiny_qkvb": DINOv3Config(192, 12, 768, gated=False, qkv_bias=True),
    "small": DINOv3Config(384, 12, 1536, gated=False, qkv_bias=False),
    "small_qkvb": DINOv3Config(384, 12, 1536, gated=False, qkv_bias=True),
    "small_plus": DINOv3Config(384, 12, 1536, gated=True, qkv_bias=False),
    "small_plus_qkvb": DINOv3Config(384, 12, 1536, gated=True, qkv_bias=True),
    "base": DINOv3Config(768, 12, 3072, gated=False, qkv_bias=False),
    "base_qkvb": DINOv3Config(768, 12, 3072, gated=False, qkv_bias=True),
    "large": DINOv3Config(1024, 24, 4096, gated=False, qkv_bias=False),
    "large_qkvb": DINOv3Config(1024, 24, 4096, gated=False, qkv_bias=True),
    "huge_plus": DINOv3Config(1280, 32, 5120, gated=True, qkv_bias=False),
    "huge_plus_qkvb": DINOv3Config(1280, 32, 5120, gated=True, qkv_bias=True),
    "giant": DINOv3Config(1536, 40, 4096, gated=True, qkv_bias=False),
    "7b": DINOv3Config(4096, 40, 8192, gated=True, qkv_bias=False),
}

TOY = DINOv3Config(16, 2, 24, gated=False, qkv_bias=True, storage=3)
TOY_GATED = DINOv3Config(16, 2, 24, gated=True, qkv_bias=True, storage=3)


def infer(shapes: Shapes) -> DINOv3Config:
    """Read the config off canonical names and shapes."""
    gated = "blocks.0.mlp.w1.weight" in shapes
    hidden, dim = shapes.usual(f"blocks.{{b}}.mlp.{'w1' if gated else 'fc1'}.weight")
    return DINOv3Config(dim, len(shapes.counts("blocks.{b}.ls{n}.gamma")), hidden, gated=gated,
                        qkv_bias="blocks.0.attn.q_bias" in shapes, storage=shapes["storage_tokens"][1])


def tensors(config: DINOv3Config) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module. Positions are rotations, and have none."""
    dim, hidden = config.dim, config.hidden
    yield TensorSpec("cls_token", (1, 1, dim))
    yield TensorSpec("storage_tokens", (1, config.storage, dim))
    yield from layer("patch_embed.proj", (dim, 3, PATCH, PATCH))
    for b in range(config.depth):
        block = f"blocks.{b}"
        yield from layer(f"{block}.norm1", (dim,))
        if config.qkv_bias:
            yield TensorSpec(f"{block}.attn.q_bias", (dim,))
            yield TensorSpec(f"{block}.attn.v_bias", (dim,))
        yield TensorSpec(f"{block}.attn.qkv.weight", (3 * dim, dim))
        yield from layer(f"{block}.attn.proj", (dim, dim))
        yield TensorSpec(f"{block}.ls1.gamma", (dim,))
        yield from layer(f"{block}.norm2", (dim,))
        if config.gated:  # w3(silu(w1(x)) * w2(x))
            yield from layer(f"{block}.mlp.w1", (hidden, dim))
            yield from layer(f"{block}.mlp.w2", (hidden, dim))
            yield from layer(f"{block}.mlp.w3", (dim, hidden))
        else:
            yield from layer(f"{block}.mlp.fc1", (hidden, dim))
            yield from layer(f"{block}.mlp.fc2", (dim, hidden))
        yield TensorSpec(f"{block}.ls2.gamma", (dim,))
    yield from layer("norm", (dim,))


REFUSALS = (
    Refusal("Sapiens2, which has DINOv3's positions and storage tokens, but RMS norms, norms of queries and keys, and "
            "heads that share keys", has="blocks.{b}.attn.k_norm.weight", lacks="pos_embed"),
    Refusal("it has a norm of its own for the class token (untie_cls_and_patch_norms), which no published DINOv3 has",
            has="cls_norm.weight"),
)
