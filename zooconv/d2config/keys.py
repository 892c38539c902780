"""What a Detectron2 config must say for a file of weights. Keys: detectron2/config/defaults.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zooconv.mapping.family import Family, Layout, config_facts, config_text
from zooconv.mapping.plan import Plan
from zooconv.mapping.requires import Requires

if TYPE_CHECKING:
    from zooconv.zoo import Model

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DEFAULTS: dict[str, Any] = {
    "MODEL": {"WEIGHTS": "", "PIXEL_MEAN": [103.530, 116.280, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0],
              "BACKBONE": {"FREEZE_AT": 2}},
    "INPUT": {"FORMAT": "BGR"},
}
"""What counts where a config is silent, of keys that are no project's own."""


@dataclass(frozen=True)
class Wanted:
    """All that decides what a config must say.

    `project` is the name of the layout that was asked for, `config` is what the file holds, `weights` how the config
    names it. `dialect` is required by the names that the weights came in, `model` is known of them, where either is.
    `turned`: their colour channels were turned round.
    """

    family: Family[Any]
    layout: Layout
    project: str
    config: Any
    weights: str
    dialect: Requires | None = None
    model: Model | None = None
    turned: bool = False

    @property
    def required(self) -> Requires:
        """The project's word."""
        return self.layout.required_by(self.project)

    @property
    def requires(self) -> tuple[Requires, ...]:
        """The project's word, then that of the names that the weights came in."""
        return (self.required, self.dialect) if self.dialect else (self.required,)

    @property
    def keys(self) -> dict[str, Any]:
        """The config, as nested mappings.

        Pixel values are the project's where it insists, else those of the dialect that the weights came in, else those
        that the model was trained with, else ImageNet's. Other keys are the project's, the dialect's before them.
        """
        mean, std = (self.model.mean, self.model.std) if self.model else (IMAGENET_MEAN, IMAGENET_STD)
        keys = _nested(self.required.weights, self.weights)
        for one in self.requires:
            keys = merged(keys, one.model(self.config) if one.model else {})
        told = {"PIXEL_MEAN": next((r.pixel_mean for r in self.requires if r.pixel_mean), _scaled(mean)),
                "PIXEL_STD": next((r.pixel_std for r in self.requires if r.pixel_std), _scaled(std))}
        turn = -1 if self.turned else 1
        pixels = {name: list(keys.get(name, value))[::turn] for name, value in told.items()}
        return {"MODEL": {**keys, **pixels}, "INPUT": {"FORMAT": self.requires[-1].format[::turn]}}

    @property
    def defaults(self) -> dict[str, Any]:
        """What counts where a config is silent, as far as that is known."""
        return merged(DEFAULTS, {"MODEL": self.required.declares})

    @property
    def mind(self) -> list[str]:
        """What the project, the dialect and the zoo want a user to mind."""
        notes = [*(one.advice(self.config) for one in self.requires), self.model.note if self.model else ""]
        return [note for note in notes if note]

    @property
    def title(self) -> str:
        """What the weights are, in one line."""
        variant = self.family.variant(self.config)
        return f"{self.family.title}{f' {variant}' if variant else ''}  ({config_text(config_facts(self.config))})"


def wanted_of(plan: Plan, weights: str, model: Model | None = None, project: str = "") -> Wanted:
    """What a config must say for the file that a plan makes. `project` is the layout's name unless said."""
    config = meant(plan.family, plan.config, model)
    return Wanted(plan.family, plan.layout, project or plan.layout.name, config, weights,
                  dialect_requires(plan.family, plan.dialect), model, plan.turns_colours)


def meant(family: Family[Any], config: Any, model: Model | None) -> Any:
    """A file's config, as its model's variant has it: where several are alike, the name knows more than the tensors."""
    variant = next((one.variant for one in model.known if one.family == family.name), "") if model else ""
    own = family.variants.get(variant)
    return own if own == config else config


def dialect_requires(family: Family[Any], dialect: str) -> Requires | None:
    """What weights that came in these names require."""
    return next((d.requires for d in family.dialects if d.name == dialect), None)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; the second has the word where both have one."""
    both = {key: merged(first[key], value) if isinstance(value, Mapping) and isinstance(first.get(key), Mapping)
            else value for key, value in second.items()}
    return {**first, **both}


def dotted(keys: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Nested mappings, flat: `{"MODEL.WEIGHTS": …}`."""
    flat: dict[str, Any] = {}
    for key, value in keys.items():
        flat |= dotted(value, f"{under}{key}.") if isinstance(value, Mapping) else {f"{under}{key}": value}
    return flat


def _nested(name: str, value: Any) -> dict[str, Any]:
    first, _, rest = name.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _scaled(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(255 * value, 3) for value in values)
