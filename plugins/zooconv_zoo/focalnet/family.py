"""FocalNet (Yang et al. 2022, arXiv:2203.11926): focal modulation in the place of attention.

Canonical names: detrex's FocalNet, which are those of microsoft/FocalNet classification/focalnet.py. A stage ends with
the patch embedding of the next one (`layers.{s}.downsample`); the last one has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Shapes, TensorSpec
from zooconv_zoo.tables import layer


@dataclass(frozen=True)
class FocalNetConfig:
    """Blocks per stage; channels of the first, which double from stage to stage; focal levels and first window of each.

    Members from large on have overlapping patch embeddings (`conv_embed`) and layer scales, the huge ones a norm in the
    modulation as well.
    """

    depths: tuple[int, ...]
    embed_dim: int
    levels: tuple[int, ...]
    windows: tuple[int, ...]
    conv_embed: bool = False
    layer_scale: bool = False
    modulation_norm: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels per stage."""
        return tuple(self.embed_dim * 2 ** s for s in range(len(self.depths)))

    @property
    def post_norm(self) -> bool:
        """Whether norms stand behind their layers, which shapes do not tell: so in all members with layer scales."""
        return self.layer_scale

    @property
    def normalize_modulator(self) -> bool:
        """Whether the sum of contexts becomes their mean, which shapes do not tell: configs/focalnet_large_fl4.yaml."""
        return self == VARIANTS["large_fl4"]


def _large(embed_dim: int, levels: int, window: int, *, modulation_norm: bool = False) -> FocalNetConfig:
    return FocalNetConfig((2, 2, 18, 2), embed_dim, (levels,) * 4, (window,) * 4, conv_embed=True, layer_scale=True,
                          modulation_norm=modulation_norm)


# configs/*.yaml of microsoft/FocalNet; srf, lrf: small and large receptive field; fl3, fl4: three and four focal levels
VARIANTS = {
    "tiny_srf": FocalNetConfig((2, 2, 6, 2), 96, (2, 2, 2, 2), (3, 3, 3, 3)),
    "tiny_lrf": FocalNetConfig((2, 2, 6, 2), 96, (3, 3, 3, 3), (3, 3, 3, 3)),
    "small_srf": FocalNetConfig((2, 2, 18, 2), 96, (2, 2, 2, 2), (3, 3, 3, 3)),
    "small_lrf": FocalNetConfig((2, 2, 18, 2), 96, (3, 3, 3, 3), (3, 3, 3, 3)),
    "base_srf": FocalNetConfig((2, 2, 18, 2), 128, (2, 2, 2, 2), (3, 3, 3, 3)),
    "base_lrf": FocalNetConfig((2, 2, 18, 2), 128, (3, 3, 3, 3), (3, 3, 3, 3)),
    "large_fl3": _large(192, levels=3, window=5),
    "large_fl4": _large(192, levels=4, window=3),
    "xlarge_fl3": _large(256, levels=3, window=5),
    "xlarge_fl4": _large(256, levels=4, window=3),
    "huge_fl3": _large(352, levels=3, window=3, modulation_norm=True),
    "huge_fl4": _large(352, levels=4, window=3, modulation_norm=True),
}

TOY = FocalNetConfig((1, 2, 1, 1), 4, (2, 1, 3, 2), (3, 5, 3, 7))


def infer(shapes: Shapes) -> FocalNetConfig:
    """Read the config off the canonical names and shapes."""
    depths = shapes.counts("layers.{s}.blocks.{b}.norm1.weight")
    stages = range(len(depths))
    dims = [shapes.usual("layers.{s}.blocks.{b}.norm1.weight", s=s)[0] for s in stages]
    gates = [shapes.usual("layers.{s}.blocks.{b}.modulation.f.bias", s=s)[0] - 2 * dims[s] for s in stages]
    windows = [shapes.usual("layers.{s}.blocks.{b}.modulation.focal_layers.{k}.0.weight", s=s, k=0)[-1] for s in stages]
    return FocalNetConfig(depths, dims[0], tuple(n - 1 for n in gates), tuple(windows),
                          conv_embed=shapes["patch_embed.proj.weight"][-1] == 7,
                          layer_scale="layers.0.blocks.0.gamma_1" in shapes,
                          modulation_norm="layers.0.blocks.0.modulation.ln.weight" in shapes)


def tensors(config: FocalNetConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    first, between = (7, 3) if config.conv_embed else (4, 2)
    yield from layer("patch_embed.proj", (config.embed_dim, 3, first, first))
    yield from layer("patch_embed.norm", (config.embed_dim,))
    for s, (depth, dim) in enumerate(zip(config.depths, config.dims, strict=True)):
        for b in range(depth):
            yield from _block(config, s, f"layers.{s}.blocks.{b}")
        if s + 1 < len(config.depths):
            yield from layer(f"layers.{s}.downsample.proj", (2 * dim, dim, between, between))
            yield from layer(f"layers.{s}.downsample.norm", (2 * dim,))
    yield from layer("norm", config.dims[-1:])


def _block(config: FocalNetConfig, s: int, block: str) -> Iterator[TensorSpec]:
    dim, levels, window = config.dims[s], config.levels[s], config.windows[s]
    for n in (1, 2) if config.layer_scale else ():
        yield TensorSpec(f"{block}.gamma_{n}", (dim,))
    yield from layer(f"{block}.norm1", (dim,))
    yield from layer(f"{block}.modulation.f", (2 * dim + levels + 1, dim))  # query, context, and a gate for each level
    yield from layer(f"{block}.modulation.h", (dim, dim, 1, 1))
    yield from layer(f"{block}.modulation.proj", (dim, dim))
    for k in range(levels):  # depthwise, each window two wider than the last
        yield TensorSpec(f"{block}.modulation.focal_layers.{k}.0.weight", (dim, 1, window + 2 * k, window + 2 * k))
    if config.modulation_norm:
        yield from layer(f"{block}.modulation.ln", (dim,))
    yield from layer(f"{block}.norm2", (dim,))
    yield from layer(f"{block}.mlp.fc1", (4 * dim, dim))
    yield from layer(f"{block}.mlp.fc2", (dim, 4 * dim))
