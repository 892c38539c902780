"""ViT, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .changes import to_grid, to_patch
from .dialects import DIALECTS
from .family import REFUSALS, ViTConfig, infer, tensors
from .layouts import LAYOUTS
from .members import TOY, VARIANTS


def image(config: ViTConfig) -> tuple[int, int]:
    """As large as those whose positions were learned: for others, everybody interpolates in a way of their own."""
    return config.patch * config.grid, config.patch * config.grid


FAMILY = Family(
    name="vit", title="ViT", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS, toy=TOY, image=image,
    backbone="zooconv_zoo.vit.backbone:build",
    upstreams={
        "timm": "zooconv_zoo.vit.upstreams:Timm",
        "transformers": "zooconv_zoo.vit.upstreams:Transformers",
        "transformers-mae": "zooconv_zoo.vit.upstreams:TransformersMAE",
        "transformers-dinov2": "zooconv_zoo.vit.upstreams:TransformersDINOv2",
        "transformers-clip": "zooconv_zoo.vit.upstreams:TransformersCLIP",
        "torchvision": "zooconv_zoo.vit.upstreams:Torchvision",
    },
    choices={"patch": to_patch, "grid": to_grid, "bgr": turn_colours("patch_embed.proj.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
