"""The packages that a RegNet is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package

from .backbone import STAGES
from .family import TOY_X, RegNetConfig

Shapes = Mapping[str, tuple[int, ...]]


def outputs(features: Any) -> dict[str, Tensor]:
    return dict(zip(("stem", *STAGES), features, strict=True))


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/regnet.py"""

    package = dialect = "timm"

    def build(self, config: RegNetConfig, shapes: Shapes) -> nn.Module:
        regnet = import_package("timm").models.regnet

        class Given(regnet.RegNet):  # type: ignore[misc, name-defined]
            """Its class takes the parameters of a line, and quantises widths off it; ours come off a checkpoint."""

            def _get_stage_args(self, cfg: Any, **options: Any) -> Any:
                _, common = super()._get_stage_args(cfg, **options)
                return [{"depth": depth, "out_chs": width, "group_size": group, "stride": 2, "dilation": 1,
                         "bottle_ratio": 1.0} for depth, width, group in
                        zip(config.depths, config.widths, config.group_widths, strict=True)], common

        module: nn.Module = Given(regnet.RegNetCfg(stem_width=config.stem_width, se_ratio=config.se_ratio),
                                  num_classes=0)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return outputs(module.forward_intermediates(images, intermediates_only=True))


class Torchvision(Upstream):
    """pytorch/vision torchvision/models/regnet.py"""

    package = dialect = "torchvision"

    def build(self, config: RegNetConfig, shapes: Shapes) -> nn.Module:
        regnet = import_package("torchvision").models.regnet
        number = len(config.depths)
        module: Any = regnet.RegNet(regnet.BlockParams(
            [*config.depths], [*config.widths], [*config.group_widths], bottleneck_multipliers=[1.0] * number,
            strides=[2] * number, se_ratio=config.se_ratio), stem_width=config.stem_width)
        module.fc = nn.Identity()
        return module  # type: ignore[no-any-return]

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        features = [module.stem(images)]
        for stage in module.trunk_output:
            features.append(stage(features[-1]))
        return outputs(features)


class TransformersY(Upstream):
    """huggingface/transformers models/regnet/modeling_regnet.py, with RegNetYLayer"""

    package, dialect = "transformers", "transformers-y"
    layer, se_ratio = "y", 0.25

    def build(self, config: RegNetConfig, shapes: Shapes) -> nn.Module:
        widest = max(config.group_widths)
        if config.group_widths != tuple(map(min, config.widths, repeat(widest))):
            raise ValueError("it has one group width for all stages")
        if config.se_ratio != self.se_ratio:
            raise ValueError(f"its {self.layer} layers have a fixed se_ratio of {self.se_ratio}, "
                             f"those of this member {config.se_ratio}")
        package = import_package("transformers")
        module: nn.Module = package.RegNetModel(package.RegNetConfig(
            embedding_size=config.stem_width, hidden_sizes=[*config.widths], depths=[*config.depths],
            groups_width=widest, layer_type=self.layer))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return outputs(module(images, output_hidden_states=True).hidden_states)


class TransformersX(TransformersY):
    """huggingface/transformers models/regnet/modeling_regnet.py, with RegNetXLayer"""

    dialect = "transformers-x"
    layer, se_ratio = "x", 0.0
    toy = TOY_X
