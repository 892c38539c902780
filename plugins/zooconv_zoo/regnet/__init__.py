"""RegNet X and Y, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import REFUSALS, TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="regnet", title="RegNet", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS, toy=TOY,
    backbone="zooconv_zoo.regnet.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.regnet.upstreams:Timm",
        "torchvision": "zooconv_zoo.regnet.upstreams:Torchvision",
        "transformers-x": "zooconv_zoo.regnet.upstreams:TransformersX",
        "transformers-y": "zooconv_zoo.regnet.upstreams:TransformersY",
    },
    choices={"bgr": turn_colours("stem.conv.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
