"""The packages that a ConvNeXt is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package
from zooconv_zoo.layers import STAGES

from .family import ConvNeXtConfig

Shapes = Mapping[str, tuple[int, ...]]


def stages(features: Any) -> dict[str, Tensor]:
    return dict(zip(STAGES, features, strict=True))


def need_usual_eps(config: ConvNeXtConfig) -> None:
    if config.eps != 1e-6:
        raise ValueError(f"its norms have a fixed eps of 1e-6, those of this member {config.eps:g}")


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/convnext.py"""

    package = dialect = "timm"
    absent = {"pooled": "this member normalises before it pools (norm_pre)"}

    def build(self, config: ConvNeXtConfig, shapes: Shapes) -> nn.Module:
        module: nn.Module = import_package("timm").models.convnext.ConvNeXt(
            depths=config.depths, dims=config.dims, num_classes=0, norm_eps=config.eps,
            conv_mlp=len(shapes["stages.0.blocks.0.mlp.fc1.weight"]) == 4, head_norm_first="norm_pre.weight" in shapes)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        last, found = module.forward_intermediates(images)
        pooled = {} if hasattr(module.norm_pre, "weight") else {"pooled": module.forward_head(last)}
        return stages(found) | pooled


class Transformers(Upstream):
    """huggingface/transformers models/convnext/modeling_convnext.py"""

    package = dialect = "transformers"
    absent = {"pooled": "its final norm has an eps of 1e-12 (ConvNextConfig.layer_norm_eps), not 1e-6"}

    def build(self, config: ConvNeXtConfig, shapes: Shapes) -> nn.Module:
        need_usual_eps(config)
        package = import_package("transformers")
        module: nn.Module = package.ConvNextModel(package.ConvNextConfig(depths=[*config.depths],
                                                                         hidden_sizes=[*config.dims]))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return stages(module(images, output_hidden_states=True).hidden_states[1:])


class TransformersDINOv3(Upstream):
    """huggingface/transformers models/dinov3_convnext/modeling_dinov3_convnext.py"""

    package, dialect = "transformers", "transformers-dinov3"

    def build(self, config: ConvNeXtConfig, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        module: nn.Module = package.DINOv3ConvNextModel(package.DINOv3ConvNextConfig(
            depths=[*config.depths], hidden_sizes=[*config.dims], layer_norm_eps=config.eps))
        return module

    def inside(self, name: str) -> str:
        return name if name.startswith("layer_norm.") else f"model.{name}"

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        found = module(images, output_hidden_states=True)
        return stages(found.hidden_states[1:]) | {"pooled": found.pooler_output}


class Torchvision(Upstream):
    """pytorch/vision torchvision/models/convnext.py"""

    package = dialect = "torchvision"

    def build(self, config: ConvNeXtConfig, shapes: Shapes) -> nn.Module:
        need_usual_eps(config)
        convnext = import_package("torchvision").models.convnext
        blocks = [convnext.CNBlockConfig(dim, wider, depth)
                  for dim, wider, depth in zip_longest(config.dims, config.dims[1:], config.depths)]
        module = convnext.ConvNeXt(blocks)
        module.classifier[2] = nn.Identity()
        return module  # type: ignore[no-any-return]

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        found, x = [], images
        for i, part in enumerate(module.features):
            x = part(x)
            found += [x] if i % 2 else []
        return stages(found) | {"pooled": module.classifier(module.avgpool(x))}
