"""The package that an MViTv2 is held against.

The official code, facebookresearch/mvit, is no package that pip installs, so no test runs it: the canonical names are
its names, read off it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zooconv import Upstream, import_package

from .backbone import STAGES, heard
from .family import MViTConfig

Shapes = Mapping[str, tuple[int, ...]]


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/mvitv2.py"""

    package = dialect = "timm"

    def spelling(self, config: MViTConfig) -> str:
        return "timm-widen-in-mlp" if config.widen_in_mlp else "timm"

    def build(self, config: MViTConfig, shapes: Shapes) -> nn.Module:
        if config.cls_token:
            raise ValueError("it adds pooled queries to the class token, too, which the authors' code does not "
                             "(facebookresearch/mvit 8ee2015): its features are others")
        mvitv2 = import_package("timm").models.mvitv2
        module: nn.Module = mvitv2.MultiScaleVit(mvitv2.MultiScaleVitCfg(
            depths=config.depths, embed_dim=config.dims, num_heads=config.heads, expand_attn=not config.widen_in_mlp,
            use_cls_token=config.cls_token, stride_kv_adaptive=(config.kv_stride,) * 2,
        ), img_size=4 * config.grid, num_classes=0)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        blocks = [block for stage in module.stages for block in stage.blocks]
        projections = [block.shortcut_proj_attn or block.shortcut_proj_mlp for block in blocks]
        with heard(b.attn.norm_k for b in blocks) as keys, heard(filter(None, projections)) as shortcuts:
            last, found = module.forward_intermediates(images)
        return {**dict(zip(STAGES, found, strict=True)), "pooled": module.forward_head(last, pre_logits=True),
                "keys": torch.cat(keys), "shortcuts": torch.cat(shortcuts)}
