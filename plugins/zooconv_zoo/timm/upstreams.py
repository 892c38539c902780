"""timm's whole model, from which features are taken where its own list of them says so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from zooconv import Upstream, import_package

from .architectures import Architecture


class Timm(Upstream):
    """The model that is not asked for features: head and all, in the names of its files."""

    package: ClassVar[str] = "timm"
    dialect: ClassVar[str] = "timm"

    def build(self, config: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
        timm = import_package("timm")
        model: nn.Module = timm.create_model(config.architectures[0])
        features = timm.create_model(config.architectures[0], features_only=True)
        self._places = {index: (info["module"], info.get("hook_type", "forward"))
                        for index, info in zip(features.feature_info.out_indices,
                                               features.feature_info.get_dicts(), strict=True)}
        self._getter = hasattr(features, "model") and hasattr(model, "forward_intermediates")
        return model

    def outputs(self, module: nn.Module, images: Tensor) -> dict[str, Tensor]:
        if self._getter:
            whole: Any = module
            indices = list(self._places)
            _, features = whole.forward_intermediates(images, indices=indices)
            return {f"features.{i}": feature for i, feature in zip(indices, features, strict=True)}
        seen: dict[str, Tensor] = {}
        modules = dict(module.named_modules())
        hooks = []
        for index, (name, kind) in self._places.items():
            note = partial(_note, seen, f"features.{index}")
            hooks.append(modules[name].register_forward_pre_hook(lambda m, given, note=note: note(given[0]))
                         if kind == "forward_pre" else
                         modules[name].register_forward_hook(lambda m, given, made, note=note: note(made)))
        try:
            module(images)
        finally:
            for hook in hooks:
                hook.remove()
        return seen


def _note(seen: dict[str, Tensor], name: str, feature: Tensor | tuple[Tensor, ...]) -> None:
    """A module may hand on tokens beside its map. What comes next may work in place."""
    seen[name] = (feature[0] if isinstance(feature, tuple) else feature).clone()
