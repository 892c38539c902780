"""Detectron2's two feature pyramids on top of any of zooconv's backbones."""

from __future__ import annotations

from typing import Any


def fpn(cfg: Any, bottom_up: Any) -> Any:
    """A feature pyramid (arXiv:1612.03144) as build_resnet_fpn_backbone makes it, of all stages unless told otherwise.

    Reads MODEL.FPN, as detectron2/modeling/backbone/fpn.py does.
    """
    from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

    return FPN(bottom_up=bottom_up, in_features=cfg.MODEL.FPN.IN_FEATURES or list(bottom_up.output_shape()),
               out_channels=cfg.MODEL.FPN.OUT_CHANNELS, norm=cfg.MODEL.FPN.NORM, fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
               top_block=LastLevelMaxPool())


def simple_feature_pyramid(cfg: Any, net: Any) -> Any:
    """A pyramid made of a plain transformer's last map (ViTDet, arXiv:2203.16527): p2 … p6 of strides 4 … 64.

    Reads MODEL.FPN.OUT_CHANNELS and NORM (empty: LN, as ViTDet has it), and MODEL.ZOOCONV.SQUARE_PAD.
    """
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.modeling.backbone.vit import SimpleFeaturePyramid

    (name, shape), *_ = net.output_shape().items()
    factors = [shape.stride / stride for stride in (4, 8, 16, 32)]
    return SimpleFeaturePyramid(net=net, in_feature=name, out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
                                scale_factors=factors, norm=cfg.MODEL.FPN.NORM or "LN", top_block=LastLevelMaxPool(),
                                square_pad=cfg.MODEL.ZOOCONV.SQUARE_PAD)
