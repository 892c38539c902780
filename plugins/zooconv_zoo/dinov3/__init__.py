"""DINOv3's Vision Transformers, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import REFUSALS, TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="dinov3", title="DINOv3 ViT", infer=infer, tensors=tensors, variants=VARIANTS, toy=TOY,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS,
    backbone="zooconv_zoo.dinov3.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.dinov3.upstreams:Timm",
        "transformers": "zooconv_zoo.dinov3.upstreams:Transformers",
    },
    choices={"bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
