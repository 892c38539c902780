"""The package that an EVA-02 is held against, as its authors build it.

The official code needs xformers, apex and a GPU. transformers has no EVA-02.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zooconv import Upstream, import_package

from .family import REFERENCE, EVA02Config

Shapes = Mapping[str, tuple[int, ...]]


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/eva.py"""

    package = dialect = "timm"
    absent = {"tokens": "this member normalises the mean of its patches (fc_norm), not each token",
              "pooled": "this member normalises each token (norm), not the mean of its patches"}

    def spelling(self, config: EVA02Config) -> str:
        return "timm" if config.sub_norm else "timm-fused"

    def build(self, config: EVA02Config, shapes: Shapes) -> nn.Module:
        if not config.class_token:
            raise ValueError("without a class token, its pos_embed has no row for one")
        module: nn.Module = import_package("timm").models.eva.Eva(
            img_size=config.grid * config.patch, patch_size=config.patch, embed_dim=config.embed_dim,
            depth=config.depth, num_heads=config.heads, qkv_fused=not config.sub_norm, swiglu_mlp=True,
            mlp_ratio=(config.hidden + 0.5) / config.embed_dim,  # is multiplied again, and rounded down
            scale_mlp=config.sub_norm, scale_attn_inner=config.attn_norm, use_rot_pos_emb=True,
            ref_feat_shape=REFERENCE, use_fc_norm="fc_norm.weight" in shapes, num_classes=0)
        return module

    def follow(self, module: Any, config: EVA02Config) -> None:
        """Without a class token: the tables of angles then begin with the first token."""
        module.cls_token = None
        module.pos_embed = nn.Parameter(module.pos_embed[:, config.pos_prefix:])
        for part in module.modules():
            if hasattr(part, "num_prefix_tokens"):
                part.num_prefix_tokens = 0

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        last, found = module.forward_intermediates(images)
        blocks = {f"block{n}": feature for n, feature in enumerate(found, 1)}
        mean = isinstance(module.norm, nn.Identity)
        return blocks | ({"pooled": module.forward_head(last)} if mean else {"tokens": last})
