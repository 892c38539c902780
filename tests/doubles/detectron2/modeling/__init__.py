"""detectron2/modeling/backbone/backbone.py and build.py"""

from abc import ABCMeta, abstractmethod

from fvcore.common.registry import Registry
from torch import nn

from detectron2.layers import ShapeSpec

BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module, metaclass=ABCMeta):
    @abstractmethod
    def forward(self):
        pass

    @property
    def size_divisibility(self):
        return 0

    @property
    def padding_constraints(self):
        return {}

    def output_shape(self):
        return {name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
                for name in self._out_features}


def build_backbone(cfg, input_shape=None):
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)
    assert isinstance(backbone, Backbone)
    return backbone
