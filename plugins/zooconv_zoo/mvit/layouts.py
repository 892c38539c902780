"""How Detectron2 holds an MViTv2. Read off its own class, which LazyConfigs build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate

from zooconv import Call, Change, Fresh, Layout, LazyBackbone, Requires
from zooconv_zoo.configs import partial_norm

from .dialects import CANONICAL
from .family import MViTConfig

D2 = "facebookresearch/detectron2 detectron2/modeling/backbone/mvit.py"


# as Detectron2's own configs of members pretrained on ImageNet-21k do; it is another function then
WITHOUT_CLASS = Change("class token left out: Detectron2's MViT has none",
                       becomes=lambda config: replace(config, cls_token=False))


def output_norms(config: MViTConfig) -> Iterable[Fresh]:
    """`scale{2..5}_norm` after each stage, at its start: weight 1, bias 0."""
    for scale, dim in enumerate(config.dims, 2):
        yield Fresh(f"scale{scale}_norm.weight", (dim,), 1.0)
        yield Fresh(f"scale{scale}_norm.bias", (dim,), 0.0)


def other_than_d2s(config: MViTConfig) -> str | None:
    """Why Detectron2's class has no place for a member, if it has none."""
    if config.widen_in_mlp:
        return ("it widens in the perceptron that ends a stage (timm's expand_attn=False); Detectron2's MViT widens in "
                "the attention that begins one")
    doubled = [tuple(first << s for s in range(4)) for first in (config.dims[0], config.heads[0])]
    if [config.dims, config.heads] != doubled:
        return "Detectron2's MViT has four stages, each with twice the channels and heads of the one before"
    for n, block in enumerate(config.blocks()):  # its class pools the keys of these blocks more, and sizes tables by it
        coarser = 2 * max(block.side // block.q_stride, block.side // (2 * block.kv_stride)) - 1
        if block.last and block.stage in (1, 2) and coarser != block.positions:
            return f"Detectron2's MViT has tables of {coarser} relative positions in block {n}, not {block.positions}"
    return None


NOTE = ("Detectron2's MViT is made to compute other features than the classifier: it attends in windows "
        "(adaptive_window_size), and pools keys twice as much in the last blocks of scale3 and scale4")


def lazily(config: MViTConfig, _: Mapping[str, object]) -> LazyBackbone:
    """projects/MViTv2/configs/mask_rcnn_mvitv2_t_3x.py."""
    return LazyBackbone(
        Call("detectron2.modeling:MViT",
             {"img_size": 4 * config.grid, "embed_dim": config.dims[0], "depth": sum(config.depths),
              "num_heads": config.heads[0], "last_block_indexes": tuple(n - 1 for n in accumulate(config.depths)),
              "adaptive_kv_stride": config.kv_stride, "residual_pooling": True, "norm_layer": partial_norm(1e-6),
              "out_features": ("scale2", "scale3", "scale4", "scale5")}),
        free={"drop_path_rate": 0.2}, beside={"model.backbone.in_features": "${.bottom_up.out_features}"})


LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/mvit, under backbone.",
           requires=Requires(note="keeps the final norm, and a class token where there is one, which Detectron2's MViT "
                                  "lacks; the layout fpn fits it exactly")),

    Layout(("fpn",), mount="backbone.bottom_up.", rules=CANONICAL, source=f"{D2}, under an FPN",
           omit={"norm.{wb}": "this layout has no final norm"}, fresh=output_norms, refuses=other_than_d2s,
           changes=[WITHOUT_CLASS],
           requires=Requires(lazy=lazily, note=NOTE)),
]
