"""Tensors that follow from a config alone: indices and the like, which some files hold and others leave out.

A formula has a name and integer arguments, so that a certificate can say it and anybody can check it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zooconv.tensor import Array


def relative_position_index(height: int, width: int) -> Array:
    """Which row of a relative position table belongs to each pair of places of a window: int64, (HW, HW).

    Row `(y - y' + H - 1) (2W - 1) + (x - x' + W - 1)` for places (y, x) and (y', x'). Source:
    microsoft/Swin-Transformer models/swin_transformer.py, WindowAttention.
    """
    import numpy as np

    y, x = (axis.reshape(-1) for axis in np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    index = (y[:, None] - y + height - 1) * (2 * width - 1) + (x[:, None] - x + width - 1)
    return index.astype("<i8").view("<u8")


FORMULAS: dict[str, Callable[..., Array]] = {"relative_position_index": relative_position_index}
