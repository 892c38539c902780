"""Two checkpoints side by side, whoever spelled them: both are brought to canonical names first.

Names, shapes, dtypes and bytes are compared; where bytes differ, the numbers are told: how many, how far, how alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zooconv.checkpoint.open import Checkpoint, open_checkpoint
from zooconv.errors import ZooError
from zooconv.mapping.expr import Expr, Leaf
from zooconv.mapping.fit import Fit
from zooconv.modules import torch_value
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import array_bytes, shape_text


@dataclass(frozen=True)
class Mismatch:
    """A tensor that is not the same on both sides, and how: `only in A`, `only in B`, `shape`, `dtype` or `values`."""

    name: str
    how: str
    detail: str
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Diff:
    """What differs between two files, and what each of them is.

    `same` counts the tensors that are equal; `beside` names those that no backbone has, which were not compared.
    """

    a: str
    b: str
    names: str
    beside: Mapping[str, tuple[str, ...]]
    same: int
    changes: tuple[Mismatch, ...]

    @property
    def data(self) -> dict[str, Any]:
        return asdict(self)


def diff(a: str | Path, b: str | Path, *, ema: bool | None = None) -> Diff:
    """Compare two checkpoint files, in canonical names where both are of one family, else in their own.

    Raises ZooError for a file that cannot be read.
    """
    with open_checkpoint(a, ema=ema) as left, open_checkpoint(b, ema=ema) as right:
        read = [_reading(checkpoint) for checkpoint in (left, right)]
        one, other = read
        if one and other and one.family.name == other.family.name:
            names, sides = "canonical", [dict(one.canonical), dict(other.canonical)]
            beside = {side: (*found.dropped, *(leaf.name for leaf, _ in found.own.values()))
                      for side, found in (("A", one), ("B", other))}
        else:
            names, sides, beside = "their own", [_raw(left), _raw(right)], {}
        same, changes = 0, []
        for name in {**sides[0], **sides[1]}:
            change = _compare(name, sides[0].get(name), sides[1].get(name), left, right)
            same += change is None
            changes += [change] if change else []
        return Diff(_described(left, one), _described(right, other), names, beside, same, tuple(changes))


def _reading(checkpoint: Checkpoint) -> Fit | None:
    try:
        return recognise(checkpoint.specs, families(), what=checkpoint.path.name)
    except ZooError:
        return None


def _raw(checkpoint: Checkpoint) -> dict[str, Expr]:
    return {name: Leaf(t.shape, t.dtype, name) for name, t in checkpoint.tensors.items()}


def _described(checkpoint: Checkpoint, found: Fit | None) -> str:
    kind = f"{found.family.title} {found.variant or ''}".strip() + f", {found.dialect.name} names" if found else (
        "not recognised")
    return f"{checkpoint.path}  ({kind}, {len(checkpoint.tensors)} tensors)"


def _compare(name: str, a: Expr | None, b: Expr | None, left: Checkpoint, right: Checkpoint) -> Mismatch | None:
    if a is None or b is None:
        there = a or b
        assert there is not None
        return Mismatch(name, "only in A" if b is None else "only in B", f"{there.dtype} {shape_text(there.shape)}", {})
    if a.shape != b.shape:
        return Mismatch(name, "shape", f"{shape_text(a.shape)}, {shape_text(b.shape)}", {})
    x, y = torch_value(a, left.tensors), torch_value(b, right.tensors)
    if a.dtype == b.dtype and _sha256(x) == _sha256(y):
        return None
    numbers = _numbers(x, y)
    dtypes = "" if a.dtype == b.dtype else f"{a.dtype}, {b.dtype}; "
    detail = (f"{dtypes}{numbers['different']:,.0f} of {x.numel():,} elements, by {numbers['max']:.3g} at most, "
              f"{numbers['mean']:.3g} on average; cosine {numbers['cosine']:.6f}")
    return Mismatch(name, "values" if a.dtype == b.dtype else "dtype", detail, numbers)


def _sha256(value: Any) -> str:
    import torch

    return hashlib.sha256(array_bytes(value.contiguous().reshape(-1).view(torch.uint8).numpy())).hexdigest()


def _numbers(x: Any, y: Any) -> dict[str, float]:
    """How two tensors of one shape differ, in float64."""
    import torch

    x, y = x.double().reshape(-1), y.double().reshape(-1)
    apart = (x - y).abs()
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=0, eps=0)
    return {"different": float((apart != 0).sum()), "max": float(apart.max()), "mean": float(apart.mean()),
            "cosine": float(cosine.nan_to_num(0))}
