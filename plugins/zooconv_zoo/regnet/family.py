"""RegNet X and Y (Radosavovic et al. 2020, arXiv:2003.13678).

Canonical names: facebookresearch/detectron2 detectron2/modeling/backbone/regnet.py, which are pycls' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zooconv import Refusal, Shapes, TensorSpec
from zooconv_zoo.tables import layer


@dataclass(frozen=True)
class RegNetConfig:
    """Blocks, channels, and channels of a group per stage, as the arguments of Detectron2's AnyNet are called.

    `se_ratio` is what squeeze-excitation leaves of a block's input channels; 0 where there is none (X).
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    group_widths: tuple[int, ...]
    stem_width: int = 32
    se_ratio: float = 0.0


def _x(depths: tuple[int, ...], widths: tuple[int, ...], group: int) -> RegNetConfig:
    """A RegNetX: one group width, but no group wider than its stage (adjust_block_compatibility in regnet.py)."""
    return RegNetConfig(depths, widths, tuple(min(group, width) for width in widths))


def _y(depths: tuple[int, ...], widths: tuple[int, ...], group: int) -> RegNetConfig:
    """A RegNetY: the same with squeeze-excitation."""
    return RegNetConfig(depths, widths, _x(depths, widths, group).group_widths, se_ratio=0.25)


# Names: torchvision's, by the billions of multiplications; timm's are the same in hundreds of millions (y_4gf is
# regnety_040). Numbers: what timm's generate_regnet and adjust_widths_groups_comp make of its model_cfgs. torchvision
# rounds widths to multiples of the group width in another way (_make_divisible), which tells in three members (_tv).
VARIANTS = {
    "x_200mf": _x((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "x_400mf": _x((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "x_400mf_tv": _x((1, 2, 7, 12), (32, 64, 160, 400), 16),
    "x_600mf": _x((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "x_800mf": _x((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "x_1_6gf": _x((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "x_3_2gf": _x((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "x_4gf": _x((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "x_6_4gf": _x((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "x_8gf": _x((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "x_12gf": _x((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "x_16gf": _x((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "x_32gf": _x((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "y_200mf": _y((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "y_400mf": _y((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "y_600mf": _y((1, 3, 7, 4), (48, 112, 256, 608), 16),
    "y_800mf": _y((1, 3, 8, 2), (64, 128, 320, 768), 16),
    "y_800mf_tv": _y((1, 3, 8, 2), (64, 144, 320, 784), 16),
    "y_1_6gf": _y((2, 6, 17, 2), (48, 120, 336, 888), 24),
    "y_3_2gf": _y((2, 5, 13, 1), (72, 216, 576, 1512), 24),
    "y_4gf": _y((2, 6, 12, 2), (128, 192, 512, 1088), 64),
    "y_6_4gf": _y((2, 7, 14, 2), (144, 288, 576, 1296), 72),
    "y_8gf": _y((2, 4, 10, 1), (168, 448, 896, 2016), 56),
    "y_8gf_tv": _y((2, 4, 10, 1), (224, 448, 896, 2016), 56),
    "y_12gf": _y((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "y_16gf": _y((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
    "y_32gf": _y((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
    "y_64gf": _y((2, 5, 12, 1), (328, 984, 1968, 4920), 328),
    "y_128gf": _y((2, 7, 17, 1), (528, 1056, 2904, 7392), 264),
    "y_256gf": _y((2, 7, 17, 1), (746, 1492, 4103, 10444), 373),
}

TOY = RegNetConfig((1, 2, 1, 1), (8, 16, 32, 48), (8, 16, 16, 16), stem_width=12, se_ratio=0.25)
TOY_X = RegNetConfig((1, 2, 1, 1), (8, 16, 32, 48), (8, 16, 16, 16), stem_width=12)


def infer(shapes: Shapes) -> RegNetConfig:
    """Read the config off the 3x3 convolutions, (width, group width, 3, 3), and off the first block's squeeze."""
    depths = shapes.counts("s{s+1}.b{b+1}.f.b.weight")
    if not depths:  # a stem alone, as many networks have
        raise KeyError("s1.b1.f.b.weight")
    middle = [shapes.usual("s{s}.b{b}.f.b.weight", s=s) for s in range(1, len(depths) + 1)]
    stem = shapes["stem.conv.weight"][0]
    squeezed = shapes.get("s1.b1.f.se.f_ex.0.weight", (0,))[0]
    return RegNetConfig(depths, tuple(shape[0] for shape in middle), tuple(shape[1] for shape in middle), stem,
                        squeezed / stem)


def tensors(config: RegNetConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    yield from _normed("stem.conv", "stem.bn", (config.stem_width, 3, 3, 3))
    inputs = config.stem_width
    for s, (depth, width, group) in enumerate(zip(config.depths, config.widths, config.group_widths, strict=True), 1):
        for b in range(1, depth + 1):
            block, squeezed = f"s{s}.b{b}", round(config.se_ratio * inputs)
            if b == 1:  # it halves the resolution, and so must its shortcut
                yield from _normed(f"{block}.proj", f"{block}.bn", (width, inputs, 1, 1))
            yield from _normed(f"{block}.f.a", f"{block}.f.a_bn", (width, inputs, 1, 1))
            yield from _normed(f"{block}.f.b", f"{block}.f.b_bn", (width, group, 3, 3))
            if squeezed:
                yield from layer(f"{block}.f.se.f_ex.0", (squeezed, width, 1, 1))
                yield from layer(f"{block}.f.se.f_ex.2", (width, squeezed, 1, 1))
            yield from _normed(f"{block}.f.c", f"{block}.f.c_bn", (width, width, 1, 1))
            inputs = width


def _normed(conv: str, norm: str, weight: tuple[int, ...]) -> Iterator[TensorSpec]:
    """A convolution without a bias, and its batch norm."""
    yield TensorSpec(f"{conv}.weight", weight)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield TensorSpec(f"{norm}.{part}", weight[:1])


REFUSALS = (
    Refusal("blocks that normalise before they convolve (regnetv); a Detectron2 RegNet normalises after",
            has="s{s}.b{b}.norm1.weight", anywhere=True),
    Refusal("inverted bottlenecks without a shortcut between stages (regnetz); a Detectron2 RegNet projects it",
            has="s{s}.b{b}.conv3.conv.weight", lacks="s{s}.b{b}.downsample.conv.weight"),
    Refusal("norms without running statistics (_sgn: group norms); these layouts hold a RegNet with batch norms",
            has="s{s}.b{b}.conv3.bn.weight", lacks="s{s}.b{b}.conv3.bn.running_mean"),
)
