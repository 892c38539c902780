"""EVA-02 (Fang et al. 2023, arXiv:2303.11331), and the image towers of EVA-CLIP (Sun et al. 2023, arXiv:2303.15389).

A plain vision transformer with SwiGLU perceptrons and rotary position embeddings. Canonical names: baaivision/EVA
EVA-02/asuka/modeling_finetune.py, which Detectron2 ports keep. No tensor tells what the last norm is applied to: every
token (`norm`, in pretraining and CLIP) or the mean of the patches (`fc_norm`, in classifiers); here both are `norm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from zooconv import Shapes, TensorSpec
from zooconv_zoo.tables import layer

HEAD = 64  # channels of an attention head, in all members
REFERENCE = 16  # rotary positions run from 0 to this along each side, whatever the image (pt_hw_seq_len)


@dataclass(frozen=True)
class EVA02Config:
    """Channels, blocks, the side of a patch in pixels and of the trained image in patches, channels within SwiGLU.

    Members from base on have a norm in the perceptron, and separate matrices for what is one matrix in the smaller ones
    (`sub_norm`); EVA-CLIP's have one in the attention as well (`attn_norm`). Detection runs without a class token;
    `pos_embed` has its row all the same.
    """

    embed_dim: int
    depth: int
    patch: int
    grid: int
    hidden: int
    sub_norm: bool = True
    attn_norm: bool = False
    class_token: bool = True

    @property
    def pos_prefix(self) -> int:
        """How many rows of `pos_embed` belong to no patch: the class token's."""
        return 1

    @property
    def heads(self) -> int:
        """Heads of attention, which shapes do not tell."""
        return self.embed_dim // HEAD


# Table 1 and 7 of the paper, timm/models/eva.py; patch16: the p14to16 files; clip: EVA-CLIP/rei/eva_clip/model_configs
VARIANTS = {
    "tiny_patch14_224": EVA02Config(192, 12, 14, 16, 512, sub_norm=False),
    "tiny_patch14_336": EVA02Config(192, 12, 14, 24, 512, sub_norm=False),
    "small_patch14_224": EVA02Config(384, 12, 14, 16, 1024, sub_norm=False),
    "small_patch14_336": EVA02Config(384, 12, 14, 24, 1024, sub_norm=False),
    "base_patch14_224": EVA02Config(768, 12, 14, 16, 2048),
    "base_patch14_448": EVA02Config(768, 12, 14, 32, 2048),
    "base_patch16_224": EVA02Config(768, 12, 16, 14, 2048),
    "base_patch16_clip_224": EVA02Config(768, 12, 16, 14, 2048, attn_norm=True),
    "large_patch14_224": EVA02Config(1024, 24, 14, 16, 2730),
    "large_patch14_448": EVA02Config(1024, 24, 14, 32, 2730),
    "large_patch16_224": EVA02Config(1024, 24, 16, 14, 2730),
    "large_patch14_clip_224": EVA02Config(1024, 24, 14, 16, 2730, attn_norm=True),
    "large_patch14_clip_336": EVA02Config(1024, 24, 14, 24, 2730, attn_norm=True),
}

TOY = EVA02Config(128, 2, 16, 3, 40)


def infer(shapes: Shapes) -> EVA02Config:
    """Read the config off canonical names and shapes; `pos_embed` has a row for each patch and the class token."""
    embed_dim, _, patch, _ = shapes["patch_embed.proj.weight"]
    return EVA02Config(embed_dim, len(shapes.counts("blocks.{b}.norm{n}.weight")), patch,
                       isqrt(shapes["pos_embed"][1] - 1), shapes.usual("blocks.{b}.mlp.w3.weight")[1],
                       sub_norm="blocks.0.attn.q_proj.weight" in shapes,
                       attn_norm="blocks.0.attn.inner_attn_ln.weight" in shapes, class_token="cls_token" in shapes)


def tensors(config: EVA02Config) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    dim, patch = config.embed_dim, config.patch
    yield TensorSpec("pos_embed", (1, config.grid ** 2 + 1, dim))
    if config.class_token:
        yield TensorSpec("cls_token", (1, 1, dim))
    yield from layer("patch_embed.proj", (dim, 3, patch, patch))
    for b in range(config.depth):
        yield from layer(f"blocks.{b}.norm1", (dim,))
        yield from _attention(config, f"blocks.{b}.attn")
        yield from layer(f"blocks.{b}.norm2", (dim,))
        yield from _perceptron(config, f"blocks.{b}.mlp")
    yield from layer("norm", (dim,))


def _attention(config: EVA02Config, name: str) -> Iterator[TensorSpec]:
    dim = config.embed_dim
    yield TensorSpec(f"{name}.q_bias", (dim,))  # keys have none
    yield TensorSpec(f"{name}.v_bias", (dim,))
    if config.sub_norm:
        yield from (TensorSpec(f"{name}.{part}_proj.weight", (dim, dim)) for part in "qkv")
    else:
        yield TensorSpec(f"{name}.qkv.weight", (3 * dim, dim))
    if config.attn_norm:
        yield from layer(f"{name}.inner_attn_ln", (dim,))
    yield from layer(f"{name}.proj", (dim, dim))


def _perceptron(config: EVA02Config, name: str) -> Iterator[TensorSpec]:
    dim, hidden = config.embed_dim, config.hidden
    if config.sub_norm:
        yield from layer(f"{name}.w1", (hidden, dim))  # the gate
        yield from layer(f"{name}.w2", (hidden, dim))
        yield from layer(f"{name}.ffn_ln", (hidden,))
    else:
        yield from layer(f"{name}.w12", (2 * hidden, dim))
    yield from layer(f"{name}.w3", (dim, hidden))


def image(config: EVA02Config) -> tuple[int, int]:
    """Images of the size that it was trained on: of another, packages resample `pos_embed` each in a way of its own."""
    return (config.patch * config.grid,) * 2
