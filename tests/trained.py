"""Checkpoints as Detectron2 leaves them after training: a whole model, optimizer, scheduler, iteration; random weights.

fvcore's own Checkpointer writes them, which Detectron2's only reads with more care. An optimizer's step moves every
floating-point tensor, heads and norms as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

# What stands beside a backbone in a Mask2Former, a Faster R-CNN with FPN, and a ViTDet.
HEADS = {"sem_seg_head.pixel_decoder.input_proj.0.0.weight": (8, 4, 1, 1),
         "sem_seg_head.predictor.transformer_norm.weight": (8,),
         "proposal_generator.rpn_head.conv.weight": (4, 4, 3, 3),
         "roi_heads.box_predictor.cls_score.bias": (81,),
         "criterion.empty_weight": (81,)}


def module_of(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A module whose state dict has these names: floating-point tensors as parameters, others as buffers."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        at = root
        for part in path:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at = at._modules[part]
        if tensor.is_floating_point():
            at.register_parameter(last, nn.Parameter(tensor.clone()))
        else:
            at.register_buffer(last, tensor.clone())
    return root


def train(path: Path, tensors: Mapping[str, torch.Tensor], *, heads: Mapping[str, tuple[int, ...]] = HEADS,
          steps: int = 1, still: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Write `path`: these tensors and heads, moved by steps of AdamW, but for those whose names end with `still`.

    The state dict that was written.
    """
    from fvcore.common.checkpoint import Checkpointer

    torch.manual_seed(0)
    whole = {**tensors, **{name: torch.randn(shape) for name, shape in heads.items()}}
    model = module_of(whole)
    moving = [p for name, p in model.named_parameters() if not (still and name.endswith(still))]
    optimizer = torch.optim.AdamW(moving, lr=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [60000, 80000])
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p * torch.randn_like(p)).sum() for p in moving).backward()
        optimizer.step()
        scheduler.step()
    writer: Any = Checkpointer(model, str(path.parent), optimizer=optimizer, scheduler=scheduler)
    writer.save(path.stem, iteration=89999)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
