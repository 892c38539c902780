"""How Detectron2 projects hold a backbone of timm: what `features_only` makes of it, under a mount of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zooconv import Call, Fresh, Layout, LazyBackbone, Requires, Rule
from zooconv_zoo.configs import DETREX, neck

from .architectures import Architecture, Entry, by_name
from .rules import features
from .tree import COUNTER


def counters(config: Architecture) -> Iterator[Fresh]:
    """A batch norm counts the batches that it has seen; while it runs, it asks nobody."""
    entry = by_name()[config.architectures[0]]
    return (Fresh(entry.renamed(row.name), (), 0.0, "I64") for row in entry.kept() if row.kind == COUNTER)


def own_config(config: Architecture) -> dict[str, Any]:
    """For zooconv's own backbone (see zooconv.detectron2)."""
    return {"BACKBONE": {"NAME": "ZooTimm"}, "ZOOCONV": {"VARIANT": config.architectures[0]}}


def alike(config: Architecture) -> str:
    """That names and shapes leave open which of several architectures it is, if they do."""
    return (f"{' and '.join(config.architectures)} hold the very same tensors, and may compute something else: "
            "name the one that the weights were trained as" if len(config.architectures) > 1 else "")


def own_note(config: Architecture) -> str:
    """Who can load it, and as what."""
    wrapper = "only a backbone that wraps timm.create_model(…, features_only=True) holds these names"
    return "; ".join(filter(None, [wrapper, alike(config)]))


def detic_config(config: Architecture) -> dict[str, Any]:
    """The keys that Detic adds: `add_detic_config` in detic/config.py."""
    levels = [index + 1 for index, stride in zip(config.out_indices, config.strides, strict=True) if stride >= 8]
    return {"BACKBONE": {"NAME": "build_p67_timm_fpn_backbone"},
            "TIMM": {"BASE_NAME": config.architectures[0], "OUT_LEVELS": levels}}


def detic_lacks(config: Architecture) -> str | None:
    """Detic's class knows architectures by a part of their name."""
    if any(part in name for name in config.architectures for part in ("eff", "resnet", "regnet", "convnext")):
        return None
    return "Detic's TIMM takes architectures with eff, resnet, regnet or convnext in their name only"


def detrexs(config: Architecture, _: Mapping[str, object]) -> LazyBackbone:
    """As projects/dino/configs/timm_example.py builds it; the neck takes the maps of stride 8 and more."""
    taken = {f"p{index}": channels for index, channels, stride in
             zip(config.out_indices, config.channels, config.strides, strict=True) if stride >= 8}
    return LazyBackbone(
        Call("detrex.modeling.backbone:TimmBackbone",
             {"model_name": config.architectures[0], "features_only": True, "in_channels": 3,
              "out_indices": config.out_indices}),
        free={"pretrained": False}, beside=neck(tuple(taken.values()), tuple(taken)), formats=DETREX,
        at="backbone")


def detrex_note(config: Architecture) -> str:
    """The features that the class is to be asked for: its own choice would leave the last tensors without a place."""
    whole = f"out_indices {config.out_indices} keep a place for every tensor; with fewer, those after the last are lost"
    return "; ".join(filter(None, [whole, alike(config)]))


def layouts(entry: Entry | None = None) -> list[Layout]:
    """The layouts of an architecture; without one, what all have in common."""
    rules: Sequence[Rule] = features(entry) if entry else []
    return [
        Layout(("timm", "d2"), mount="backbone.", rules=rules, fresh=counters,
               source="huggingface/pytorch-image-models timm/models/_features.py, under backbone.",
               requires=Requires(model=own_config, note=own_note)),

        Layout(("detrex-timm",), mount="backbone.timm_model.", rules=rules, fresh=counters,
               source="IDEA-Research/detrex detrex/modeling/backbone/timm_backbone.py",
               requires=Requires(lazy=detrexs, note=detrex_note)),

        # its batch norms are frozen ones, which do not count: FrozenBatchNorm2d, MODEL.TIMM.NORM "FrozenBN"
        Layout(("detic-timm",), mount="backbone.bottom_up.base.", rules=rules, refuses=detic_lacks,
               source="facebookresearch/Detic detic/modeling/backbone/timm.py",
               requires=Requires(model=detic_config)),
    ]
