"""The upstream packages, imported where their compiled parts do not load.

torchvision from the package index needs the CUDA build of torch for its C++ operators; without them, importing it (and
timm, which imports it) fails although no operator is used. Declaring the two that are looked up at import is enough.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []


def declare_torchvision_operators() -> None:
    """Declare `torchvision::nms` and `torchvision::qnms` where they are missing."""
    import torch

    if _libraries or hasattr(torch.ops.torchvision, "nms"):
        return
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        library.define(operator)
    _libraries.append(library)


def import_torchvision() -> Any:
    declare_torchvision_operators()
    return import_module("torchvision")


def import_timm() -> Any:
    declare_torchvision_operators()
    return import_module("timm")


def import_transformers() -> Any:
    declare_torchvision_operators()
    return import_module("transformers")
