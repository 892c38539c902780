"""The part of a Detectron2 config that goes with an artifact. Keys: detectron2/config/defaults.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zooconv.d2config.file import merged
from zooconv.mapping.plan import Plan

if TYPE_CHECKING:
    from zooconv.zoo import Model

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def config_for(plan: Plan, weights: str, model: Model | None = None) -> dict[str, Any]:
    """The part of a Detectron2 config that goes with an artifact, as nested mappings.

    Pixel values are the layout's where it insists, else those of the dialect that the weights came in, else those that
    the model was trained with, else ImageNet's. Other keys are the layout's, the dialect's before them.
    """
    requires = plan.requires
    mean = next((r.pixel_mean for r in requires if r.pixel_mean), _scaled(model.mean if model else IMAGENET_MEAN))
    std = next((r.pixel_std for r in requires if r.pixel_std), _scaled(model.std if model else IMAGENET_STD))
    keys: dict[str, Any] = {"WEIGHTS": weights}
    for one in requires:
        keys = merged(keys, one.model(plan.config) if one.model else {})
    turn = -1 if plan.turns_colours else 1
    pixels = {name: list(keys.get(name, value))[::turn] for name, value in (("PIXEL_MEAN", mean), ("PIXEL_STD", std))}
    return {"MODEL": {**keys, **pixels}, "INPUT": {"FORMAT": requires[-1].format[::turn]}}


def _scaled(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(255 * value, 3) for value in values)
