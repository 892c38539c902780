"""How Detectron2 projects hold a ViT with all that it has. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zooconv import Call, Fresh, Layout, LazyBackbone, Requires
from zooconv_zoo.configs import STAGES, partial_norm, ratio, windowed

from .changes import FOLDED, PATCHES_ALONE
from .dialects import CANONICAL
from .family import ViTConfig
from .members import VARIANTS

DEVIT = {"small": VARIANTS["small_p14_518_dinov2"], "base": VARIANTS["base_p14_518_dinov2"],
         "large": VARIANTS["large_p14_518_dinov2"]}

NOTE = ("keeps the class token, the layer scales and the final norm, which Detectron2's own ViT (ViTDet) lacks. Norms "
        "have an eps of 1e-6, those of CLIP 1e-5; perceptrons have GELU, but QuickGELU in the CLIPs of OpenAI, "
        "MetaCLIP and DFN: shapes tell neither")


def devit_types(config: ViTConfig) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "build_dino_v2_vit",
                         "TYPE": next(name for name, known in DEVIT.items() if known == config)}}


def not_devits(config: ViTConfig) -> str | None:
    if config in DEVIT.values():
        return None
    return "build_dino_v2_vit makes DINOv2's small, base and large, without registers, at 518 pixels"


def mask_token(config: ViTConfig) -> Iterator[Fresh]:
    """It stands for hidden patches, and in a detector nothing is hidden."""
    yield Fresh("mask_token", (1, config.dim), 0)


def not_vitdets(config: ViTConfig) -> str | None:
    if config.pre_norm:
        return "its norm before the first block (CLIP's) has no place in Detectron2's ViT, and cannot be left out"
    if config.gated:
        return "its SwiGLU perceptrons have no place in Detectron2's ViT"
    if config.pos_prefix > 1:
        return "Detectron2's ViT knows positions of the patches and of one class token, not of registers"
    return None if config.qkv_bias else "without biases of queries, keys and values it is not known again"


def vitdet(config: ViTConfig, _: Mapping[str, object]) -> LazyBackbone:
    """detectron2/modeling/backbone/vit.py; the rest is configs/common/models/mask_rcnn_vitdet.py's."""
    return LazyBackbone(
        Call("detectron2.modeling:ViT",
             {"patch_size": config.patch, "embed_dim": config.dim, "depth": config.depth, "num_heads": config.heads,
              "mlp_ratio": ratio(config.hidden, config.dim), "qkv_bias": config.qkv_bias,
              "norm_layer": partial_norm(1e-6), "pretrain_img_size": config.patch * config.grid,
              "pretrain_use_cls_token": config.pos_prefix == 1, "out_feature": "last_feat"}),
        free={"img_size": 1024, "window_size": 14, "window_block_indexes": windowed(config.depth),
              "residual_block_indexes": [], "use_rel_pos": True, "drop_path_rate": 0.1})


ANEW = ("relative positions (rel_pos_h, rel_pos_w) and the pyramid (simfp_2 …) are not in the file and start anew: "
        "Detectron2 names them, and that is right")


WINDOWED = {0, 1, 3, 4, 6, 7, 9, 10}  # UNINEXT's blocks that attend within windows of 14, whatever the depth
UNINEXT = {768: "ViT-Base", 1024: "ViT-Large", 1280: "ViT-huge"}


def relative_positions(config: ViTConfig) -> Iterator[Fresh]:
    """Those of UNINEXT's class, at their start: for windows of 14 patches, or for the 64 of an image of 1024 pixels."""
    for b in range(config.depth):
        rows = 2 * (14 if b in WINDOWED else 64) - 1
        for axis in "hw":
            yield Fresh(f"blocks.{b}.attn.rel_pos_{axis}", (rows, config.dim // config.heads), 0)


def not_uninexts(config: ViTConfig) -> str | None:
    if reason := not_vitdets(config):
        return reason
    if (config.patch, config.grid, config.pos_prefix) != (16, 14, 1):
        return "UNINEXT's class is made for patches of 16 pixels, and positions of 14 x 14 patches and a class token"
    if (config.dim, config.depth) not in {(768, 12), (1024, 24), (1280, 32)} or config.hidden != 4 * config.dim:
        return "UNINEXT's class makes ViT-Base, ViT-Large and ViT-huge"
    return None


def uninext_keys(config: ViTConfig) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "D2ViT"}, "VIT": {"NAME": UNINEXT[config.dim], "OUT_FEATURES": STAGES[1:]}}


LAYOUTS = [
    Layout(("d2",), mount="backbone.", rules=CANONICAL,
           source="facebookresearch/dinov2 dinov2/models/vision_transformer.py, under backbone.",
           requires=Requires(note=NOTE)),

    Layout(("vitdet",), mount="backbone.net.", rules=CANONICAL, refuses=not_vitdets, changes=[FOLDED, PATCHES_ALONE],
           carries={"blocks.{b}.attn.rel_pos_{a:h|w}": 0},  # for windows, and images, of any size
           source="facebookresearch/detectron2 detectron2/modeling/backbone/vit.py, in a SimpleFeaturePyramid",
           requires=Requires(lazy=vitdet, note=ANEW)),

    Layout(("uninext-vit",), mount="detr.detr.backbone.0.backbone.", rules=CANONICAL, refuses=not_uninexts,
           changes=[FOLDED, PATCHES_ALONE], fresh=relative_positions,
           source="MasterBin-IIAU/UNINEXT projects/UNINEXT/uninext/backbone/vit.py",
           requires=Requires(model=uninext_keys,
                             declares={"VIT": {"NAME": "ViT-Base", "OUT_FEATURES": STAGES[1:]}},
                             note="fpn1, which makes its finest map, is not in the file and starts anew")),

    Layout(("devit",), mount="backbone.", rules=CANONICAL, refuses=not_devits, fresh=mask_token,
           source="mlzxy/devit lib/dinov2/vit.py",
           requires=Requires(model=devit_types, note="DE.OUT_INDICES says after which blocks; what it gives comes "
                                                     "through the final norm")),
]
