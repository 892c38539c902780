"""What the backbones of several families are made of, as plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

from torch import Tensor, nn
from torch.nn.functional import gelu

STAGES = ("res2", "res3", "res4", "res5")


class OutputShape(NamedTuple):
    """Channels of a feature map, and how many pixels of the image one of its pixels spans."""

    channels: int
    stride: int


def freeze(at: int, *parts: Sequence[nn.Module | Tensor | None]) -> None:
    """Let the first `at` parts learn nothing, as MODEL.BACKBONE.FREEZE_AT says it (detectron2/config/defaults.py).

    The first part is all that stands before the first stage, or the first block of a plain transformer.
    """
    for part in parts[:at]:
        for one in part:
            if one is not None:
                one.requires_grad_(False)


class BatchNorm(nn.BatchNorm2d):
    """A batch norm that, once its weight is frozen, keeps its statistics while the rest of a model is trained."""

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and self.weight.requires_grad)


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): while training, a residual is left out with this probability, per image."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x * x.new_empty(len(x), *(1,) * (x.ndim - 1)).bernoulli_(keep) / keep


class Mlp(nn.Module):
    """A perceptron of two layers for each place, channels last; `hidden` channels between, or four times as many."""

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 4 * dim
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out
