"""EVA-02, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours
from zooconv_zoo.vit.changes import to_grid, to_patch

from .dialects import DIALECTS
from .family import TOY, VARIANTS, image, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="eva02", title="EVA-02", infer=infer, tensors=tensors, variants=VARIANTS, toy=TOY,
    dialects=DIALECTS, layouts=LAYOUTS, image=image,
    backbone="zooconv_zoo.eva02.backbone:build",
    upstreams={"timm": "zooconv_zoo.eva02.upstreams:Timm"},
    choices={"patch": to_patch, "grid": to_grid, "bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
