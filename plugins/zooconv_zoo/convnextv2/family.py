"""ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808): ConvNeXt with a global response normalisation in each block.

Canonical names: facebookresearch/ConvNeXt-V2 models/convnextv2.py, which Detectron2 ports keep. There is no layer
scale; between the two pointwise layers stand `grn.gamma` and `grn.beta`, (1, 1, 1, 4C), as (N, H, W, 4C) needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Refusal, Shapes, TensorSpec
from zooconv_zoo.convnext.family import stages
from zooconv_zoo.tables import layer


@dataclass(frozen=True)
class ConvNeXtV2Config:
    """Blocks per stage, and channels per stage."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]


# models/convnextv2.py
VARIANTS = {
    "atto": ConvNeXtV2Config((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ConvNeXtV2Config((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ConvNeXtV2Config((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ConvNeXtV2Config((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ConvNeXtV2Config((3, 3, 9, 3), (96, 192, 384, 768)),
    "base": ConvNeXtV2Config((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ConvNeXtV2Config((3, 3, 27, 3), (192, 384, 768, 1536)),
    "huge": ConvNeXtV2Config((3, 3, 27, 3), (352, 704, 1408, 2816)),
}

TOY = ConvNeXtV2Config((1, 2, 3, 1), (4, 8, 12, 16))


def infer(shapes: Shapes) -> ConvNeXtV2Config:
    """Read depths and dims off the canonical names and shapes."""
    return ConvNeXtV2Config(*stages(shapes))


def tensors(config: ConvNeXtV2Config) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    depths, dims = config.depths, config.dims
    for s, dim in enumerate(dims):
        if s == 0:  # the stem: a 4x4 patch embedding, then its norm
            yield from layer("downsample_layers.0.0", (dim, 3, 4, 4))
            yield from layer("downsample_layers.0.1", (dim,))
        else:  # between stages: a norm, then a 2x2 convolution
            yield from layer(f"downsample_layers.{s}.0", (dims[s - 1],))
            yield from layer(f"downsample_layers.{s}.1", (dim, dims[s - 1], 2, 2))
    for s, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        for b in range(depth):
            block = f"stages.{s}.{b}"
            yield from layer(f"{block}.dwconv", (dim, 1, 7, 7))
            yield from layer(f"{block}.norm", (dim,))
            yield from layer(f"{block}.pwconv1", (4 * dim, dim))
            yield TensorSpec(f"{block}.grn.gamma", (1, 1, 1, 4 * dim))
            yield TensorSpec(f"{block}.grn.beta", (1, 1, 1, 4 * dim))
            yield from layer(f"{block}.pwconv2", (dim, 4 * dim))
    yield from layer("norm", (dims[-1],))


REFUSALS = (
    Refusal("sparse convolutions (MinkowskiEngine's .kernel), with which FCMAE pretrains; a Detectron2 class has dense "
            "ones. The published convnextv2_*_fcmae.pt are dense; remap_checkpoint_keys in the official utils.py makes "
            "a file of your own so",
            has="stages.{s}.{b}.dwconv.kernel"),
)
