"""How each upstream spells a Swin Transformer. Left: its name; right: the canonical one."""

from __future__ import annotations

from zooconv import Dialect, Files, cat, drop, grid, keep, merge, rename, square, unfold_order

from .family import INDEX, POSITIONS

CANONICAL = [
    *keep("patch_embed.proj.{wb}",
          "patch_embed.norm.{wb}",
          "layers.{s}.blocks.{b}.norm{n}.{wb}",
          "layers.{s}.blocks.{b}.attn.relative_position_bias_table",
          "layers.{s}.blocks.{b}.attn.qkv.{wb}",
          "layers.{s}.blocks.{b}.attn.proj.{wb}",
          "layers.{s}.blocks.{b}.mlp.fc{n}.{wb}",
          "layers.{s}.downsample.reduction.weight",
          "layers.{s}.downsample.norm.{wb}",
          "norm.{wb}",
          INDEX),
]

WITHOUT_INDEX = Files("safetensors", "", derived=False)  # since versions 0.9 and 5, it is no part of the state dict

# microsoft/Swin-Transformer models/swin_transformer.py; timm's own names before version 0.9. SimMIM's files have a
# mask token besides, under "encoder."
OFFICIAL = Dialect("official", [
    *CANONICAL,
    rename(POSITIONS, POSITIONS, grid),
    drop("layers.{s}.blocks.{b}.attn_mask", "follows from the size of the image"),
    drop("head.{wb}", "classifier"),
    drop("mask_token", "of masked pretraining"),
])

# huggingface/pytorch-image-models timm/models/swin_transformer.py since version 0.9: merging stands at the start of the
# stage that it leads to
TIMM = Dialect("timm", [
    *keep("patch_embed.proj.{wb}",
          "patch_embed.norm.{wb}",
          "layers.{s}.blocks.{b}.norm{n}.{wb}",
          "layers.{s}.blocks.{b}.attn.relative_position_bias_table",
          "layers.{s}.blocks.{b}.attn.qkv.{wb}",
          "layers.{s}.blocks.{b}.attn.proj.{wb}",
          "layers.{s}.blocks.{b}.mlp.fc{n}.{wb}",
          "norm.{wb}",
          INDEX),
    rename("layers.{s+1}.downsample.reduction.weight", "layers.{s}.downsample.reduction.weight"),
    rename("layers.{s+1}.downsample.norm.{wb}",        "layers.{s}.downsample.norm.{wb}"),
    drop("layers.{s}.blocks.{b}.attn_mask", "follows from the size of the image"),
    drop("head.fc.{wb}", "classifier"),
], files=WITHOUT_INDEX)

# huggingface/transformers models/swin/modeling_swin.py, as files on the hub have it: SwinModel bare,
# SwinForImageClassification under "swin."
_HF = "encoder.layers.{s}.blocks.{b}"
TRANSFORMERS = Dialect("transformers", [
    rename("embeddings.patch_embeddings.projection.{wb}",                 "patch_embed.proj.{wb}"),
    rename("embeddings.norm.{wb}",                                        "patch_embed.norm.{wb}"),
    rename("embeddings.position_embeddings",                              POSITIONS, grid),
    rename(f"{_HF}.layernorm_before.{{wb}}",                              "layers.{s}.blocks.{b}.norm1.{wb}"),
    rename(f"{_HF}.layernorm_after.{{wb}}",                               "layers.{s}.blocks.{b}.norm2.{wb}"),
    rename(f"{_HF}.attention.self.relative_position_bias_table",
           "layers.{s}.blocks.{b}.attn.relative_position_bias_table"),
    rename(f"{_HF}.attention.self.relative_position_index",               INDEX),
    merge([f"{_HF}.attention.self.{part}.{{wb}}" for part in ("query", "key", "value")],
          "layers.{s}.blocks.{b}.attn.qkv.{wb}", cat(axis=0)),
    rename(f"{_HF}.attention.output.dense.{{wb}}",                        "layers.{s}.blocks.{b}.attn.proj.{wb}"),
    rename(f"{_HF}.intermediate.dense.{{wb}}",                            "layers.{s}.blocks.{b}.mlp.fc1.{wb}"),
    rename(f"{_HF}.output.dense.{{wb}}",                                  "layers.{s}.blocks.{b}.mlp.fc2.{wb}"),
    rename("encoder.layers.{s}.downsample.reduction.weight",              "layers.{s}.downsample.reduction.weight"),
    rename("encoder.layers.{s}.downsample.norm.{wb}",                     "layers.{s}.downsample.norm.{wb}"),
    rename("layernorm.{wb}",                                              "norm.{wb}"),
    drop("classifier.{wb}", "classifier"),
    drop("embeddings.mask_token", "of masked pretraining"),
])

