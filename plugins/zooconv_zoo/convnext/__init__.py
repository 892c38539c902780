"""ConvNeXt, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import REFUSALS, TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="convnext", title="ConvNeXt", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS, toy=TOY,
    backbone="zooconv_zoo.convnext.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.convnext.upstreams:Timm",
        "transformers": "zooconv_zoo.convnext.upstreams:Transformers",
        "transformers-dinov3": "zooconv_zoo.convnext.upstreams:TransformersDINOv3",
        "torchvision": "zooconv_zoo.convnext.upstreams:Torchvision",
    },
    choices={"bgr": turn_colours("downsample_layers.0.0.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
