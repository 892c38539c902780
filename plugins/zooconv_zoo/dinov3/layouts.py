"""How Detectron2 projects hold a DINOv3 ViT. None of them ships the class: it is `zooconv_zoo.dinov3.backbone`'s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from zooconv import Call, Layout, LazyBackbone, Requires

from .dialects import CANONICAL
from .family import DINOv3Config

CLASS = ("Detectron2 has no class for it (its ViT has no rotary positions, storage tokens or layer scales): "
         "zooconv_zoo.dinov3.backbone.DINOv3ViT is one, in plain torch")


def lazily(config: DINOv3Config, _: Mapping[str, object]) -> LazyBackbone:
    return LazyBackbone(Call("zooconv_zoo.dinov3.backbone:DINOv3ViT",
                             {"config": Call("zooconv_zoo.dinov3.family:DINOv3Config", asdict(config))}),
                        free={"drop_path": 0.1}, beside={"model.backbone.in_feature": "last_feat"})


LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/dinov3, under backbone.",
           requires=Requires(note=CLASS)),

    # where Detectron2's SimpleFeaturePyramid has its ViT, of whose one map it makes four
    Layout(("vitdet",), mount="backbone.net.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/vit.py, SimpleFeaturePyramid",
           requires=Requires(lazy=lazily, note=f"{CLASS}; the pyramid around it starts untrained")),
]
