"""The packages that a ConvNeXt V2 is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package
from zooconv_zoo.convnext.upstreams import stages

from .family import ConvNeXtV2Config

Shapes = Mapping[str, tuple[int, ...]]


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/convnext.py"""

    package = dialect = "timm"

    def build(self, config: ConvNeXtV2Config, shapes: Shapes) -> nn.Module:
        module: nn.Module = import_package("timm").models.convnext.ConvNeXt(
            depths=config.depths, dims=config.dims, num_classes=0, use_grn=True, ls_init_value=None,
            conv_mlp=len(shapes["stages.0.blocks.0.mlp.fc1.weight"]) == 4)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        last, found = module.forward_intermediates(images)
        return stages(found) | {"pooled": module.forward_head(last)}


class Transformers(Upstream):
    """huggingface/transformers models/convnextv2/modeling_convnextv2.py"""

    package = dialect = "transformers"
    absent = {"pooled": "its final norm has an eps of 1e-12 (ConvNextV2Config.layer_norm_eps), not 1e-6"}

    def build(self, config: ConvNeXtV2Config, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        module: nn.Module = package.ConvNextV2Model(package.ConvNextV2Config(depths=[*config.depths],
                                                                             hidden_sizes=[*config.dims]))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return stages(module(images, output_hidden_states=True).hidden_states[1:])
