"""ConvNeXt V2, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import REFUSALS, TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="convnextv2", title="ConvNeXt V2", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS, toy=TOY,
    backbone="zooconv_zoo.convnextv2.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.convnextv2.upstreams:Timm",
        "transformers": "zooconv_zoo.convnextv2.upstreams:Transformers",
    },
    choices={"bgr": turn_colours("downsample_layers.0.0.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
