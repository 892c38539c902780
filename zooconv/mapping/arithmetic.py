"""Arithmetic on elements: the few operations that compute new values, and so cannot be undone.

Values are decoded to float64, computed in a fixed order of elementary operations, and rounded once to the dtype of the
first tensor, so that the same weights give the same bytes on every machine.

    scale       rows of a tensor, each times its own factor
    bicubic     two axes resampled, as torch.nn.functional.interpolate(mode="bicubic", align_corners=False) does
    cast        nothing but that: decoded, and rounded to another dtype
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zooconv.tensor import Shape, shape_text

if TYPE_CHECKING:
    from zooconv.tensor import Array

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_WIDER = {"F16": {"F32", "F64"}, "BF16": {"F32", "F64"}, "F32": {"F64"}}


def holds(wide: str, narrow: str) -> bool:
    """Has the dtype `wide` every number that `narrow` has, so that a cast between them is exact?"""
    return wide == narrow or wide in _WIDER.get(narrow, ())


@dataclass(frozen=True)
class Operation:
    """The shape of the result (raises ValueError where the shapes do not go together), and its values in float64."""

    shape: Callable[..., Shape]
    value: Callable[..., Any]


def scale_shape(rows: Shape, factors: Shape) -> Shape:
    if factors != rows[:1]:
        raise ValueError(f"{shape_text(factors)} is not a factor for each row of {shape_text(rows)}")
    return rows


def scale(rows: Any, factors: Any) -> Any:
    """Row i times factor i: rows (O, …), factors (O)."""
    return rows * factors.reshape(-1, *(1,) * (rows.ndim - 1))


def bicubic_shape(values: Shape, first: int, second: int, height: int, width: int) -> Shape:
    if not 0 <= first < second < len(values) or min(height, width) < 1:
        raise ValueError(f"axes {first} and {second} of {shape_text(values)} cannot become {height} x {width}")
    sizes = {first: height, second: width}
    return tuple(sizes.get(axis, size) for axis, size in enumerate(values))


def bicubic(values: Any, first: int, second: int, height: int, width: int) -> Any:
    """`values` with axis `first` resampled to `height` places and axis `second` to `width`."""
    return _resample(_resample(values, first, height), second, width)


def _resample(values: Any, axis: int, size: int) -> Any:
    """Cubic convolution along one axis; places beyond the edge count as the edge.

    Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -0.75 as PyTorch has it:
    aten/src/ATen/native/UpSample.h, get_cubic_upsample_coefficients.
    """
    import numpy as np

    old = values.shape[axis]
    if old == size:
        return values
    centre = (np.arange(size) + 0.5) * (old / size) - 0.5
    left = np.floor(centre)
    total = 0.0
    for tap in (-1, 0, 1, 2):
        weight = _cubic(np.abs(centre - left - tap)).reshape(-1, *(1,) * (values.ndim - axis - 1))
        total = total + weight * values.take(np.clip(left.astype(int) + tap, 0, old - 1), axis)
    return total


def _cubic(distance: Any, a: float = -0.75) -> Any:
    import numpy as np

    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def same(values: Any) -> Any:
    """These."""
    return values


ARITHMETIC = {"scale": Operation(scale_shape, scale), "bicubic": Operation(bicubic_shape, bicubic),
              "cast": Operation(same, same)}


def compute(name: str, arrays: list[tuple[Array, str]], numbers: tuple[int, ...], to: str) -> Array:
    """The result of an operation on arrays with opaque elements, each given with its dtype, in the dtype `to`."""
    values = ARITHMETIC[name].value(*(decoded(array, dtype) for array, dtype in arrays), *numbers)
    return encoded(values, to)


def decoded(array: Array, dtype: str) -> Any:
    """Opaque elements as float64."""
    import numpy as np

    if dtype == "BF16":
        array, dtype = array.astype("<u4") << np.uint32(16), "F32"
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return np.ascontiguousarray(array).view(kind).astype("<f8")


def encoded(values: Any, dtype: str) -> Array:
    """float64 as opaque elements of `dtype`, rounded to the nearest, ties to even.

    What is too large becomes Inf, and NaN stays NaN.
    """
    import numpy as np

    kind, opaque = {"F64": ("<f8", "<u8"), "F16": ("<f2", "<u2")}.get(dtype, ("<f4", "<u4"))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = np.ascontiguousarray(values.astype(kind))
    result: Array = _halves(values, rounded) if dtype == "BF16" else rounded.view(opaque)
    return result


def _halves(values: Any, rounded: Any) -> Array:
    """The upper halves of float32, which are bfloat16, of `values` in float64 that were `rounded` to float32.

    Rounded twice, a value near a tie could go the wrong way; so the first rounding is made one to odd.
    Boldo and Melquiond, "When double rounding is odd" (2005).
    """
    import numpy as np

    bits = rounded.view("<u4")
    if (inexact := rounded != values).any():
        toward_zero = bits - (np.abs(rounded) > np.abs(values))
        bits = np.where(inexact & np.isfinite(values), toward_zero | 1, bits)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    halves: Array = np.where(np.isnan(values), 0x7FC0, upper).astype("<u2")
    return halves
