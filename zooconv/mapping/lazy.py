"""A backbone as a LazyConfig builds it (detectron2/config/lazy.py, instantiate.py), as plain data.

    LazyBackbone(
        Call("detectron2.modeling:SwinTransformer", {"embed_dim": 96, "depths": (2, 2, 6, 2)}),
        free={"drop_path_rate": 0.2},
        beside={"model.backbone.in_features": ("p0", "p1", "p2", "p3")})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Named:
    """Something that a config imports and does not call: `Named("torch.nn:ReLU")`."""

    target: str


@dataclass(frozen=True)
class Call:
    """A call in a config: of `package.module:name`, or of what lies within: `package.module:Class.method`.

    Arguments are numbers, strings, lists, tuples, dicts, other calls and `Named` things. A `lazy` one is written
    `L(name)(…)`, and made when the model is; any other is written `name(…)`, and made at once.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    first: Sequence[Any] = ()
    lazy: bool = True


@dataclass(frozen=True)
class LazyBackbone:
    """What a LazyConfig says of a backbone.

    `call` has the arguments that the weights decide, `free` those that they do not, as the project's own configs have
    them. `beside` are assignments that must fit the backbone, by their full names. `formats` are the names that must
    say in which order an image's channels come. `at` is where the config has it, where a wrapper's names come between
    that and the weights: by default at the layout's mount.
    """

    call: Call
    free: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)
    formats: Sequence[str] = ("model.input_format", "dataloader.train.mapper.image_format")
    at: str = ""
