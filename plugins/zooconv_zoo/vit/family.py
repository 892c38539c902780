"""Plain vision transformers: ViT (Dosovitskiy et al. 2021, arXiv:2010.11929), and what has its blocks: DeiT, MAE,
DINOv2 (arXiv:2304.07193, with and without registers), the image towers of CLIP (arXiv:2103.00020).

Canonical names: facebookresearch/dinov2 dinov2/models/vision_transformer.py; where DINOv2 has nothing, timm's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from zooconv import Refusal, Shapes, TensorSpec
from zooconv_zoo.tables import layer

from .sizes import HEADS


@dataclass(frozen=True)
class ViTConfig:
    """Channels, blocks, channels inside the perceptrons, pixels of a patch, and patches along a side of the images
    whose positions were learned.

    `registers` are tokens besides the class token. The first `pos_prefix` rows of `pos_embed` belong to such tokens,
    not to patches: one for all together where only the class token has a position, none where no token has one. (What
    ViTDet holds has a class token's position, and no class token.) `layerscale`: the scales ls1 and ls2; `gated`: a
    SwiGLU perceptron; `pre_norm`: a norm before the first block instead of a bias of the patches, as in CLIP; `norm`:
    one after the last.
    """

    dim: int
    depth: int
    hidden: int
    patch: int
    grid: int
    class_token: bool = True
    registers: int = 0
    pos_prefix: int = 1
    layerscale: bool = False
    gated: bool = False
    pre_norm: bool = False
    qkv_bias: bool = True
    norm: bool = True

    @property
    def prefix(self) -> int:
        """How many tokens stand before those of the patches."""
        return self.class_token + self.registers

    @property
    def eps(self) -> float:
        """The norms' epsilon, which shapes do not tell: CLIP's is 1e-5 (torch's own default), all others' 1e-6."""
        return 1e-5 if self.pre_norm else 1e-6

    @property
    def heads(self) -> int:
        """Shapes do not tell them: see sizes.py. Raises KeyError for channels that are not there."""
        return HEADS[self.dim, self.hidden]


def infer(shapes: Shapes) -> ViTConfig:
    """Read the config off the canonical names and shapes. Raises ValueError for what they do not tell."""
    dim, _, patch, _ = shapes["patch_embed.proj.weight"]
    depth = len(shapes.counts("blocks.{b}.norm{n}.weight"))
    gated = "blocks.0.mlp.w3.weight" in shapes
    last = shapes.usual(f"blocks.{{b}}.mlp.{'w3' if gated else 'fc2'}.weight")
    class_token, registers = "cls_token" in shapes, shapes.get("register_tokens", (1, 0, dim))[1]
    grid, pos_prefix = _places(shapes["pos_embed"][1], class_token + registers)
    config = ViTConfig(
        dim, depth, last[1], patch, grid, class_token, registers, pos_prefix, gated=gated,
        layerscale="blocks.0.ls1.gamma" in shapes, pre_norm="norm_pre.weight" in shapes,
        qkv_bias="blocks.0.attn.qkv.bias" in shapes, norm="norm.weight" in shapes)
    if reason := _another(config, shapes):
        raise ValueError(reason)
    return config


def _another(config: ViTConfig, shapes: Shapes) -> str | None:
    """Why a file of these names and shapes is no plain ViT's, or could be another's: a rotation is in no weights."""
    if (config.dim, config.hidden) not in HEADS:
        return (f"how many heads there are is not in the weights, and no known ViT has {config.dim} channels with "
                f"{config.hidden} in its perceptrons")
    more = config.class_token or config.registers or config.pos_prefix or config.layerscale or config.norm
    if "blocks.0.gamma_1" in shapes:
        return ("its layer scales are called gamma_1 and gamma_2, as in DeiT III and in ViTs with rotary positions "
                "(RoPE-ViT, Perception Encoder), and a file does not tell which it is; timm/deit3_* are DeiT III")
    if config.pre_norm and not config.norm:
        return "a norm before the first block and none after the last has Perception Encoder, with rotary positions"
    if (config.patch, config.grid) == (16, 48) and not more:
        return "blocks alone, and 48x48 positions, has the encoder of Qwen3-VL, with rotary positions"
    if not (config.qkv_bias or config.class_token or config.layerscale):
        return NORMS_LAST
    return None


def _places(rows: int, prefix: int) -> tuple[int, int]:
    """The side of the grid of patches, and how many rows before it are no patch's. Raises ValueError."""
    for others in (0, 1, prefix):
        if isqrt(max(rows - others, 0)) ** 2 == rows - others > 0:
            return isqrt(rows - others), others
    raise ValueError(f"its {rows} positions are no square grid of patches, with or without those of its tokens")


def tensors(config: ViTConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    dim = config.dim
    if config.class_token:
        yield TensorSpec("cls_token", (1, 1, dim))
    yield TensorSpec("pos_embed", (1, config.pos_prefix + config.grid ** 2, dim))
    if config.registers:
        yield TensorSpec("register_tokens", (1, config.registers, dim))
    yield from layer("patch_embed.proj", (dim, 3, config.patch, config.patch), bias=not config.pre_norm)
    if config.pre_norm:
        yield from layer("norm_pre", (dim,))
    for b in range(config.depth):
        yield from _block(f"blocks.{b}", config)
    if config.norm:
        yield from layer("norm", (dim,))


def _block(block: str, config: ViTConfig) -> Iterator[TensorSpec]:
    dim, hidden = config.dim, config.hidden
    first, last, wide = ("w12", "w3", 2 * hidden) if config.gated else ("fc1", "fc2", hidden)
    yield from layer(f"{block}.norm1", (dim,))
    yield from layer(f"{block}.attn.qkv", (3 * dim, dim), bias=config.qkv_bias)
    yield from layer(f"{block}.attn.proj", (dim, dim))
    if config.layerscale:
        yield TensorSpec(f"{block}.ls1.gamma", (dim,))
    yield from layer(f"{block}.norm2", (dim,))
    yield from layer(f"{block}.mlp.{first}", (wide, dim))
    yield from layer(f"{block}.mlp.{last}", (dim, hidden))
    if config.layerscale:
        yield TensorSpec(f"{block}.ls2.gamma", (dim,))


NORMS_LAST = ("queries, keys and values without a bias, no class token, no layer scale: such a ViT normalises after "
              "attention and perceptron (_rpn), where these layouts hold one that does before")

REFUSALS = (
    Refusal("a distillation token besides the class token (DeiT's distilled members), for which no layout has a place",
            has="dist_token"),
    Refusal("a distillation token besides the class token (DeiT's distilled members), for which no layout has a place",
            has="embeddings.distillation_token"),
    Refusal("it pools with attention (SigLIP), which no layout has a place for", has="attn_pool.q.weight"),
    Refusal("it pools with attention (SigLIP), which no layout has a place for", has="head.probe"),
    Refusal("norms of queries and keys, where these layouts hold a plain ViT", has="blocks.{b}.attn.q_norm.weight"),
    Refusal("a norm within attention and perceptron (BEiT-3), where these layouts hold a plain ViT",
            has="blocks.{b}.attn.norm.weight"),
    Refusal("relative positions (SAM), where these layouts hold a plain ViT", has="neck.0.weight"),
    Refusal("differential attention (_dlittle, _dwee), where these layouts hold a plain ViT",
            has="blocks.{b}.attn.lambda_q1"),
    Refusal("attention and perceptron side by side, where these layouts hold a plain ViT",
            has="blocks.{b}.in_proj.weight"),
    Refusal("several attentions side by side, where these layouts hold a plain ViT",
            has="blocks.{b}.attns.{i}.attn.qkv.weight"),
    Refusal("norms without a bias (AIMv2), where these layouts hold a plain ViT",
            has="blocks.{b}.norm1.weight", lacks="blocks.{b}.norm1.bias"),
    Refusal("patches that a convolutional network makes (hybrids), where these layouts hold a plain ViT",
            has="patch_embed.backbone.{p:conv|conv1|stem.conv}.weight"),
    Refusal(NORMS_LAST, has="fc_norm.weight", lacks="blocks.{b}.attn.{p:qkv.bias|q_bias}"),
)
