"""The packages that a Swin Transformer V2 is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from zooconv import import_package
from zooconv_zoo.swin import upstreams as swin

Shapes = Mapping[str, tuple[int, ...]]


class Timm(swin.Timm):
    """huggingface/pytorch-image-models timm/models/swin_transformer_v2.py"""

    def build(self, config: Any, shapes: Shapes) -> nn.Module:
        module: nn.Module = import_package("timm").models.swin_transformer_v2.SwinTransformerV2(
            img_size=(64 * config.window, 96 * config.window), embed_dim=config.embed_dim, depths=config.depths,
            num_heads=config.heads, window_size=config.window, num_classes=0)
        return module


class Transformers(swin.Transformers):
    """huggingface/transformers models/swinv2/modeling_swinv2.py"""

    package = dialect = "transformers"

    def build(self, config: Any, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        module: nn.Module = package.Swinv2Model(package.Swinv2Config(
            image_size=64 * config.window, embed_dim=config.embed_dim, depths=[*config.depths],
            num_heads=[*config.heads], window_size=config.window))
        return module


class Torchvision(swin.Torchvision):
    """pytorch/vision torchvision/models/swin_transformer.py"""

    def build(self, config: Any, shapes: Shapes) -> nn.Module:
        vision = import_package("torchvision").models.swin_transformer
        module = vision.SwinTransformer(
            [4, 4], config.embed_dim, [*config.depths], [*config.heads], [config.window] * 2,
            block=vision.SwinTransformerBlockV2, downsample_layer=vision.PatchMergingV2)
        for part in module.modules():
            if isinstance(part, vision.ShiftedWindowAttentionV2):  # the table stays as it was built: it is no weight
                part.register_buffer("relative_coords_table", part.relative_coords_table, persistent=False)
        module.head = nn.Identity()
        return module  # type: ignore[no-any-return]
