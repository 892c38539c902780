"""Any architecture of timm as a Detectron2 backbone. It needs timm: its code is the reference, ours only wraps it.

Features are called res{n}, n the binary logarithm of their stride, where each has a stride of its own, a power of two:
res2 … res5 of most pyramids. Where several have the same stride, as all blocks of a plain transformer have, they are
called feat{i}, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Self

from torch import Tensor, nn

from zooconv import import_package
from zooconv_zoo.layers import STAGES, OutputShape

from .architectures import Architecture


class TimmBackbone(nn.Module):
    """What `timm.create_model(architecture, features_only=True)` holds, under the same names, with features by name.

    `forward` takes images (N, 3, H, W) and returns, of the architecture's features, those in `out_features`, each
    (N, channels, H/stride, W/stride); by default res2 … res5 where there are such, else all. `out_indices` are the
    features that timm is asked for, all by default: what comes after the last of them is left out, with its tensors.
    `options` go to timm: `img_size`, `dynamic_img_size`, `drop_path_rate`, … Raises what timm raises.
    """

    def __init__(self, architecture: str, *, out_features: Sequence[str] | None = None,
                 out_indices: Sequence[int] | None = None, **options: Any) -> None:
        super().__init__()
        chosen = options if out_indices is None else {**options, "out_indices": tuple(out_indices)}
        net = import_package("timm").create_model(architecture, features_only=True, **chosen)
        # its parts are ours, so that every tensor has the very name that the net has for it; a list is not registered
        self._modules, self._parameters, self._buffers = net._modules, net._parameters, net._buffers
        self._non_persistent_buffers_set = net._non_persistent_buffers_set
        self._net = [net]
        info = net.feature_info
        self._shapes = {name: OutputShape(channels, stride) for name, channels, stride in
                        zip(names(info.reduction()), info.channels(), info.reduction(), strict=True)}
        usual = [name for name in STAGES if name in self._shapes]
        self.out_features = tuple(out_features or usual or self._shapes)
        if unknown := set(self.out_features) - set(self._shapes):
            raise ValueError(f"{architecture} has no {', '.join(sorted(unknown))}; it has {', '.join(self._shapes)}")

    @property
    def net(self) -> Any:
        """timm's own module."""
        return self._net[0]

    @property
    def size_divisibility(self) -> int:
        """What the height and the width of images should be divisible by."""
        return math.lcm(*(shape.stride for shape in self._shapes.values()))

    def output_shape(self) -> dict[str, OutputShape]:
        """What `forward` returns, before it does."""
        return {name: self._shapes[name] for name in self.out_features}

    def freeze(self, at: int) -> Self:
        """Let the first parts learn nothing: 1 is all that stands before the stage of res2, 2 that stage, too, …

        Where no feature is called res2, the first feature's stage takes its place. Frozen batch norms keep their
        statistics.
        """
        for tensor in (tensor for part in list(self._parts())[:at] for tensor in part):
            tensor.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.net.training = mode
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
                module.training = mode and module.weight.requires_grad
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self._features(x)
        return {name: features[name] for name in self.out_features}

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """All features, as timm returns them, by their index."""
        return {f"features.{index}": feature for index, feature in zip(self._indices, self.net(images), strict=True)}

    @property
    def _indices(self) -> tuple[int, ...]:
        return tuple(self.net.feature_info.out_indices)

    def _features(self, x: Tensor) -> dict[str, Tensor]:
        """Every feature by its name, channels first."""
        last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        return {name: feature.permute(0, 3, 1, 2) if last else feature
                for name, feature in zip(self._shapes, self.net(x), strict=True)}

    def _parts(self) -> Iterator[list[nn.Parameter]]:
        """The parameters before the first stage, those of it, those of the second, …, in the order of the modules."""
        named = list(self.named_parameters())
        modules = self.net.feature_info.module_name()
        first = list(self._shapes).index("res2") if "res2" in self._shapes else 0
        start = next((i for i, (name, _) in enumerate(named) if _under(name, modules[first])), 0)
        ends = [max((i + 1 for i, (name, _) in enumerate(named) if _under(name, module)), default=0)
                for module in modules[first:]]
        for before, end in pairwise((0, start, *ends)):
            yield [tensor for _, tensor in named[before:end]]


def _under(name: str, module: str) -> bool:
    """Is a tensor one of this module of the whole model, whatever the features call it?"""
    inside = name.removeprefix("model.").removeprefix("body.")
    return inside.replace("_", ".").startswith(f"{module.replace('_', '.')}.")


def names(strides: Sequence[int]) -> list[str]:
    """What features of these strides are called."""
    if len(set(strides)) == len(strides) and all(stride & (stride - 1) == 0 for stride in strides):
        return [f"res{stride.bit_length() - 1}" for stride in strides]
    return [f"feat{i}" for i in range(len(strides))]


def build(config: Architecture, *, drop_path: float = 0.0, checkpointing: bool = False, **options: Any) -> TimmBackbone:
    """The reference module of a config; other `options` are those of the class.

    Raises TypeError for an architecture that has no such options.
    """
    dropped: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    net = TimmBackbone(config.architectures[0], **dropped, **options)
    if checkpointing:
        if not hasattr(net.net, "set_grad_checkpointing"):
            raise TypeError(f"{config.architectures[0]} has no gradient checkpointing")
        net.net.set_grad_checkpointing(True)
    return net
