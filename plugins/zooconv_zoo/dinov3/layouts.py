"""How Detectron2 projects hold a DINOv3 ViT. None of them ships the class: it is `zooconv_zoo.dinov3.backbone`'s."""

from __future__ import annotations

from collections.abc import Mapping

from zooconv import Layout, Requires

from .dialects import CANONICAL
from .family import DINOv3Config

CLASS = ("the class is zooconv_zoo.dinov3.backbone.DINOv3ViT: no project ships one, and Detectron2's own ViT has no "
         "rotary positions, storage tokens or layer scales")


def arguments(config: DINOv3Config) -> Mapping[str, object]:
    """What DINOv3ViT is built with."""
    return {"BACKBONE": {"NAME": "DINOv3ViT"},
            "DINOV3": {"EMBED_DIM": config.dim, "DEPTH": config.depth, "NUM_HEADS": config.heads,
                       "HIDDEN_DIM": config.hidden, "GATED_MLP": config.gated, "QKV_BIAS": config.qkv_bias,
                       "NUM_STORAGE_TOKENS": config.storage}}


LAYOUTS = [
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/dinov3, under backbone.",
           requires=Requires(model=arguments, note=CLASS)),

    # its one map is what Detectron2's SimpleFeaturePyramid makes four of: L(SimpleFeaturePyramid)(net=…)
    Layout(("vitdet",), mount="backbone.net.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/vit.py, SimpleFeaturePyramid",
           requires=Requires(note=f"LazyConfig: L(SimpleFeaturePyramid) with net=L(DINOv3ViT), in_feature=\"last_feat\"; "
                                  f"{CLASS}")),
]
