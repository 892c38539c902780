"""MViTv2, image models (Li et al. 2021, arXiv:2112.01526).

Canonical names: facebookresearch/mvit, which Detectron2 keeps (detectron2/modeling/backbone/mvit.py). Blocks are
numbered through all stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from zooconv import Refusal, Shapes, TensorSpec
from zooconv_zoo.tables import layer


@dataclass(frozen=True)
class MViTConfig:
    """Blocks, channels and heads per stage.

    `grid` is the side in patches of the images that the tables of relative positions were made for: 56 for 224 pixels.
    `kv_stride` is what pools keys and values in the first stage; every later one halves it, down to 1. Between stages
    the channels change in the attention of a stage's first block, or (`widen_in_mlp`) in the perceptron of the last
    block before. With `cls_token`, a class token runs along with the patches.
    """

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    heads: tuple[int, ...]
    grid: int = 56
    kv_stride: int = 4
    widen_in_mlp: bool = False
    cls_token: bool = False

    @property
    def starts(self) -> tuple[int, ...]:
        """The first block of each stage."""
        return 0, *accumulate(self.depths[:-1])

    def blocks(self) -> Iterator[Block]:
        """Every block in turn."""
        inputs = self.dims[0]
        for s, (depth, dim, heads) in enumerate(zip(self.depths, self.dims, self.heads, strict=True)):
            for b in range(depth):
                last = b == depth - 1
                outputs = self.dims[s + 1] if last and self.widen_in_mlp and s + 1 < len(self.dims) else dim
                side, stride = (self.grid >> s - 1, 2) if s and b == 0 else (self.grid >> s, 1)
                yield Block(s, last, inputs, dim, outputs, heads, side, stride, max(self.kv_stride >> s, 1))
                inputs = outputs


@dataclass(frozen=True)
class Block:
    """One block: whether it ends its stage; channels that come in, that attend and that go out; the side of the map
    that comes in, in patches; the strides at which queries, and keys and values, are pooled.
    """

    stage: int
    last: bool
    inputs: int
    dim: int
    outputs: int
    heads: int
    side: int
    q_stride: int
    kv_stride: int

    @property
    def positions(self) -> int:
        """The length of its tables: every distance on the finer one of the pooled maps."""
        return 2 * max(self.side // self.q_stride, self.side // self.kv_stride) - 1


def _v2(depths: tuple[int, ...], dim: int, heads: int, *, widen_in_mlp: bool = False,
        cls_token: bool = False) -> MViTConfig:
    """Each stage has twice the channels and heads of the one before."""
    return MViTConfig(depths, tuple(dim << s for s in range(4)), tuple(heads << s for s in range(4)),
                      widen_in_mlp=widen_in_mlp, cls_token=cls_token)


# Table 1 of the paper, configs/test/*.yaml of facebookresearch/mvit, model_cfgs of timm/models/mvitv2.py. Those trained
# on ImageNet-21k have a class token (_cls); large without one widens in its perceptrons (DIM_MUL_IN_ATT: False).
VARIANTS = {
    "tiny": _v2((1, 2, 5, 2), 96, 1),
    "small": _v2((1, 2, 11, 2), 96, 1),
    "base": _v2((2, 3, 16, 3), 96, 1),
    "large": _v2((2, 6, 36, 4), 144, 2, widen_in_mlp=True),
    "small_cls": _v2((1, 2, 11, 2), 96, 1, cls_token=True),
    "base_cls": _v2((2, 3, 16, 3), 96, 1, cls_token=True),
    "large_cls": _v2((2, 6, 36, 4), 144, 2, cls_token=True),
    "huge_cls": _v2((4, 8, 60, 8), 192, 3, cls_token=True),
}

TOY = MViTConfig((1, 2, 3, 1), (4, 8, 16, 32), (1, 2, 4, 8), grid=16)


def infer(shapes: Shapes) -> MViTConfig:
    """Read the config off canonical names and shapes: a block with `proj` is one that changes the channels."""
    count = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    changes = [n for n in range(count) if f"blocks.{n}.proj.weight" in shapes]
    dims = (shapes["patch_embed.proj.weight"][0], *(shapes[f"blocks.{n}.proj.weight"][0] for n in changes))
    in_mlp = bool(changes) and shapes[f"blocks.{changes[0]}.norm2.weight"][0] == dims[0]
    starts = (0, *(n + in_mlp for n in changes))
    heads = tuple(dim // shapes[f"blocks.{n}.attn.pool_q.weight"][0] for n, dim in zip(starts, dims, strict=True))
    return MViTConfig(tuple(b - a for a, b in pairwise((*starts, count))), dims, heads, _side(shapes, 0),
                      _kv_stride(shapes, starts), in_mlp, "cls_token" in shapes)


def _side(shapes: Shapes, n: int) -> int:
    """The side of the map that a block's tables, (2 side - 1, channels of a head), were made for."""
    return (shapes[f"blocks.{n}.attn.rel_pos_h"][0] + 1) // 2


def _kv_stride(shapes: Shapes, starts: tuple[int, ...]) -> int:
    """Its power of two. The first stage whose keys are not pooled shows: the map of its first block is not halved.

    A stride of 1 cannot be told from one of 2; no known member has either.
    """
    full = (s for s, n in enumerate(starts) if s and _side(shapes, n) == _side(shapes, 0) >> s - 1)
    return 1 << next(full, len(starts))


def tensors(config: MViTConfig) -> Iterator[TensorSpec]:
    """Every tensor of the backbone, in the order of the reference module; the classifier is not part of it."""
    if config.cls_token:
        yield TensorSpec("cls_token", (1, 1, config.dims[0]))
    yield from layer("patch_embed.proj", (config.dims[0], 3, 7, 7))
    for n, block in enumerate(config.blocks()):
        head, dim = block.dim // block.heads, block.dim
        yield from layer(f"blocks.{n}.norm1", (block.inputs,))
        yield TensorSpec(f"blocks.{n}.attn.rel_pos_h", (block.positions, head))
        yield TensorSpec(f"blocks.{n}.attn.rel_pos_w", (block.positions, head))
        yield from layer(f"blocks.{n}.attn.qkv", (3 * dim, block.inputs))
        yield from layer(f"blocks.{n}.attn.proj", (dim, dim))
        for part in "qkv":  # pooled by a depthwise 3x3 convolution, which all heads share
            yield TensorSpec(f"blocks.{n}.attn.pool_{part}.weight", (head, 1, 3, 3))
            yield from layer(f"blocks.{n}.attn.norm_{part}", (head,))
        yield from layer(f"blocks.{n}.norm2", (dim,))
        yield from layer(f"blocks.{n}.mlp.fc1", (4 * dim, dim))
        yield from layer(f"blocks.{n}.mlp.fc2", (block.outputs, 4 * dim))
        if block.inputs != block.outputs:
            yield from layer(f"blocks.{n}.proj", (block.outputs, block.inputs))
    yield from layer("norm", (config.dims[-1],))


def image(config: MViTConfig) -> tuple[int, int]:
    """What the tables were made for: at another size, the classification model looks up wrong places, or none."""
    return 4 * config.grid, 4 * config.grid


REFUSALS = (
    Refusal("a video model: its relative positions have a third table, for time; these layouts hold image models",
            has="blocks.{n}.attn.rel_pos_t", anywhere=True),
    Refusal("absolute positions (MViTv1, or USE_ABS_POS); these layouts hold MViTv2, whose positions are relative",
            has="pos_embed"),
)
