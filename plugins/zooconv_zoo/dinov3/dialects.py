"""How each upstream spells a DINOv3 ViT. Left: its name; right: the canonical one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zooconv import Dialect, Files, around_zeros, cat, drop, keep, merge, rename, split

from .family import TOY_GATED

CANONICAL = [
    *keep("storage_tokens",
          "cls_token",
          "patch_embed.proj.{wb}",
          "blocks.{b}.norm{n}.{wb}",
          "blocks.{b}.attn.{p:q|v}_bias",
          "blocks.{b}.attn.qkv.weight",
          "blocks.{b}.attn.proj.{wb}",
          "blocks.{b}.ls{n}.gamma",
          "blocks.{b}.mlp.{p:fc1|fc2|w1|w2|w3}.{wb}",
          "norm.{wb}"),
]

# facebookresearch/dinov3 dinov3/models/vision_transformer.py. `bias_mask` is 1, 0, 1 (dinov3/layers/attention.py,
# LinearKMaskedBias), and no gradient reaches what it masks, so that it is the zeros that it was made with.
OFFICIAL = Dialect("official", [
    *keep("storage_tokens",
          "cls_token",
          "patch_embed.proj.{wb}",
          "blocks.{b}.norm{n}.{wb}"),
    split("blocks.{b}.attn.qkv.bias", ["blocks.{b}.attn.q_bias", "blocks.{b}.attn.v_bias"], around_zeros(axis=0)),
    *keep("blocks.{b}.attn.qkv.weight",
          "blocks.{b}.attn.proj.{wb}",
          "blocks.{b}.ls{n}.gamma",
          "blocks.{b}.mlp.{p:fc1|fc2|w1|w2|w3}.{wb}",
          "norm.{wb}"),
    drop("rope_embed.periods", "follow from the config: 100^(4i/C) for i < C/4, where a head has C channels"),
    drop("blocks.{b}.attn.qkv.bias_mask", "says that keys have no bias"),
    drop("mask_token", "of masked pretraining"),
    drop("local_cls_norm.{wb}", "of local crops, in training alone"),
], files=Files(key=""))

# A gated perceptron is w3(silu(w1(x)) * w2(x)), a plain one fc2(gelu(fc1(x))). Others use the names of the one for the
# other, each in a way of its own, so that they have a table for either.
BLOCK = "blocks.{b}"
PLAIN, GATED = ("fc1", "fc2"), ("w1", "w2", "w3")


def timm(name: str, theirs: Sequence[str], ours: Sequence[str], toy: Any = None) -> Dialect:
    """huggingface/pytorch-image-models timm/models/eva.py with rope_type="dinov3": EVA's names."""
    return Dialect(name, [
        rename("reg_token",                       "storage_tokens"),
        rename("cls_token",                       "cls_token"),
        rename("patch_embed.proj.{wb}",           "patch_embed.proj.{wb}"),
        rename(f"{BLOCK}.norm{{n}}.{{wb}}",       f"{BLOCK}.norm{{n}}.{{wb}}"),
        rename(f"{BLOCK}.attn.{{p:q|v}}_bias",    f"{BLOCK}.attn.{{p:q|v}}_bias"),
        rename(f"{BLOCK}.attn.qkv.weight",        f"{BLOCK}.attn.qkv.weight"),
        rename(f"{BLOCK}.attn.proj.{{wb}}",       f"{BLOCK}.attn.proj.{{wb}}"),
        rename(f"{BLOCK}.gamma_{{n}}",            f"{BLOCK}.ls{{n}}.gamma"),
        *(rename(f"{BLOCK}.mlp.{a}.{{wb}}", f"{BLOCK}.mlp.{b}.{{wb}}") for a, b in zip(theirs, ours, strict=True)),
        rename("norm.{wb}",                       "norm.{wb}"),
        drop("head.{wb}", "classifier"),
    ], toy=toy)


def transformers(name: str, layer: str, theirs: Sequence[str], ours: Sequence[str], toy: Any = None) -> Dialect:
    """huggingface/transformers models/dinov3_vit/modeling_dinov3_vit.py: DINOv3ViTModel bare."""
    return Dialect(name, [
        rename("embeddings.register_tokens",      "storage_tokens"),
        rename("embeddings.cls_token",            "cls_token"),
        rename("embeddings.patch_embeddings.{wb}", "patch_embed.proj.{wb}"),
        rename(f"{layer}.norm{{n}}.{{wb}}",       f"{BLOCK}.norm{{n}}.{{wb}}"),
        rename(f"{layer}.attention.{{p:q|v}}_proj.bias", f"{BLOCK}.attn.{{p:q|v}}_bias"),
        merge([f"{layer}.attention.{p}_proj.weight" for p in "qkv"], f"{BLOCK}.attn.qkv.weight", cat(axis=0)),
        rename(f"{layer}.attention.o_proj.{{wb}}", f"{BLOCK}.attn.proj.{{wb}}"),
        rename(f"{layer}.layer_scale{{n}}.lambda1", f"{BLOCK}.ls{{n}}.gamma"),
        *(rename(f"{layer}.mlp.{a}_proj.{{wb}}", f"{BLOCK}.mlp.{b}.{{wb}}") for a, b in zip(theirs, ours, strict=True)),
        rename("norm.{wb}",                       "norm.{wb}"),
        drop("embeddings.mask_token", "of masked pretraining"),
    ], toy=toy)


DIALECTS = [
    OFFICIAL,
    timm("timm", ("fc1", "fc2"), PLAIN),
    timm("timm-gated", ("fc1_g", "fc1_x", "fc2"), GATED, TOY_GATED),
    # as files on the hub have it
    transformers("transformers", "layer.{b}", ("up", "down"), PLAIN),
    transformers("transformers-gated", "layer.{b}", ("gate", "up", "down"), GATED, TOY_GATED),
    # the same in memory since version 5, as `torch.save(model.state_dict())` leaves it
    transformers("transformers-5", "model.layer.{b}", ("up", "down"), PLAIN),
    transformers("transformers-5-gated", "model.layer.{b}", ("gate", "up", "down"), GATED, TOY_GATED),
]
