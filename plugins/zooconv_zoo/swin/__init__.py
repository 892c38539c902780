"""Swin Transformer, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import TOY, VARIANTS, derived, infer, seen, tensors, to_grid, to_window
from .layouts import LAYOUTS

FAMILY = Family(
    name="swin", title="Swin Transformer", infer=infer, tensors=tensors, derived=derived, variants=VARIANTS, toy=TOY,
    dialects=DIALECTS, layouts=LAYOUTS, image=seen,
    backbone="zooconv_zoo.swin.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.swin.upstreams:Timm",
        "transformers": "zooconv_zoo.swin.upstreams:Transformers",
        "torchvision": "zooconv_zoo.swin.upstreams:Torchvision",
    },
    choices={"window": to_window, "grid": to_grid, "bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
