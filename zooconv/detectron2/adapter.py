"""zooconv's reference modules as backbones of Detectron2.

    MODEL: {BACKBONE: {NAME: ZooConvNeXt}, ZOOCONV: {VARIANT: tiny}}                 # YAML
    model.backbone.bottom_up = L(backbone)(family="convnext", variant="tiny")        # LazyConfig

A module becomes a `detectron2.modeling.Backbone` itself, by its class, and is not wrapped: so its tensors keep their
canonical names, and a file of layout `zooconv` or `d2` fits it to the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone

from zooconv import plugins
from zooconv.detectron2.pyramids import fpn, simple_feature_pyramid
from zooconv.errors import UsageError
from zooconv.mapping.family import Family
from zooconv.modules import taking_part
from zooconv.reference import FPN, PYRAMID, registered_name
from zooconv.upstream import code

log = logging.getLogger("zooconv")


def backbone(family: str, variant: str, *, out_features: Iterable[str] = (), freeze_at: int = 0,
             freeze_norms: bool = True, config: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """A family's reference module of a variant, as a `detectron2.modeling.Backbone`.

    `config` holds what differs from the variant, `options` what the module takes: `drop_path`, `checkpointing`, and
    what the family's own class documents. Other arguments are explained in `zooconv.detectron2.config`. Tensors that
    no output is made of, such as the final norm, are there and learn nothing. Raises UsageError for what is unknown.
    """
    known = plugins.family(family)
    if not known.backbone:
        raise UsageError(f"{known.title} has no reference module", next="zooconv plugins")
    member = _member(known, variant, config or {})
    net = _built(known, member, ({"out_features": tuple(out_features)} if out_features else {}) | options)
    _leave_out_what_is_not_used(net, known, member)
    net.freeze(freeze_at)
    module: Any = type(net)
    net.__class__ = _as_backbone(module, registered_name(known))
    if freeze_norms:
        net.freeze_norms()
    return net


class ZooBackbone:
    """What Detectron2 expects of a backbone, beside what a reference module has."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature that `forward` returns."""
        shapes: Mapping[str, Any] = super().output_shape()  # type: ignore[misc]  # the module's own
        return {name: ShapeSpec(channels=shape.channels, stride=shape.stride) for name, shape in shapes.items()}

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride: images are padded to multiples of it, so that maps of neighbouring stages fit."""
        return int(max(shape.stride for shape in self.output_shape().values()))

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"size_divisibility": self.size_divisibility}

    def freeze_norms(self) -> None:
        """Let batch norms learn nothing, and go by the statistics that they have (MODEL.RESNETS.NORM: FrozenBN)."""
        for norm in self._batch_norms():
            norm.requires_grad_(False)
        self.train(self.training)  # type: ignore[attr-defined]

    def train(self, mode: bool = True) -> Any:
        """As any module; frozen batch norms keep their statistics."""
        super().train(mode)  # type: ignore[misc]
        for norm in self._batch_norms():
            if norm.affine and not norm.weight.requires_grad:
                norm.eval()
        return self

    def _batch_norms(self) -> list[Any]:
        from torch.nn.modules.batchnorm import _BatchNorm

        return [m for m in self.modules() if isinstance(m, _BatchNorm)]  # type: ignore[attr-defined]


@cache
def _as_backbone(module: Any, name: str) -> Any:
    return type(name, (ZooBackbone, module, Backbone), {"__doc__": module.__doc__, "__module__": __name__})


def _member(family: Family[Any], variant: str, differs: Mapping[str, Any]) -> Any:
    if variant not in family.variants:
        raise UsageError(f"{family.title} has no variant {variant!r}",
                         why=[f"variants: {', '.join(family.variants)}"],
                         next="MODEL.ZOOCONV.VARIANT: …  (zooconv show MODEL tells a model's)")
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in differs.items()}
    try:
        return replace(family.variants[variant], **fields)
    except TypeError as error:
        raise UsageError(f"MODEL.ZOOCONV.CONFIG does not fit {family.title}: {error}") from error


def _built(family: Family[Any], member: Any, options: dict[str, Any]) -> Any:
    try:
        net = code(family.backbone)(member, **options)
    except TypeError as error:
        raise UsageError(f"{registered_name(family)} cannot be built of these options: {error}",
                         why=[f"{name}: {value}" for name, value in options.items()]) from error
    if lacking := [name for name in ("output_shape", "freeze") if not hasattr(net, name)]:
        raise UsageError(f"the reference module of {family.title} is no backbone for a detector",
                         why=[f"it has no {name}()" for name in lacking])
    return net


def _leave_out_what_is_not_used(net: Any, family: Family[Any], member: Any) -> None:
    """Freeze what no output is made of: a trainer that looks for its gradient (DDP) would wait in vain."""
    try:
        used = taking_part(net, family.image_size(member))
    except KeyError as error:
        raise UsageError(f"{registered_name(family)} has no feature {error}",
                         next="MODEL.ZOOCONV.OUT_FEATURES: []  (gives all that are usual)") from error
    idle = [name for name, parameter in net.named_parameters() if name not in used]
    for name in idle:
        net.get_parameter(name).requires_grad_(False)
    if idle:
        log.info("%s: no feature is made of %s; it is loaded, and learns nothing", registered_name(family),
                 ", ".join(idle[:4]) + (f" … and {len(idle) - 4} more" if idle[4:] else ""))


# -- from a config -----------------------------------------------------------------------------------------------------


def builders() -> dict[str, Callable[[Any, Any], Any]]:
    """What is registered: a builder for every family with a reference module, and the two pyramids for any of them."""
    found: dict[str, Callable[[Any, Any], Any]] = {}
    for family in plugins.families():
        if family.backbone:
            found[registered_name(family)] = partial(from_config, family=family.name)
    found |= {FPN: lambda cfg, input_shape: fpn(cfg, from_config(cfg, input_shape)),
              PYRAMID: lambda cfg, input_shape: simple_feature_pyramid(cfg, from_config(cfg, input_shape))}
    for name, build in found.items():
        build.__name__ = name  # by which Registry.register knows it
    return found


def from_config(cfg: Any, input_shape: Any, family: str | None = None) -> Any:
    """The backbone that MODEL.ZOOCONV describes; `family` overrules its FAMILY. Raises UsageError."""
    ours = cfg.MODEL.ZOOCONV
    if input_shape is not None and input_shape.channels != 3:
        raise UsageError(f"zooconv's backbones take images of 3 channels, not {input_shape.channels}",
                         why=["MODEL.PIXEL_MEAN has as many values as images have channels"])
    if family and ours.FAMILY not in ("", family):
        raise UsageError(f"MODEL.ZOOCONV.FAMILY is {ours.FAMILY}, and MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME}",
                         next="say the same in both, or leave FAMILY out")
    asked = {"drop_path": ours.DROP_PATH, "checkpointing": ours.CHECKPOINTING}
    return backbone(family or ours.FAMILY, str(ours.VARIANT), out_features=ours.OUT_FEATURES, freeze_at=ours.FREEZE_AT,
                    freeze_norms=ours.FREEZE_NORMS, config=ours.CONFIG, **ours.OPTIONS,
                    **{name: value for name, value in asked.items() if value})
