"""InternImage (Wang et al. 2022, arXiv:2211.05778): deformable convolutions (DCNv3) in the place of attention.

Canonical names: OpenGVLab/InternImage classification/models/intern_image.py, which Detectron2 ports keep. The `.0` and
`.1` within norms are places in a Sequential, beside permutations of axes.

Its reference backbone is held against no package, because none that installs has it: converting proves names, shapes
and bytes, and no forward pass. (The backbone itself was compared with the authors' code, outside of the test suite.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Shapes, TensorSpec
from zooconv_zoo.tables import layer

POINTS = 9  # where a 3x3 convolution looks


@dataclass(frozen=True)
class InternImageConfig:
    """Channels of the first stage, which double from stage to stage; blocks and groups per stage; and what differs.

    Norms stand before their layers, behind them (`post_norm`), or at both ends (`res_post_norm`). Huge and giant ones
    have a larger depthwise kernel, norms after every sixth block of the third stage (`level2_post_norm`), and mix each
    place's own features into what it gathers (`center_feature_scale`).
    """

    channels: int
    depths: tuple[int, ...]
    groups: tuple[int, ...]
    dw_kernel: int = 3
    layer_scale: bool = False
    post_norm: bool = False
    res_post_norm: bool = False
    level2_post_norm: bool = False
    center_feature_scale: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels per stage."""
        return tuple(self.channels * 2 ** s for s in range(len(self.depths)))

    @property
    def level_norm(self) -> bool:
        """Whether a stage ends with a norm."""
        return not self.post_norm or self.center_feature_scale

    @property
    def offset_scale(self) -> float:
        """By what offsets are multiplied, which shapes do not tell: OFFSET_SCALE of the official configs."""
        return 2.0 if self in (VARIANTS["large"], VARIANTS["xlarge"]) else 1.0

    def normed_blocks(self, s: int) -> range:
        """The blocks of stage `s` that a further norm follows: LEVEL2_POST_NORM_BLOCK_IDS of the official configs."""
        return range(5, self.depths[s], 6) if self.level2_post_norm and s == 2 else range(0)


# classification/configs/*.yaml of the official repository
VARIANTS = {
    "tiny": InternImageConfig(64, (4, 4, 18, 4), (4, 8, 16, 32)),
    "small": InternImageConfig(80, (4, 4, 21, 4), (5, 10, 20, 40), layer_scale=True, post_norm=True),
    "base": InternImageConfig(112, (4, 4, 21, 4), (7, 14, 28, 56), layer_scale=True, post_norm=True),
    "large": InternImageConfig(160, (5, 5, 22, 5), (10, 20, 40, 80), layer_scale=True, post_norm=True),
    "xlarge": InternImageConfig(192, (5, 5, 24, 5), (12, 24, 48, 96), layer_scale=True, post_norm=True),
    "huge": InternImageConfig(320, (6, 6, 32, 6), (10, 20, 40, 80), dw_kernel=5, res_post_norm=True,
                              level2_post_norm=True, center_feature_scale=True),
    "giant": InternImageConfig(512, (2, 2, 48, 4), (16, 32, 64, 128), dw_kernel=5, post_norm=True,
                               level2_post_norm=True, center_feature_scale=True),
}

TOY = InternImageConfig(8, (1, 1, 6, 1), (2, 2, 4, 8), dw_kernel=5, res_post_norm=True, level2_post_norm=True,
                        center_feature_scale=True)


def infer(shapes: Shapes) -> InternImageConfig:
    """Read the config off the canonical names and shapes; each group has a mask of POINTS places.

    A norm at the end of its stages tells norms before the layers, but for the giant: it has both, and no others.
    """
    mask = "levels.{s}.blocks.{b}.dcn.mask.bias"
    depths = shapes.counts(mask)
    center = "levels.0.blocks.0.dcn.center_feature_scale_proj_bias" in shapes
    both = "levels.0.blocks.0.res_post_norm1.0.weight" in shapes
    return InternImageConfig(
        shapes["patch_embed.conv2.weight"][0], depths,
        tuple(shapes.usual(mask, s=s)[0] // POINTS for s in range(len(depths))),
        dw_kernel=shapes.usual("levels.{s}.blocks.{b}.dcn.dw_conv.0.weight")[-1],
        layer_scale="levels.0.blocks.0.gamma1" in shapes,
        post_norm=not both and (center or "levels.0.norm.0.weight" not in shapes), res_post_norm=both,
        level2_post_norm="levels.2.post_norms.0.0.weight" in shapes, center_feature_scale=center)


def tensors(config: InternImageConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    half = config.channels // 2
    yield from layer("patch_embed.conv1", (half, 3, 3, 3))
    yield from layer("patch_embed.norm1.1", (half,))
    yield from layer("patch_embed.conv2", (config.channels, half, 3, 3))
    yield from layer("patch_embed.norm2.1", (config.channels,))
    for s, (depth, dim) in enumerate(zip(config.depths, config.dims, strict=True)):
        for b in range(depth):
            yield from _block(config, s, f"levels.{s}.blocks.{b}")
        if config.level_norm:
            yield from layer(f"levels.{s}.norm.0", (dim,))
        for i in range(len(config.normed_blocks(s))):
            yield from layer(f"levels.{s}.post_norms.{i}.0", (dim,))
        if s + 1 < len(config.depths):
            yield TensorSpec(f"levels.{s}.downsample.conv.weight", (2 * dim, dim, 3, 3))
            yield from layer(f"levels.{s}.downsample.norm.1", (2 * dim,))


def _block(config: InternImageConfig, s: int, block: str) -> Iterator[TensorSpec]:
    dim = config.dims[s]
    for n in (1, 2) if config.layer_scale else ():
        yield TensorSpec(f"{block}.gamma{n}", (dim,))
    yield from layer(f"{block}.norm1.0", (dim,))
    yield from _convolution(config, s, f"{block}.dcn")
    yield from layer(f"{block}.norm2.0", (dim,))
    yield from layer(f"{block}.mlp.fc1", (4 * dim, dim))
    yield from layer(f"{block}.mlp.fc2", (dim, 4 * dim))
    for n in (1, 2) if config.res_post_norm else ():
        yield from layer(f"{block}.res_post_norm{n}.0", (dim,))


def _convolution(config: InternImageConfig, s: int, name: str) -> Iterator[TensorSpec]:
    dim, groups = config.dims[s], config.groups[s]
    if config.center_feature_scale:
        yield TensorSpec(f"{name}.center_feature_scale_proj_weight", (groups, dim))
        yield TensorSpec(f"{name}.center_feature_scale_proj_bias", (groups,))
    yield from layer(f"{name}.dw_conv.0", (dim, 1, config.dw_kernel, config.dw_kernel))
    yield from layer(f"{name}.dw_conv.1.1", (dim,))
    yield from layer(f"{name}.offset", (2 * POINTS * groups, dim))
    yield from layer(f"{name}.mask", (POINTS * groups, dim))
    yield from layer(f"{name}.input_proj", (dim, dim))
    yield from layer(f"{name}.output_proj", (dim, dim))
