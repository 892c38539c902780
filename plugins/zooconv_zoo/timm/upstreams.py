"""timm's whole model, from which features are taken where its own list of them says so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zooconv import Upstream, import_package

from .architectures import Architecture


class Timm(Upstream):
    """The model that is not asked for features: head and all, in the names of its files."""

    package: ClassVar[str] = "timm"
    dialect: ClassVar[str] = "timm"

    def build(self, config: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
        self._name = config.architectures[0]
        model: nn.Module = import_package("timm").create_model(self._name)
        return model

    def outputs(self, module: nn.Module, images: Tensor) -> dict[str, Tensor]:
        with torch.device("meta"):
            features = import_package("timm").create_model(self._name, features_only=True)
        indices = features.feature_info.out_indices
        if hasattr(features, "model"):  # a FeatureGetterNet asks the model itself
            whole: Any = module
            _, found = whole.forward_intermediates(images, indices=list(indices))
            return {f"features.{i}": feature for i, feature in zip(indices, found, strict=True)}
        return _seen(module, images, dict(zip(indices, features.feature_info.get_dicts(), strict=True)))


def _seen(module: nn.Module, images: Tensor, places: Mapping[int, Mapping[str, Any]]) -> dict[str, Tensor]:
    """What passes by these places, after their module or, where that is said, before it."""
    seen: dict[str, Tensor] = {}
    modules, hooks = dict(module.named_modules()), []
    for index, place in places.items():
        note, there = partial(_note, seen, f"features.{index}"), modules[place["module"]]
        if place.get("hook_type") == "forward_pre":
            hooks.append(there.register_forward_pre_hook(lambda m, given, note=note: note(given)))
        else:
            hooks.append(there.register_forward_hook(lambda m, given, made, note=note: note(made)))
    try:
        module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _note(seen: dict[str, Tensor], name: str, feature: Tensor | tuple[Tensor, ...]) -> None:
    """A module may hand on tokens beside its map. What comes next may work in place."""
    seen[name] = (feature[0] if isinstance(feature, tuple) else feature).clone()
