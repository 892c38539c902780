"""The known members of the family: every one of timm's pretrained ViTs, and DINOv2's own with registers."""

from __future__ import annotations

from dataclasses import replace

from .family import ViTConfig
from .sizes import SIZES

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

# By kind: size, pixels of a patch, pixels of an image's side.
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
