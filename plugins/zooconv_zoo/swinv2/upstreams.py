"""The packages that a Swin Transformer V2 is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package
from zooconv_zoo.swin.upstreams import stages, through_blocks

from .family import SwinV2Config

Shapes = Mapping[str, tuple[int, ...]]


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/swin_transformer_v2.py"""

    package = dialect = "timm"

    def build(self, config: SwinV2Config, shapes: Shapes) -> nn.Module:
        module: nn.Module = import_package("timm").models.swin_transformer_v2.SwinTransformerV2(
            img_size=(64 * config.window, 96 * config.window), embed_dim=config.embed_dim, depths=config.depths,
            num_heads=config.heads, window_size=config.window, num_classes=0)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        last, found = module.forward_intermediates(images, norm=False)
        return stages(found) | {"pooled": module.forward_head(last, pre_logits=True)}


class Transformers(Upstream):
    """huggingface/transformers models/swinv2/modeling_swinv2.py"""

    package = dialect = "transformers"

    def build(self, config: SwinV2Config, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        module: nn.Module = package.Swinv2Model(package.Swinv2Config(
            image_size=64 * config.window, embed_dim=config.embed_dim, depths=[*config.depths],
            num_heads=[*config.heads], window_size=config.window))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return through_blocks(module, images)
