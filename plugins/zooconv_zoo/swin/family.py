"""Swin Transformer (Liu et al. 2021, arXiv:2103.14030).

Canonical names: microsoft/Swin-Transformer, which Detectron2 ports keep; these have absolute positions as a map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from zooconv import Change, Derived, Shapes, TensorSpec, rename, resample, resample_grid
from zooconv_zoo.tables import layer

POSITIONS = "absolute_pos_embed"
TABLE = "layers.{s}.blocks.{b}.attn.relative_position_bias_table"
INDEX = "layers.{s}.blocks.{b}.attn.relative_position_index"


@dataclass(frozen=True)
class SwinConfig:
    """Channels after the patch embedding, blocks and heads per stage, and the side of a window in patches.

    `positions` is the side, in patches, of the map of absolute positions: 0, as almost everywhere, for none.
    """

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    positions: int = 0

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels per stage: patch merging doubles them."""
        return tuple(self.embed_dim * 2 ** s for s in range(len(self.depths)))


TINY, SMALL = (2, 2, 6, 2), (2, 2, 18, 2)

# Section 3.3 of the paper; windows of 12 are those that were trained or tuned at 384 pixels.
VARIANTS = {
    "tiny": SwinConfig(96, TINY, (3, 6, 12, 24), 7),
    "small": SwinConfig(96, SMALL, (3, 6, 12, 24), 7),
    "base": SwinConfig(128, SMALL, (4, 8, 16, 32), 7),
    "base_384": SwinConfig(128, SMALL, (4, 8, 16, 32), 12),
    "large": SwinConfig(192, SMALL, (6, 12, 24, 48), 7),
    "large_384": SwinConfig(192, SMALL, (6, 12, 24, 48), 12),
}

TOY = SwinConfig(6, (2, 1, 2, 1), (1, 2, 3, 4), 2)


def infer(shapes: Shapes) -> SwinConfig:
    """Read the config off canonical names and shapes; a table of relative positions has (2w-1)² rows."""
    depths = shapes.counts(TABLE)
    heads = tuple(shapes.usual(TABLE, s=s)[1] for s in range(len(depths)))
    positions = shapes[POSITIONS][-1] if POSITIONS in shapes else 0
    return SwinConfig(shapes["patch_embed.norm.weight"][0], depths, heads, (isqrt(shapes.usual(TABLE)[0]) + 1) // 2,
                      positions)


def tensors(config: SwinConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    if config.positions:
        yield TensorSpec(POSITIONS, (1, config.embed_dim, config.positions, config.positions))
    yield from layer("patch_embed.proj", (config.embed_dim, 3, 4, 4))
    yield from layer("patch_embed.norm", (config.embed_dim,))
    for s, (depth, dim, heads) in enumerate(zip(config.depths, config.dims, config.heads, strict=True)):
        for b in range(depth):
            block = f"layers.{s}.blocks.{b}"
            yield from layer(f"{block}.norm1", (dim,))
            yield TensorSpec(f"{block}.attn.relative_position_bias_table", ((2 * config.window - 1) ** 2, heads))
            yield from layer(f"{block}.attn.qkv", (3 * dim, dim))
            yield from layer(f"{block}.attn.proj", (dim, dim))
            yield from layer(f"{block}.norm2", (dim,))
            yield from layer(f"{block}.mlp.fc1", (4 * dim, dim))
            yield from layer(f"{block}.mlp.fc2", (dim, 4 * dim))
        if s + 1 < len(config.depths):  # patch merging: four neighbours' channels, normalised and halved
            yield TensorSpec(f"layers.{s}.downsample.reduction.weight", (2 * dim, 4 * dim))
            yield from layer(f"layers.{s}.downsample.norm", (4 * dim,))
    yield from layer("norm", (config.dims[-1],))


def derived(config: SwinConfig) -> Iterator[Derived]:
    """The index of every block, which some files hold as a buffer."""
    area = config.window ** 2
    for s, depth in enumerate(config.depths):
        for b in range(depth):
            yield Derived(INDEX.format(s=s, b=b), (area, area), "relative_position_index", (config.window,) * 2)


def to_window(config: SwinConfig, side: int) -> Change:
    """Windows of another size: their tables of (2w-1)² relative positions, resampled.

    Source: microsoft/Swin-Transformer utils.py, load_pretrained.
    """
    old, new = ((2 * w - 1,) * 2 for w in (config.window, side))
    return Change(f"windows of {config.window} places resampled to {side}",
                  becomes=lambda config: replace(config, window=side),
                  rules=[rename(TABLE, TABLE, resample_grid(0, old=old, to=new))])


def to_grid(config: SwinConfig, side: int) -> Change:
    """Absolute positions for another number of patches a side. Source: as above."""
    return Change(f"positions of {config.positions} x {config.positions} patches resampled to {side} x {side}",
                  becomes=lambda config: replace(config, positions=side),
                  rules=[rename(POSITIONS, POSITIONS, resample((2, 3), (side, side)))])


def seen(config: SwinConfig) -> tuple[int, int]:
    """The image of a proof: where there are absolute positions, the one that they were made for."""
    return (4 * config.positions,) * 2 if config.positions else image(config)


def image(config: Any) -> tuple[int, int]:
    """Whole windows in every stage, and in the last one more than one: there Detectron2 shifts, and others do not."""
    return 64 * config.window, 96 * config.window
