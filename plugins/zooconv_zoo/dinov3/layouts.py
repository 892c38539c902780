"""How Detectron2 projects hold a DINOv3 ViT. None of them ships the class: it is `zooconv_zoo.dinov3.backbone`'s."""

from __future__ import annotations

from zooconv import Layout, Requires

from .dialects import CANONICAL

CLASS = ("Detectron2 has no class for it (its ViT has no rotary positions, storage tokens or layer scales): "
         "zooconv_zoo.dinov3.backbone.DINOv3ViT is one, in plain torch")

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/dinov3, under backbone.",
           requires=Requires(note=CLASS)),

    # where Detectron2's SimpleFeaturePyramid has its ViT, of whose one map it makes four
    Layout(("vitdet",), mount="backbone.net.", rules=CANONICAL,
           source="facebookresearch/detectron2 detectron2/modeling/backbone/vit.py, SimpleFeaturePyramid",
           requires=Requires(note=f"{CLASS}; LazyConfig: L(SimpleFeaturePyramid) with net=L(DINOv3ViT) and "
                                  "in_feature=last_feat, whose own layers start untrained")),
]
