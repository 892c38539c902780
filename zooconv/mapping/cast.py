"""The cast: every floating-point tensor in one dtype. A declared change that weights of any family can be asked for.

Numbers that the dtype has are kept, and had back from the artifact bit for bit; others are rounded to the nearest, ties
to even. What is exact is done before all other changes, and what rounds after them, so that these compute with all the
digits that there are. Whole numbers stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zooconv.errors import UsageError
from zooconv.mapping import expr
from zooconv.mapping.arithmetic import FLOATS, holds
from zooconv.mapping.change import Change
from zooconv.mapping.expr import Expr, ShapeError
from zooconv.mapping.ops import Exprs, Op
from zooconv.mapping.rules import rename
from zooconv.tensor import DTYPES

CAST = "dtype"  # the option that asks for one (see Options)
_NAMES = {DTYPES[dtype].torch: dtype for dtype in ("F32", "F16", "BF16")}
_EXACT = 0.0  # what an exact cast adds to how far outputs may be from the upstream's


def dtype_of(choices: Mapping[str, Any]) -> str | None:
    """The dtype that was asked for, as tensors spell it. Raises UsageError for one that there is not."""
    name = choices.get(CAST)
    if name is not None and name not in _NAMES:
        raise UsageError(f"weights cannot be cast to {name}", why=[f"they can to {', '.join(_NAMES)}"])
    return _NAMES[name] if name is not None else None


def casts(values: Mapping[str, Expr], dtype: str | None, *, exact: bool) -> list[Change]:
    """The cast of those tensors that `dtype` holds exactly, or of the others; nothing where there are none."""
    if dtype is None:
        return []
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        floating = DTYPES[value.dtype].floating and value.dtype != dtype
        if floating and holds(dtype, value.dtype) == exact:
            names.setdefault(value.dtype, []).append(name)
    if not names:
        return []
    templates = {old: f"{{tensor:{'|'.join(mine)}}}" for old, mine in names.items()}
    return [Change(cast_title(names, dtype, exact=exact), limit=_EXACT if exact else None, rules=[
        rename(template, template, Cast(old, dtype)) for old, template in templates.items()])]


def cast_title(dtypes: Iterable[str], dtype: str, *, exact: bool) -> str:
    """What is done, in words."""
    before, after = " and ".join(sorted(DTYPES[old].torch for old in dtypes)), DTYPES[dtype].torch
    return f"{before} widened to {after}, which is exact" if exact else f"{before} rounded to {after}"


def in_dtype(value: Expr, dtype: str | None) -> Expr:
    """A tensor that a table of rules adds, in the dtype of the others; whole numbers as they are."""
    return expr.cast(value, dtype) if dtype in FLOATS and value.dtype in FLOATS else value


@dataclass(frozen=True)
class Cast(Op):
    """A tensor of one dtype in another."""

    before: str
    after: str

    @property
    def lossless(self) -> bool:  # type: ignore[override]
        return holds(self.after, self.before)

    def forward(self, args: Exprs, count: int) -> Exprs:
        (arg,) = args
        return (expr.cast(arg, self.after),)

    def backward(self, args: Exprs, count: int) -> Exprs:
        if not self.lossless:
            raise ShapeError(f"{self} cannot be undone")
        (arg,) = args
        return (expr.cast(arg, self.before),)

    def __str__(self) -> str:
        return f"cast({self.before} -> {self.after})"
