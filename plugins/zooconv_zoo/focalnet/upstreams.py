"""The packages that a FocalNet is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package
from zooconv_zoo.convnext.upstreams import stages

from .family import FocalNetConfig

Shapes = Mapping[str, tuple[int, ...]]


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/focalnet.py

    timm.create_model("focalnet_large_fl4") leaves out normalize_modulator, which the official config has; not so here.
    """

    package = dialect = "timm"

    def spelling(self, config: FocalNetConfig) -> str:
        return "timm-post-norm" if config.post_norm else "timm"

    def build(self, config: FocalNetConfig, shapes: Shapes) -> nn.Module:
        module: nn.Module = import_package("timm").models.focalnet.FocalNet(
            num_classes=0, embed_dim=config.embed_dim, depths=config.depths, focal_levels=config.levels,
            focal_windows=config.windows, use_overlap_down=config.conv_embed, use_post_norm=config.post_norm,
            use_post_norm_in_modulation=config.modulation_norm, normalize_modulator=config.normalize_modulator,
            layerscale_value=1e-4 if config.layer_scale else None)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        last, found = module.forward_intermediates(images)
        return stages(found) | {"pooled": module.forward_head(last)}


class Transformers(Upstream):
    """huggingface/transformers models/focalnet/modeling_focalnet.py"""

    package = dialect = "transformers"

    def build(self, config: FocalNetConfig, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        module: nn.Module = package.FocalNetModel(package.FocalNetConfig(
            embed_dim=config.embed_dim, depths=[*config.depths], focal_levels=[*config.levels],
            focal_windows=[*config.windows], use_conv_embed=config.conv_embed, use_layerscale=config.layer_scale,
            use_post_layernorm=config.post_norm, use_post_layernorm_in_modulation=config.modulation_norm,
            normalize_modulator=config.normalize_modulator))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        found, (x, size) = [], module.embeddings(images)
        for stage in module.encoder.stages:  # its own hidden states come after the next stage's embedding
            x, features, sizes = stage(x, size)
            found.append(features.transpose(1, 2).unflatten(2, size))
            size = sizes[-2:]
        return stages(found) | {"pooled": module.layernorm(x).mean(1)}
