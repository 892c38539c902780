"""ResNet, ResNeXt and Wide ResNet, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import REFUSALS, TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="resnet", title="ResNet", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS, toy=TOY,
    backbone="zooconv_zoo.resnet.backbone:build",
    upstreams={
        "torchvision": "zooconv_zoo.resnet.upstreams:Torchvision",
        "timm": "zooconv_zoo.resnet.upstreams:Timm",
        "transformers": "zooconv_zoo.resnet.upstreams:Transformers",
    },
    choices={"bgr": turn_colours("stem.conv1.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