# the same in memory since version 5, as `torch.save(model.state_dict())` leaves it
TRANSFORMERS_5 = Dialect("transformers-5", [
    rename("embeddings.patch_embeddings.projection.{wb}",                 "patch_embed.proj.{wb}"),
    rename("embeddings.norm.{wb}",                                        "patch_embed.norm.{wb}"),
    rename("embeddings.position_embeddings",                              POSITIONS, grid),
    rename(f"{_HF}.layernorm_before.{{wb}}",                              "layers.{s}.blocks.{b}.norm1.{wb}"),
    rename(f"{_HF}.layernorm_after.{{wb}}",                               "layers.{s}.blocks.{b}.norm2.{wb}"),
    rename(f"{_HF}.attention.relative_position_bias.relative_position_bias_table",
           "layers.{s}.blocks.{b}.attn.relative_position_bias_table"),
    rename(f"{_HF}.attention.relative_position_bias.relative_position_index", INDEX),
    merge([f"{_HF}.attention.{part}_proj.{{wb}}" for part in "qkv"],
          "layers.{s}.blocks.{b}.attn.qkv.{wb}", cat(axis=0)),
    rename(f"{_HF}.attention.o_proj.{{wb}}",                              "layers.{s}.blocks.{b}.attn.proj.{wb}"),
    rename(f"{_HF}.mlp.fc{{n}}.{{wb}}",                                   "layers.{s}.blocks.{b}.mlp.fc{n}.{wb}"),
    rename("encoder.layers.{s}.downsample.reduction.weight",              "layers.{s}.downsample.reduction.weight"),
    rename("encoder.layers.{s}.downsample.norm.{wb}",                     "layers.{s}.downsample.norm.{wb}"),
    rename("layernorm.{wb}",                                              "norm.{wb}"),
    drop("classifier.{wb}", "classifier"),
    drop("embeddings.mask_token", "of masked pretraining"),
], files=WITHOUT_INDEX)

# pytorch/vision torchvision/models/swin_transformer.py: stages at odd indices of `features`, merging at even ones
TORCHVISION = Dialect("torchvision", [
    rename("features.0.0.{wb}",                                           "patch_embed.proj.{wb}"),
    rename("features.0.2.{wb}",                                           "patch_embed.norm.{wb}"),
    rename("features.{2*s+1}.{b}.norm{n}.{wb}",                           "layers.{s}.blocks.{b}.norm{n}.{wb}"),
    rename("features.{2*s+1}.{b}.attn.relative_position_bias_table",
           "layers.{s}.blocks.{b}.attn.relative_position_bias_table"),
    rename("features.{2*s+1}.{b}.attn.relative_position_index",           INDEX, square),
    rename("features.{2*s+1}.{b}.attn.qkv.{wb}",                          "layers.{s}.blocks.{b}.attn.qkv.{wb}"),
    rename("features.{2*s+1}.{b}.attn.proj.{wb}",                         "layers.{s}.blocks.{b}.attn.proj.{wb}"),
    rename("features.{2*s+1}.{b}.mlp.0.{wb}",                             "layers.{s}.blocks.{b}.mlp.fc1.{wb}"),
    rename("features.{2*s+1}.{b}.mlp.3.{wb}",                             "layers.{s}.blocks.{b}.mlp.fc2.{wb}"),
    rename("features.{2*s+2}.reduction.weight",                           "layers.{s}.downsample.reduction.weight"),
    rename("features.{2*s+2}.norm.{wb}",                                  "layers.{s}.downsample.norm.{wb}"),
    rename("norm.{wb}",                                                   "norm.{wb}"),
    drop("head.{wb}", "classifier"),
])

# open-mmlab/mmpretrain and mmdetection, models/backbones/swin.py, usually under "backbone."; merging takes patches
# from nn.Unfold, whose channels stand in another order: with names alone it loads, and is wrong from stage 2 on
OPENMMLAB = Dialect("openmmlab", [
    rename("patch_embed.projection.{wb}",                                 "patch_embed.proj.{wb}"),
    rename("patch_embed.norm.{wb}",                                       "patch_embed.norm.{wb}"),
    rename(POSITIONS,                                                     POSITIONS, grid),
    rename("stages.{s}.blocks.{b}.norm{n}.{wb}",                          "layers.{s}.blocks.{b}.norm{n}.{wb}"),
    rename("stages.{s}.blocks.{b}.attn.w_msa.relative_position_bias_table",
           "layers.{s}.blocks.{b}.attn.relative_position_bias_table"),
    rename("stages.{s}.blocks.{b}.attn.w_msa.relative_position_index",    INDEX),
    rename("stages.{s}.blocks.{b}.attn.w_msa.qkv.{wb}",                   "layers.{s}.blocks.{b}.attn.qkv.{wb}"),
    rename("stages.{s}.blocks.{b}.attn.w_msa.proj.{wb}",                  "layers.{s}.blocks.{b}.attn.proj.{wb}"),
    rename("stages.{s}.blocks.{b}.ffn.layers.0.0.{wb}",                   "layers.{s}.blocks.{b}.mlp.fc1.{wb}"),
    rename("stages.{s}.blocks.{b}.ffn.layers.1.{wb}",                     "layers.{s}.blocks.{b}.mlp.fc2.{wb}"),
    rename("stages.{s}.downsample.reduction.weight",                      "layers.{s}.downsample.reduction.weight",
           unfold_order(axis=1)),
    rename("stages.{s}.downsample.norm.{wb}",                             "layers.{s}.downsample.norm.{wb}",
           unfold_order(axis=0)),
    rename("norm3.{wb}",                                                  "norm.{wb}"),
    drop("norm{i}.{wb}", "output norm of an earlier stage"),
    drop("head.fc.{wb}", "classifier"),
])

DIALECTS = [OFFICIAL, TIMM, TRANSFORMERS, TRANSFORMERS_5, TORCHVISION, OPENMMLAB]
