"""MViTv2, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import REFUSALS, TOY, VARIANTS, image, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="mvit", title="MViTv2", infer=infer, tensors=tensors, variants=VARIANTS, toy=TOY,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS, image=image,
    backbone="zooconv_zoo.mvit.backbone:build",
    upstreams={"timm": "zooconv_zoo.mvit.upstreams:Timm"},
    choices={"bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
