"""FocalNet, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="focalnet", title="FocalNet", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, toy=TOY,
    backbone="zooconv_zoo.focalnet.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.focalnet.upstreams:Timm",
        "transformers": "zooconv_zoo.focalnet.upstreams:Transformers",
    },
    choices={"bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
