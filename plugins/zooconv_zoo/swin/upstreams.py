"""The packages that a Swin Transformer is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package
from zooconv_zoo.layers import STAGES

from .family import SwinConfig

Shapes = Mapping[str, tuple[int, ...]]


def stages(features: Any) -> dict[str, Tensor]:
    return dict(zip(STAGES, features, strict=True))


def need_relative(config: SwinConfig) -> None:
    if config.positions:
        raise ValueError("it has no absolute positions")


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/swin_transformer.py"""

    package = dialect = "timm"

    def build(self, config: SwinConfig, shapes: Shapes) -> nn.Module:
        need_relative(config)
        module: nn.Module = import_package("timm").models.swin_transformer.SwinTransformer(
            img_size=(64 * config.window, 96 * config.window), embed_dim=config.embed_dim, depths=config.depths,
            num_heads=config.heads, window_size=config.window, num_classes=0)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        last, found = module.forward_intermediates(images, norm=False)
        return stages(found) | {"pooled": module.forward_head(last, pre_logits=True)}


class Transformers(Upstream):
    """huggingface/transformers models/swin/modeling_swin.py"""

    package, dialect = "transformers", "transformers-5"

    def build(self, config: SwinConfig, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        module: nn.Module = package.SwinModel(package.SwinConfig(
            embed_dim=config.embed_dim, depths=[*config.depths],
            num_heads=[*config.heads], window_size=config.window, **absolute(config)))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return through_blocks(module, images)


def absolute(config: SwinConfig) -> dict[str, Any]:
    """Whether it has absolute positions, and of how large an image."""
    size = 4 * config.positions or 64 * config.window
    return {"use_absolute_embeddings": bool(config.positions), "image_size": size}


def through_blocks(module: Any, images: Tensor) -> dict[str, Tensor]:
    """What leaves the last block of each stage: hidden states are told only after the merging that follows."""
    found: list[Tensor] = []
    height, width = images.shape[2] // 4, images.shape[3] // 4
    hooks = [stage.blocks[-1].register_forward_hook(lambda m, i, out: found.append(out[0]))
             for stage in module.encoder.layers]
    pooled = module(images).pooler_output
    for hook in hooks:
        hook.remove()
    maps = [x.transpose(1, 2).reshape(1, -1, height >> s, width >> s) for s, x in enumerate(found)]
    return stages(maps) | {"pooled": pooled}


class Torchvision(Upstream):
    """pytorch/vision torchvision/models/swin_transformer.py"""

    package = dialect = "torchvision"

    def build(self, config: SwinConfig, shapes: Shapes) -> nn.Module:
        need_relative(config)
        module = import_package("torchvision").models.swin_transformer.SwinTransformer(
            [4, 4], config.embed_dim, [*config.depths], [*config.heads], [config.window] * 2)
        module.head = nn.Identity()
        return module  # type: ignore[no-any-return]

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        found, x = [], images
        for i, part in enumerate(module.features):
            x = part(x)
            found += [x.permute(0, 3, 1, 2)] if i % 2 else []
        return stages(found) | {"pooled": module.flatten(module.avgpool(module.permute(module.norm(x))))}
