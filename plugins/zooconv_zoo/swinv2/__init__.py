"""Swin Transformer V2, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours
from zooconv_zoo.swin.family import image

from .dialects import DIALECTS
from .family import TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="swinv2", title="Swin Transformer V2", infer=infer, tensors=tensors, variants=VARIANTS, toy=TOY,
    dialects=DIALECTS, layouts=LAYOUTS, image=image,
    backbone="zooconv_zoo.swinv2.backbone:build",
    upstreams={"timm": "zooconv_zoo.swinv2.upstreams:Timm",
               "transformers": "zooconv_zoo.swinv2.upstreams:Transformers",
               "torchvision": "zooconv_zoo.swinv2.upstreams:Torchvision"},
    choices={"bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
