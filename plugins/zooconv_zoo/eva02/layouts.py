"""How Detectron2 projects hold an EVA-02. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Mapping

from zooconv import Call, Layout, LazyBackbone, Requires
from zooconv_zoo.configs import ratio, windowed

from .changes import WITHOUT_CLASS
from .dialects import BLOCKS, CANONICAL, STEM
from .family import VARIANTS, EVA02Config

LEFT_OUT = {"norm.{wb}": "this layout has no final norm"}

WITHOUT = ("its features are not those of the classifier, whose patches see the class token; the project's own configs "
           "normalise with ImageNet's mean and std; ")


def strange_to_vitdet(config: EVA02Config) -> str | None:
    """What a ViTDet of EVA-02 is not built for: it is that of base and large, its strides are powers of two."""
    if not config.sub_norm:
        return "its attention has one matrix for q, k and v, its SwiGLU no norm; this class has three, and one"
    if config.attn_norm:
        return "it has a norm in its attention (EVA-CLIP), for which this class has no place"
    if config.patch != 16:
        return f"its patches have {config.patch} pixels, where this class needs 16: --patch 16, or the p14to16 files"
    return None


def strange_to_glee(config: EVA02Config) -> str | None:
    reason = "its pos_embed is not of 14 x 14 patches, which GLEE's class takes for granted: --grid 14"
    return strange_to_vitdet(config) or (reason if config.grid != 14 else None)


def keys(config: EVA02Config) -> Mapping[str, object]:
    return {"DMBED_DIM": config.embed_dim, "DEPTH": config.depth, "NUM_HEADS": config.heads,
            "PATCH_SIZE": config.patch}


def model(config: EVA02Config) -> Mapping[str, object]:
    return {"BACKBONE": {"NAME": "D2_EVA02"}, "EVA02": keys(config)}


# projects/GLEE/glee/config.py
DECLARED = {"EVA02": {**keys(VARIANTS["large_patch16_224"]), "PRETRAINED_WEIGHT": None}}


def detrexs(config: EVA02Config, _: Mapping[str, object]) -> LazyBackbone:
    """projects/dino_eva/configs/models/dino_eva_02.py; the class takes int(embed_dim * mlp_ratio)."""
    return LazyBackbone(
        Call("detrex.modeling.backbone:EVA02_ViT",
             {"patch_size": config.patch, "embed_dim": config.embed_dim, "depth": config.depth,
              "num_heads": config.heads, "mlp_ratio": ratio(config.hidden, config.embed_dim), "use_rel_pos": False,
              "pretrain_img_size": config.patch * config.grid, "pretrain_use_cls_token": True,
              "out_feature": "last_feat"}),
        free={"img_size": 1024, "window_size": 16, "window_block_indexes": windowed(config.depth),
              "drop_path_rate": 0.1}, formats=("dataloader.train.mapper.image_format",))


LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="baaivision/EVA, under backbone.",
           requires=Requires(note="keeps the class token and the final norm, which a ViTDet lacks; "
                                  "the layout of your project fits it exactly")),

    Layout(("detrex", "vitdet"), mount="backbone.net.", rules=[*BLOCKS, *STEM],
           source="IDEA-Research/detrex detrex/modeling/backbone/eva_02.py; baaivision/EVA EVA-02/det",
           omit=LEFT_OUT, refuses=strange_to_vitdet, changes=[WITHOUT_CLASS],
           requires=Requires(lazy=detrexs, note=WITHOUT + "the pyramid around the net and the rotary tables are the "
                                                          "module's own")),

    # GLEE reads MODEL.EVA02.PRETRAINED_WEIGHT into the backbone itself, so that nothing stands before "net."
    Layout(("glee",), mount="net.", rules=[*BLOCKS, *STEM],
           source="FoundationVision/GLEE projects/GLEE/glee/backbone/eva02.py, weights/convert_eva02.py",
           omit=LEFT_OUT, refuses=strange_to_glee, changes=[WITHOUT_CLASS],
           requires=Requires(model=model, declares=DECLARED, weights="EVA02.PRETRAINED_WEIGHT",
                             note=WITHOUT + "name the file in MODEL.EVA02.PRETRAINED_WEIGHT, not in MODEL.WEIGHTS")),
]
