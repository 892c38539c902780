"""What must be computed where a ViT is to be held by a class with fewer parts, or with patches of another size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zooconv import ROUNDED, Change, compute, fold_scale, rename, resample, resample_grid

# x + gamma (W a + b) = x + (gamma W) a + gamma b: a scale per channel is one of the layer before it, row by row.
# Without it, what a DINOv2 computes is a quarter to a third wrong (facebookresearch/dinov2 issue 65).
FOLDED = Change(
    "LayerScale folded into attn.proj and mlp.fc2", limit=ROUNDED,
    becomes=lambda config: replace(config, layerscale=False),
    rules=[
        compute(["blocks.{b}.attn.proj.weight", "blocks.{b}.attn.proj.bias", "blocks.{b}.ls1.gamma"],
                ["blocks.{b}.attn.proj.weight", "blocks.{b}.attn.proj.bias"], fold_scale),
        compute(["blocks.{b}.mlp.fc2.weight", "blocks.{b}.mlp.fc2.bias", "blocks.{b}.ls2.gamma"],
                ["blocks.{b}.mlp.fc2.weight", "blocks.{b}.mlp.fc2.bias"], fold_scale),
    ])

# detectron2/modeling/backbone/vit.py: get_abs_pos passes over the row of a class token that is not there.
PATCHES_ALONE = Change("class token, registers and final norm left out: ViTDet has none",
                       becomes=lambda config: replace(config, class_token=False, registers=0, norm=False))


def to_patch(config: Any, size: int) -> Change:
    """Patches of another size: the kernels of `patch_embed.proj`, resampled, for any config with a `patch`.

    Source: baaivision/EVA EVA-01/eva/interpolate_patch_14to16.py.
    """
    return Change(f"patches of {config.patch} pixels resampled to {size}",
                  becomes=lambda config: replace(config, patch=size),
                  rules=[rename("patch_embed.proj.weight", "patch_embed.proj.weight", resample((2, 3), (size, size)))])


def to_grid(config: Any, side: int) -> Change:
    """Positions for another number of patches a side, for any config with `grid` and `pos_prefix`. Source: as above."""
    op = resample_grid(1, kept=config.pos_prefix, old=(config.grid,) * 2, to=(side,) * 2)
    return Change(f"positions of {config.grid} x {config.grid} patches resampled to {side} x {side}",
                  becomes=lambda config: replace(config, grid=side), rules=[rename("pos_embed", "pos_embed", op)])
