"""detectron2/layers/shape_spec.py"""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
