"""zooconv's own backbones as targets: layouts that every family with a reference module has, beside its authored ones.

    zooconv           backbone.             the module is the model's backbone
    zooconv-fpn       backbone.bottom_up.   it stands under a feature pyramid (detectron2/modeling/backbone/fpn.py)
    zooconv-vitdet    backbone.net.         it stands in a SimpleFeaturePyramid (detectron2/modeling/backbone/vit.py)

They hold every canonical tensor under its own name, and nothing else: what follows from the config, the module makes.
`zooconv.detectron2` registers the modules, and the two pyramids, under the names that are given here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from zooconv.mapping.dialect import AsItIs, Dialect
from zooconv.mapping.family import Family, Layout, config_facts
from zooconv.mapping.requires import Requires

FPN, PYRAMID = "ZooFPN", "ZooSimpleFeaturePyramid"
MOUNTS = {"zooconv": "backbone.", "zooconv-fpn": "backbone.bottom_up.", "zooconv-vitdet": "backbone.net."}


@dataclass(frozen=True)
class ReferenceLayout(Layout):
    """A layout of canonical names."""

    @cached_property
    def body(self) -> Dialect:
        return AsItIs(self.name, ())


def registered_name(family: Family[Any]) -> str:
    """The name of a family's backbone in Detectron2's registry: the family's, spelled as its title is, after Zoo."""
    letters = iter(family.title)
    name = "".join(next((c for c in letters if c.lower() == letter), letter) for letter in family.name
                   if letter.isalnum())
    return f"Zoo{name[:1].upper()}{name[1:]}"


def reference_layouts(family: Family[Any]) -> tuple[Layout, ...]:
    """The layouts of a family's reference module; none where it has none."""
    if not family.backbone:
        return ()
    return tuple(ReferenceLayout((name,), mount, (), f"the module {family.backbone}",
                                 requires=Requires(model=_keys(family, name)))
                 for name, mount in MOUNTS.items())


def _keys(family: Family[Any], layout: str) -> Callable[[Any], Mapping[str, object]]:
    def model(config: Any) -> Mapping[str, object]:
        variant, differs = nearest(family, config)
        member = {"FAMILY": family.name, "VARIANT": variant, **({"CONFIG": differs} if differs else {})}
        name = {"zooconv": registered_name(family), "zooconv-fpn": FPN, "zooconv-vitdet": PYRAMID}[layout]
        return {"BACKBONE": {"NAME": name}, "ZOOCONV": member}
    return model


def nearest(family: Family[Any], config: Any) -> tuple[str, dict[str, Any]]:
    """The variant that a config resembles most, and the fields in which it differs, as plain data."""
    fields = asdict(config)

    def differing(variant: str) -> list[str]:
        known = asdict(family.variants[variant])
        return [name for name, value in fields.items() if known[name] != value]

    best = min(family.variants, key=lambda variant: len(differing(variant)))
    facts = config_facts(config)
    return best, {name: facts[name] for name in differing(best)}
