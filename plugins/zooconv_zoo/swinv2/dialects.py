"""How each upstream spells a Swin Transformer V2. Left: its name; right: the canonical one."""

from __future__ import annotations

from zooconv import Dialect, around_zeros, cat, drop, keep, merge, rename, split, unfold_order

BLOCK = "layers.{s}.blocks.{b}"
STEM = keep("patch_embed.proj.{wb}", "patch_embed.norm.{wb}")
BLOCKS = keep(f"{BLOCK}.norm{{n}}.{{wb}}",
              f"{BLOCK}.attn.logit_scale",
              f"{BLOCK}.attn.{{p:q|v}}_bias",
              f"{BLOCK}.attn.cpb_mlp.{{i}}.{{wb}}",
              f"{BLOCK}.attn.qkv.weight",
              f"{BLOCK}.attn.proj.{{wb}}",
              f"{BLOCK}.mlp.fc{{n}}.{{wb}}")
MERGING = keep("layers.{s}.downsample.reduction.weight", "layers.{s}.downsample.norm.{wb}")

CANONICAL = [*STEM, *BLOCKS, *MERGING, *keep("norm.{wb}")]

WINDOW = "follows from the window, on which no weight depends"
BUFFERS = [drop(f"{BLOCK}.attn.relative_position_index", WINDOW),
           drop(f"{BLOCK}.attn.relative_coords_table", WINDOW),
           drop(f"{BLOCK}.attn_mask", "follows from the size of the image"),
           drop(f"{BLOCK}.attn.k_bias", "is always zero")]

# microsoft/Swin-Transformer models/swin_transformer_v2.py
OFFICIAL = Dialect("official", [*CANONICAL, *BUFFERS, drop("head.{wb}", "classifier")])

# huggingface/pytorch-image-models timm/models/swin_transformer_v2.py since version 0.9: merging stands at the start of
# the stage that it leads to
TIMM = Dialect("timm", [
    *STEM, *BLOCKS, *keep("norm.{wb}"), *BUFFERS,
    rename("layers.{s+1}.downsample.reduction.weight", "layers.{s}.downsample.reduction.weight"),
    rename("layers.{s+1}.downsample.norm.{wb}",        "layers.{s}.downsample.norm.{wb}"),
    drop("head.fc.{wb}", "classifier"),
])

# huggingface/transformers models/swinv2/modeling_swinv2.py: Swinv2Model bare, the classifier's under "swinv2."
_HF = "encoder.layers.{s}.blocks.{b}"
TRANSFORMERS = Dialect("transformers", [
    rename("embeddings.patch_embeddings.projection.{wb}",           "patch_embed.proj.{wb}"),
    rename("embeddings.norm.{wb}",                                  "patch_embed.norm.{wb}"),
    rename(f"{_HF}.layernorm_before.{{wb}}",                        f"{BLOCK}.norm1.{{wb}}"),
    rename(f"{_HF}.layernorm_after.{{wb}}",                         f"{BLOCK}.norm2.{{wb}}"),
    rename(f"{_HF}.attention.self.logit_scale",                     f"{BLOCK}.attn.logit_scale"),
    rename(f"{_HF}.attention.self.continuous_position_bias_mlp.{{i}}.{{wb}}", f"{BLOCK}.attn.cpb_mlp.{{i}}.{{wb}}"),
    merge([f"{_HF}.attention.self.{part}.weight" for part in ("query", "key", "value")],
          f"{BLOCK}.attn.qkv.weight", cat(axis=0)),
    rename(f"{_HF}.attention.self.query.bias",                      f"{BLOCK}.attn.q_bias"),
    rename(f"{_HF}.attention.self.value.bias",                      f"{BLOCK}.attn.v_bias"),
    rename(f"{_HF}.attention.output.dense.{{wb}}",                  f"{BLOCK}.attn.proj.{{wb}}"),
    rename(f"{_HF}.intermediate.dense.{{wb}}",                      f"{BLOCK}.mlp.fc1.{{wb}}"),
    rename(f"{_HF}.output.dense.{{wb}}",                            f"{BLOCK}.mlp.fc2.{{wb}}"),
    *[rename(f"encoder.{rule.sources[0]}", str(rule.targets[0])) for rule in MERGING],
    rename("layernorm.{wb}",                                        "norm.{wb}"),
    drop(f"{_HF}.attention.self.relative_position_index", WINDOW),
    drop(f"{_HF}.attention.self.relative_coords_table", WINDOW),
    drop("embeddings.mask_token", "of masked pretraining"),
    drop("classifier.{wb}", "classifier"),
])

