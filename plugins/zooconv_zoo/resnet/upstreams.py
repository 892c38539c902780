"""The packages that a ResNet is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package

from .backbone import STAGES
from .family import ResNetConfig

Shapes = Mapping[str, tuple[int, ...]]


def planes(config: ResNetConfig) -> list[int]:
    """Both packages count a stage's channels before a bottleneck's last convolution makes four of each."""
    return [(config.out_channels // (4 if config.bottleneck else 1)) << s for s in range(4)]


def base_width(config: ResNetConfig) -> int:
    """And the width of a group relative to 64 planes."""
    return 64 * config.width_per_group // planes(config)[0]


def need_usual_stem(config: ResNetConfig) -> None:
    if config.deep_stem:
        raise ValueError("its stem is one convolution, that of this member three")
    if config.stem_channels != 64:
        raise ValueError(f"its stem has 64 channels, that of this member {config.stem_channels}")


class Torchvision(Upstream):
    """pytorch/vision torchvision/models/resnet.py"""

    package = dialect = "torchvision"

    def build(self, config: ResNetConfig, shapes: Shapes) -> nn.Module:
        need_usual_stem(config)
        resnet = import_package("torchvision").models.resnet
        block = resnet.Bottleneck if config.bottleneck else resnet.BasicBlock
        module = resnet.ResNet(block, config.depths, groups=config.groups, width_per_group=base_width(config),
                               norm_layer=partial(nn.GroupNorm, 32) if config.group_norm else None)
        if planes(config)[0] != 64:  # not one of the published ones: the same stages, of other widths
            module.inplanes = 64
            for s, (width, depth) in enumerate(zip(planes(config), config.depths, strict=True)):
                setattr(module, f"layer{s + 1}", module._make_layer(block, width, depth, stride=2 if s else 1))
        module.fc = nn.Identity()
        return module  # type: ignore[no-any-return]

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        x = module.maxpool(module.relu(module.bn1(module.conv1(images))))
        found = {"stem": x}
        for s, name in enumerate(STAGES):
            found[name] = x = getattr(module, f"layer{s + 1}")(x)
        return found


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/resnet.py"""

    package, dialect = "timm", "torchvision"

    def spelling(self, config: ResNetConfig) -> str:
        return "timm-deep-stem" if config.deep_stem else self.dialect

    def build(self, config: ResNetConfig, shapes: Shapes) -> nn.Module:
        stem = {"stem_type": "deep", "stem_width": config.stem_channels // 2} if config.deep_stem else {}
        if not stem:
            need_usual_stem(config)
        resnet = import_package("timm").models.resnet
        module: nn.Module = resnet.ResNet(
            resnet.Bottleneck if config.bottleneck else resnet.BasicBlock, config.depths, num_classes=0,
            cardinality=config.groups, base_width=base_width(config), channels=planes(config),
            norm_layer="groupnorm" if config.group_norm else nn.BatchNorm2d, **stem)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        stem, *stages = module.forward_intermediates(images, intermediates_only=True)
        return {"stem": module.maxpool(stem)} | dict(zip(STAGES, stages, strict=True))


class Transformers(Upstream):
    """huggingface/transformers models/resnet/modeling_resnet.py"""

    package = dialect = "transformers"

    def build(self, config: ResNetConfig, shapes: Shapes) -> nn.Module:
        if config.deep_stem or config.group_norm:
            raise ValueError("it has neither deep stems nor group norms")
        width = config.out_channels // (4 if config.bottleneck else 1)
        if (config.groups, config.width_per_group) != (1, width):
            raise ValueError(f"its blocks have no groups, and a width of {width} in res2; this member's are "
                             f"{config.groups} groups of {config.width_per_group}")
        package = import_package("transformers")
        module: nn.Module = package.ResNetModel(package.ResNetConfig(
            embedding_size=config.stem_channels, hidden_sizes=[config.out_channels << s for s in range(4)],
            depths=[*config.depths], layer_type="bottleneck" if config.bottleneck else "basic"))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        found = module(images, output_hidden_states=True).hidden_states
        return dict(zip(("stem", *STAGES), found, strict=True))
