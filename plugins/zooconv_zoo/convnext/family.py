"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545).

Canonical names: facebookresearch/ConvNeXt, which Detectron2 ports keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Refusal, Shapes, TensorSpec
from zooconv_zoo.tables import layer


@dataclass(frozen=True)
class ConvNeXtConfig:
    """Blocks per stage, and channels per stage."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]

    @property
    def eps(self) -> float:
        """The norms' epsilon, which shapes do not tell: CLIP's xxlarge was trained with 1e-5 (timm's norm_eps)."""
        return 1e-5 if self == VARIANTS["xxlarge"] else 1e-6


# Table 9 of the paper for tiny … xlarge; timm/models/convnext.py for the smaller ones and xxlarge.
VARIANTS = {
    "atto": ConvNeXtConfig((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ConvNeXtConfig((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ConvNeXtConfig((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ConvNeXtConfig((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ConvNeXtConfig((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ConvNeXtConfig((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ConvNeXtConfig((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ConvNeXtConfig((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ConvNeXtConfig((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "xxlarge": ConvNeXtConfig((3, 4, 30, 3), (384, 768, 1536, 3072)),
}

TOY = ConvNeXtConfig((1, 2, 3, 1), (4, 8, 12, 16))


def infer(shapes: Shapes) -> ConvNeXtConfig:
    """Read depths and dims off the canonical names and shapes."""
    return ConvNeXtConfig(*stages(shapes))


def stages(shapes: Shapes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks and channels of each stage, by its depthwise convolutions."""
    depths = shapes.counts("stages.{s}.{b}.dwconv.weight")
    return depths, tuple(shapes.usual("stages.{s}.{b}.dwconv.weight", s=s)[0] for s in range(len(depths)))


def tensors(config: ConvNeXtConfig) -> Iterator[TensorSpec]:
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
            yield TensorSpec(f"{block}.gamma", (dim,))  # LayerScale
            yield from layer(f"{block}.dwconv", (dim, 1, 7, 7))
            yield from layer(f"{block}.norm", (dim,))
            yield from layer(f"{block}.pwconv1", (4 * dim, dim))
            yield from layer(f"{block}.pwconv2", (dim, 4 * dim))
    yield from layer("norm", (dims[-1],))


REFUSALS = (
    Refusal("an overlapping stem (_ols: two 3x3 stride-2 convolutions); a D2ConvNeXt has one 4x4 stride-4 convolution",
            has="stem.2.weight"),
    Refusal("RMS norms without a bias (_rms, zepto); a D2ConvNeXt normalises with LayerNorm, weight and bias",
            has="stages.{s}.blocks.{b}.norm.weight", lacks="stages.{s}.blocks.{b}.norm.bias"),
)
