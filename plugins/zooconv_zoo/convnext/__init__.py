"""ConvNeXt, as a plugin: one hook, one family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zooconv import Family, hookimpl

from .dialects import DIALECTS
from .family import REFUSALS, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="convnext", title="ConvNeXt", infer=infer, tensors=tensors, variants=VARIANTS,
    dialects=DIALECTS, layouts=LAYOUTS, refusals=REFUSALS,
    backbone="zooconv_zoo.convnext.backbone:ConvNeXt", zoo=Path(__file__).with_name("zoo.toml"),
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
