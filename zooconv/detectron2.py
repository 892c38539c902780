"""What Detectron2 wants to know: the config that goes with the weights, and its MODEL.WEIGHTS.

Detectron2 itself is never needed here. Keys: detectron2/config/defaults.py.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.atomic import write_text
from zooconv.errors import UsageError
from zooconv.mapping.plan import Plan

if TYPE_CHECKING:
    from ruamel.yaml import YAML

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
        keys = _merged(keys, one.model(plan.config) if one.model else {})
    turn = -1 if plan.turns_colours else 1
    pixels = {name: list(keys.get(name, value))[::turn] for name, value in (("PIXEL_MEAN", mean), ("PIXEL_STD", std))}
    return {"MODEL": {**keys, **pixels}, "INPUT": {"FORMAT": requires[-1].format[::turn]}}


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; the second has the word where both have one."""
    both = {key: _merged(first[key], value) if isinstance(value, Mapping) and isinstance(first.get(key), Mapping)
            else value for key, value in second.items()}
    return {**first, **both}


def config_yaml(config: Mapping[str, Any], indent: str = "") -> str:
    """Nested mappings as YAML, lists in one line."""
    lines = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", config_yaml(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


def set_weights(path: Path, weights: str) -> None:
    """Write MODEL.WEIGHTS into a user's YAML config; comments, order and everything else stay.

    Raises UsageError where the file is no YAML mapping or cannot be written.
    """
    yaml, config = _read(path)
    model = config.setdefault("MODEL", {})
    if model.get("WEIGHTS") != weights:
        model["WEIGHTS"] = weights
        text = io.StringIO()
        yaml.dump(config, text)
        write_text(path, text.getvalue())


def check_config(path: Path) -> None:
    """Raise UsageError where `set_weights` would: a file that is no YAML config."""
    _read(path)


def _read(path: Path) -> tuple[YAML, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    try:
        config = yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the config {path}: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML", why=[str(error).splitlines()[0]]) from None
    if not isinstance(config, Mapping) or not isinstance(config.get("MODEL", {}), Mapping):
        raise UsageError(f"{path} is no Detectron2 config: a YAML mapping, with a mapping MODEL in it")
    return yaml, config


def _scaled(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(255 * value, 3) for value in values)
