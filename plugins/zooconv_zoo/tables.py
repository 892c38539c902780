"""What the tables of tensors of several families are written with. Without torch: families are imported at start-up."""

from __future__ import annotations

from collections.abc import Iterator

from zooconv import TensorSpec


def layer(name: str, weight: tuple[int, ...], *, bias: bool = True) -> Iterator[TensorSpec]:
    """A layer's weight and its bias, one number for each of the weight's rows: convolution, linear layer or norm."""
    yield TensorSpec(f"{name}.weight", weight)
    if bias:
        yield TensorSpec(f"{name}.bias", weight[:1])
