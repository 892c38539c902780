"""InternImage, as a plugin: one hook, one family.

No package that installs has it: DCNv3 is a CUDA extension, built from the authors' repository. So its backbone is held
against no upstream, and what a conversion proves is that no byte was lost and every name has its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zooconv import Family, hookimpl, turn_colours

from .dialects import DIALECTS
from .family import TOY, VARIANTS, infer, tensors
from .layouts import LAYOUTS

FAMILY = Family(
    name="internimage", title="InternImage", infer=infer, tensors=tensors, variants=VARIANTS, toy=TOY,
    dialects=DIALECTS, layouts=LAYOUTS,
    backbone="zooconv_zoo.internimage.backbone:build",
    choices={"bgr": turn_colours("patch_embed.conv1.weight")},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
