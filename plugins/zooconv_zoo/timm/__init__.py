"""Any architecture of timm, as a plugin: one hook, one family that stands for many.

A Detectron2 project with a timm backbone holds what `timm.create_model(name, features_only=True)` holds. For each
architecture the names and shapes of that, and what becomes of all other tensors, are in `architectures.txt.gz`; the
rules are made of them when a file or a name asks for one. Neither timm nor torch is needed to convert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from zooconv import Family, TensorSpec, hookimpl

from .architectures import Architecture, Entry, Variants, by_name, resembling
from .layouts import layouts
from .rules import dialect
from .tree import COUNTER, WHOLE


def tensors(config: Architecture) -> Iterator[TensorSpec]:
    """What the features hold, under their names, but for counters."""
    entry = by_name()[config.architectures[0]]
    for row in entry.kept():
        if row.kind != COUNTER:
            yield TensorSpec(entry.renamed(row.name), row.shape, "I64" if row.kind == WHOLE else "F32")


def members(found: Mapping[str, TensorSpec]) -> Iterator[Family[Architecture]]:
    """The architectures that these tensors could be of, each with rules of its own."""
    return map(member, resembling({name: spec.shape for name, spec in found.items()}))


def member(entry: Entry) -> Family[Architecture]:
    """One architecture, with those that keep the same tensors."""
    config = entry.config
    variants = {name: config.meaning(name) for name in config.architectures}
    return replace(FAMILY, infer=lambda shapes: config, variants=variants, dialects=[dialect(entry)],
                   layouts=layouts(entry))


def image(config: Architecture) -> tuple[int, int]:
    """Height and width of images that a member takes."""
    height, width = by_name()[config.architectures[0]].image
    return height, width


def no_names_in_common(shapes: Any) -> Architecture:
    """The family as a whole has no table of its own: its members have."""
    raise KeyError("an architecture")


FAMILY = Family(
    name="timm", title="timm architecture", infer=no_names_in_common, tensors=tensors, variants=Variants(),
    members=members, dialects=[], layouts=layouts(), image=image,
    backbone="zooconv_zoo.timm.backbone:build", upstreams={"timm": "zooconv_zoo.timm.upstreams:Timm"},
)


@hookimpl
def zooconv_families() -> Iterator[Family[Any]]:
    yield FAMILY
