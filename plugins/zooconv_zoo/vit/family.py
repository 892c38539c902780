"""Plain vision transformers: ViT (Dosovitskiy et al. 2021, arXiv:2010.11929), and what has its blocks: DeiT, MAE,
DINOv2 (arXiv:2304.07193, with and without registers), the image towers of CLIP (arXiv:2103.00020).

Canonical names: facebookresearch/dinov2 dinov2/models/vision_transformer.py; where DINOv2 has nothing, timm's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt

from zooconv import Refusal, Shapes, TensorSpec


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
        """Shapes do not tell them: see SIZES. Raises ValueError for channels that are not there."""
        try:
            return HEADS[self.dim, self.hidden]
        except KeyError:
            raise ValueError(f"how many heads there are is not in the weights, and no known ViT has {self.dim} "
                             f"channels with {self.hidden} in its perceptrons") from None


# dim, depth, hidden, heads: table 1 of the paper, table 2 of Zhai et al. 2022 (arXiv:2106.04560) for giant and
# gigantic, dinov2/models/vision_transformer.py for giant2, timm/models/vision_transformer.py for the others. Not there:
# 1536 channels with 6144 in a perceptron, of which some have 24 heads (RADIO), and some 16 (SigLIP 2).
SIZES = {
    "toy": (8, 2, 24, 2),
    "tiny": (192, 12, 768, 3),
    "xsmall": (256, 10, 1024, 4),
    "wee": (256, 14, 1280, 4),
    "little": (320, 14, 1792, 5),
    "small": (384, 12, 1536, 6),
    "medium": (512, 12, 2048, 8),
    "mediumd": (512, 20, 2048, 8),
    "betwixt": (640, 12, 2560, 10),
    "base": (768, 12, 3072, 12),
    "so150m2": (832, 21, 2176, 13),
    "so150m": (896, 18, 2304, 14),
    "plus": (896, 12, 3584, 14),
    "large": (1024, 24, 4096, 16),
    "so400m": (1152, 27, 4304, 16),
    "huge": (1280, 32, 5120, 16),
    "giant": (1408, 40, 6144, 16),
    "giant2": (1536, 40, 4096, 24),
    "gigantic": (1664, 48, 8192, 16),
}
HEADS = {(dim, hidden): heads for dim, _, hidden, heads in SIZES.values()}

# What sets kinds of members apart, by the end of their variants' names.
KINDS: dict[str, dict[str, int]] = {
    "": {},
    "clip": {"pre_norm": True},
    "dinov2": {"layerscale": True},
    "dinov2_reg4": {"layerscale": True, "registers": 4},
    "dinov2_reg4_timm": {"layerscale": True, "registers": 4, "pos_prefix": 0},  # the class token's is added to it
    "tipsv2": {"layerscale": True, "registers": 1, "pos_prefix": 0},
    "deit3": {"layerscale": True, "pos_prefix": 0},
    "radio": {"registers": 7, "pos_prefix": 0, "norm": False},
    "radio_ls": {"registers": 7, "pos_prefix": 0, "norm": False, "layerscale": True},
    "radio4": {"registers": 9, "pos_prefix": 0, "norm": False},
    "intern": {"layerscale": True, "norm": False},
    "flexi": {"pos_prefix": 0},
    "miil": {"qkv_bias": False},
    "pooled": {"norm": False},
    # without a class token: what is classified is the mean of the patches
    "gap": {"class_token": False, "pos_prefix": 0},
    "gap_ls": {"class_token": False, "pos_prefix": 0, "layerscale": True, "qkv_bias": False},
    "gap_reg1": {"class_token": False, "registers": 1, "pos_prefix": 0, "layerscale": True, "norm": False},
    "gap_reg4": {"class_token": False, "registers": 4, "pos_prefix": 0, "layerscale": True, "norm": False},
    "gap_reg1_pos": {"class_token": False, "registers": 1, "layerscale": True, "qkv_bias": False, "norm": False},
    "gap_reg4_pos": {"class_token": False, "registers": 4, "pos_prefix": 4},
}

# Size, pixels of a patch, pixels of an image's side. Every one of timm's pretrained ViTs is one of these.
MEMBERS = {
    "": (
        "tiny_p16_224 tiny_p16_384 small_p8_224 small_p16_224 small_p16_384 small_p32_224 small_p32_384 "
        "base_p8_224 base_p16_224 base_p16_384 base_p32_224 base_p32_384 large_p16_224 large_p16_384 "
        "large_p32_224 large_p32_384 huge_p14_224"
    ),
    "clip": (
        "xsmall_p16_224 medium_p16_224 medium_p32_224 betwixt_p32_224 base_p16_224 base_p16_384 "
        "base_p32_224 base_p32_256 base_p32_384 base_p32_448 plus_p16_240 large_p14_224 large_p14_336 "
        "huge_p14_224 huge_p14_336 huge_p14_378 giant_p14_224 gigantic_p14_224 gigantic_p14_378"
    ),
    "dinov2": "small_p14_518 base_p14_518 large_p14_518 giant2_p14_518",
    "dinov2_reg4": "small_p14_518 base_p14_518 large_p14_518 giant2_p14_518",
    "dinov2_reg4_timm": "small_p14_518 base_p14_518 large_p14_518 giant2_p14_518",
    "tipsv2": "base_p14_448 large_p14_448 so400m_p14_448 giant2_p14_448",
    "deit3": (
        "small_p16_224 small_p16_384 medium_p16_224 base_p16_224 base_p16_384 large_p16_224 large_p16_384 "
        "huge_p14_224"
    ),
    "radio": "huge_p16_512",
    "radio_ls": "base_p16_512 large_p16_512",
    "radio4": "so400m_p16_512 huge_p16_512",
    "intern": "large_p14_448",
    "flexi": "small_p16_240 base_p16_240 large_p16_240",
    "miil": "base_p16_224",
    "pooled": "large_p14_196 large_p14_336",
    "gap": (
        "base_p16_224 base_p16_256 base_p16_384 base_p16_512 base_p32_256 large_p16_256 large_p16_384 "
        "large_p16_512 so400m_p14_224 so400m_p14_378 so400m_p14_448 so400m_p14_896 so400m_p16_256 "
        "so400m_p16_384 so400m_p16_512 huge_p14_224 huge_p16_448 giant_p16_224"
    ),
    "gap_ls": "medium_p16_240 medium_p16_256 medium_p16_384",
    "gap_reg1": "wee_p16_256 little_p16_256 medium_p16_256 betwixt_p16_256",
    "gap_reg4": (
        "little_p16_256 medium_p16_256 mediumd_p16_256 mediumd_p16_384 betwixt_p16_256 betwixt_p16_384"
    ),
    "gap_reg1_pos": "so150m2_p16_256 so150m2_p16_384 so150m2_p16_448",
    "gap_reg4_pos": "so150m_p16_256 so150m_p16_384",
}


def _member(name: str, kind: str = "") -> ViTConfig:
    """A config by its name: `base_p16_224` is the base size, with patches of 16 pixels in images of 224."""
    size, patch, pixels = name.split("_")
    dim, depth, hidden, _ = SIZES[size]
    return ViTConfig(dim, depth, hidden, int(patch[1:]), int(pixels) // int(patch[1:]), gated=size == "giant2",
                     **KINDS[kind])  # type: ignore[arg-type]


VARIANTS = {f"{name}_{kind}".rstrip("_"): _member(name, kind)
            for kind, names in MEMBERS.items() for name in names.split()}

TOY = _member("toy_p4_12")
TOY_CLIP = _member("toy_p4_12", "clip")
TOY_DINOV2 = replace(TOY, layerscale=True, registers=2)
TOY_SWIGLU = replace(TOY, layerscale=True, gated=True)


def infer(shapes: Shapes) -> ViTConfig:
    """Read the config off the canonical names and shapes. Raises ValueError for what they do not tell."""
    dim, _, patch, _ = shapes["patch_embed.proj.weight"]
    depth = 1 + max((int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")), default=-1)
    gated = "blocks.0.mlp.w3.weight" in shapes
    last = shapes.usual(f"blocks.{{b}}.mlp.{'w3' if gated else 'fc2'}.weight")
    class_token, registers = "cls_token" in shapes, shapes.get("register_tokens", (1, 0, dim))[1]
    grid, pos_prefix = _places(shapes["pos_embed"][1], class_token + registers)
    config = ViTConfig(
        dim, depth, last[1], patch, grid, class_token, registers, pos_prefix, gated=gated,
        layerscale="blocks.0.ls1.gamma" in shapes, pre_norm="norm_pre.weight" in shapes,
        qkv_bias="blocks.0.attn.qkv.bias" in shapes, norm="norm.weight" in shapes)
    if not (config.qkv_bias or config.class_token or config.layerscale):
        raise ValueError(NORMS_LAST)
    assert config.heads
    return config


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
    yield from _layer("patch_embed.proj", (dim, 3, config.patch, config.patch), bias=not config.pre_norm)
    if config.pre_norm:
        yield from _layer("norm_pre", (dim,))
    for b in range(config.depth):
        yield from _block(f"blocks.{b}", config)
    if config.norm:
        yield from _layer("norm", (dim,))


def _block(block: str, config: ViTConfig) -> Iterator[TensorSpec]:
    dim, hidden = config.dim, config.hidden
    first, last, wide = ("w12", "w3", 2 * hidden) if config.gated else ("fc1", "fc2", hidden)
    yield from _layer(f"{block}.norm1", (dim,))
    yield from _layer(f"{block}.attn.qkv", (3 * dim, dim), bias=config.qkv_bias)
    yield from _layer(f"{block}.attn.proj", (dim, dim))
    if config.layerscale:
        yield TensorSpec(f"{block}.ls1.gamma", (dim,))
    yield from _layer(f"{block}.norm2", (dim,))
    yield from _layer(f"{block}.mlp.{first}", (wide, dim))
    yield from _layer(f"{block}.mlp.{last}", (dim, hidden))
    if config.layerscale:
        yield TensorSpec(f"{block}.ls2.gamma", (dim,))


def _layer(name: str, weight: tuple[int, ...], *, bias: bool = True) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", weight)
    if bias:
        yield TensorSpec(f"{name}.bias", weight[:1])


NORMS_LAST = ("queries, keys and values without a bias, no class token, no layer scale: such a ViT normalises after "
              "attention and perceptron (_rpn), where these layouts hold one that does before")

REFUSALS = (
    Refusal("a distillation token besides the class token (DeiT's distilled members), for which no layout has a place",
            has="dist_token"),
    Refusal("a distillation token besides the class token (DeiT's distilled members), for which no layout has a place",
            has="embeddings.distillation_token"),
    Refusal("it pools with attention (SigLIP): timm's _gap members are the same without that", has="attn_pool.q.weight"),
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
