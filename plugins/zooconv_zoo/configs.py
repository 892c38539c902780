"""What the configs of several families have in common."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nextafter
from typing import Any

from zooconv import Call, Named

STAGES = ["res2", "res3", "res4", "res5"]
DETREX = ("dataloader.train.mapper.img_format", "dataloader.test.mapper.img_format")
"""Where detrex' configs say in which order channels come: configs/common/data/coco_detr.py."""


def partial_norm(eps: float) -> Call:
    """A LayerNorm with this epsilon, which classes take as `norm_layer`."""
    return Call("functools:partial", {"eps": eps}, first=(Named("torch.nn:LayerNorm"),), lazy=False)


def ratio(hidden: int, dim: int) -> float:
    """`mlp_ratio`, of which a class makes int(dim * mlp_ratio) channels."""
    found = hidden / dim
    return found if int(dim * found) == hidden else nextafter(found, inf)


def windowed(depth: int) -> list[int]:
    """The blocks of a plain ViT that attend within windows: all but the last of each quarter (arXiv:2203.16527, 3)."""
    return [b for b in range(depth) if (b + 1) % max(depth // 4, 1)]


def neck(channels: Sequence[int], names: Sequence[str] = ("p1", "p2", "p3")) -> dict[str, Any]:
    """What a detrex model must be told of its backbone's maps: projects/dino/configs/models."""
    shapes = {name: Call("detectron2.layers:ShapeSpec", {"channels": count}, lazy=False)
              for name, count in zip(names, channels, strict=True)}
    return {"model.neck.input_shapes": shapes, "model.neck.in_features": list(names)}