# pytorch/vision torchvision/models/swin_transformer.py: one bias for queries, keys and values; that of the keys starts
# at zero, and is taken for zero whatever it is. A file where it is not is refused: nobody else could hold it.
_TV = "features.{2*s+1}.{b}"
TORCHVISION = Dialect("torchvision", [
    rename("features.0.0.{wb}",                                     "patch_embed.proj.{wb}"),
    rename("features.0.2.{wb}",                                     "patch_embed.norm.{wb}"),
    rename(f"{_TV}.norm{{n}}.{{wb}}",                               f"{BLOCK}.norm{{n}}.{{wb}}"),
    rename(f"{_TV}.attn.logit_scale",                               f"{BLOCK}.attn.logit_scale"),
    rename(f"{_TV}.attn.cpb_mlp.{{i}}.{{wb}}",                      f"{BLOCK}.attn.cpb_mlp.{{i}}.{{wb}}"),
    rename(f"{_TV}.attn.qkv.weight",                                f"{BLOCK}.attn.qkv.weight"),
    split(f"{_TV}.attn.qkv.bias", [f"{BLOCK}.attn.q_bias", f"{BLOCK}.attn.v_bias"], around_zeros(axis=0)),
    rename(f"{_TV}.attn.proj.{{wb}}",                               f"{BLOCK}.attn.proj.{{wb}}"),
    rename(f"{_TV}.mlp.0.{{wb}}",                                   f"{BLOCK}.mlp.fc1.{{wb}}"),
    rename(f"{_TV}.mlp.3.{{wb}}",                                   f"{BLOCK}.mlp.fc2.{{wb}}"),
    rename("features.{2*s+2}.reduction.weight",                     "layers.{s}.downsample.reduction.weight"),
    rename("features.{2*s+2}.norm.{wb}",                            "layers.{s}.downsample.norm.{wb}"),
    rename("norm.{wb}",                                             "norm.{wb}"),
    drop(f"{_TV}.attn.relative_position_index", WINDOW),
    drop(f"{_TV}.attn.relative_coords_table", WINDOW),
    drop("head.{wb}", "classifier"),
])

# open-mmlab/mmpretrain mmpretrain/models/backbones/swin_transformer_v2.py: merging at the start of the stage that it
# leads to, of patches from nn.Unfold; its norm comes after the reduction, so that only the reduction is reordered
_MM = "stages.{s}.blocks.{b}"
OPENMMLAB = Dialect("openmmlab", [
    rename("patch_embed.projection.{wb}",                           "patch_embed.proj.{wb}"),
    rename("patch_embed.norm.{wb}",                                 "patch_embed.norm.{wb}"),
    rename(f"{_MM}.norm{{n}}.{{wb}}",                               f"{BLOCK}.norm{{n}}.{{wb}}"),
    rename(f"{_MM}.attn.w_msa.logit_scale",                         f"{BLOCK}.attn.logit_scale"),
    rename(f"{_MM}.attn.w_msa.cpb_mlp.{{i}}.{{wb}}",                f"{BLOCK}.attn.cpb_mlp.{{i}}.{{wb}}"),
    rename(f"{_MM}.attn.w_msa.qkv.weight",                          f"{BLOCK}.attn.qkv.weight"),
    rename(f"{_MM}.attn.w_msa.{{p:q|v}}_bias",                      f"{BLOCK}.attn.{{p:q|v}}_bias"),
    rename(f"{_MM}.attn.w_msa.proj.{{wb}}",                         f"{BLOCK}.attn.proj.{{wb}}"),
    rename(f"{_MM}.ffn.layers.0.0.{{wb}}",                          f"{BLOCK}.mlp.fc1.{{wb}}"),
    rename(f"{_MM}.ffn.layers.1.{{wb}}",                            f"{BLOCK}.mlp.fc2.{{wb}}"),
    rename("stages.{s+1}.downsample.reduction.weight",              "layers.{s}.downsample.reduction.weight",
           unfold_order(axis=1)),
    rename("stages.{s+1}.downsample.norm.{wb}",                     "layers.{s}.downsample.norm.{wb}"),
    rename("norm3.{wb}",                                            "norm.{wb}"),
    drop("norm{i}.{wb}", "output norm of an earlier stage"),
    drop(f"{_MM}.attn.w_msa.relative_position_index", WINDOW),
    drop(f"{_MM}.attn.w_msa.relative_coords_table", WINDOW),
    drop("head.fc.{wb}", "classifier"),
])

DIALECTS = [OFFICIAL, TIMM, TRANSFORMERS, TORCHVISION, OPENMMLAB]
