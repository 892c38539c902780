"""How each upstream spells a FocalNet. Left: its name; right: the canonical one.

Each table begins with `h`, which no other architecture has: a Swin's names are so alike that the rest would fit it.
"""

from __future__ import annotations

from zooconv import Dialect, drop, keep, rename, reshape

CANONICAL = [
    *keep("layers.{s}.blocks.{b}.modulation.h.{wb}",
          "patch_embed.{p:proj|norm}.{wb}",
          "layers.{s}.downsample.{p:proj|norm}.{wb}",
          "layers.{s}.blocks.{b}.norm{n}.{wb}",
          "layers.{s}.blocks.{b}.gamma_{n}",
          "layers.{s}.blocks.{b}.modulation.{p:f|proj|ln}.{wb}",
          "layers.{s}.blocks.{b}.modulation.focal_layers.{k}.0.weight",
          "layers.{s}.blocks.{b}.mlp.fc{n}.{wb}",
          "norm.{wb}"),
]

# microsoft/FocalNet classification/focalnet.py
OFFICIAL = Dialect("official", [
    *CANONICAL,
    drop("head.{wb}", "classifier"),
])

# huggingface/pytorch-image-models timm/models/focalnet.py: pointwise layers are 1x1 convolutions; a stage begins with
# its patch embedding
pointwise = reshape("o i 1 1 -> o i", "o -> o")
TIMM_RULES = [
    *keep("layers.{s}.blocks.{b}.modulation.h.{wb}"),
    rename("stem.{p:proj|norm}.{wb}",                      "patch_embed.{p:proj|norm}.{wb}"),
    rename("layers.{s+1}.downsample.{p:proj|norm}.{wb}",   "layers.{s}.downsample.{p:proj|norm}.{wb}"),
    rename("layers.{s}.blocks.{b}.modulation.f.{wb}",      "layers.{s}.blocks.{b}.modulation.f.{wb}", pointwise),
    rename("layers.{s}.blocks.{b}.modulation.proj.{wb}",   "layers.{s}.blocks.{b}.modulation.proj.{wb}", pointwise),
    *keep("layers.{s}.blocks.{b}.modulation.focal_layers.{k}.0.weight"),
    rename("layers.{s}.blocks.{b}.mlp.fc{n}.{wb}",         "layers.{s}.blocks.{b}.mlp.fc{n}.{wb}", pointwise),
    *keep("norm.{wb}"),
]

# tiny … base: norms before their layers, no layer scale
TIMM = Dialect("timm", [
    *TIMM_RULES,
    *keep("layers.{s}.blocks.{b}.norm{n}.{wb}"),
    drop("head.fc.{wb}", "classifier"),
])

# large … huge: timm names a norm after its place; elsewhere it is norm1 and norm2, wherever it stands
TIMM_POST_NORM = Dialect("timm-post-norm", [
    *TIMM_RULES,
    rename("layers.{s}.blocks.{b}.norm{n}_post.{wb}",      "layers.{s}.blocks.{b}.norm{n}.{wb}"),
    rename("layers.{s}.blocks.{b}.ls{n}.gamma",            "layers.{s}.blocks.{b}.gamma_{n}"),
    rename("layers.{s}.blocks.{b}.modulation.norm.{wb}",   "layers.{s}.blocks.{b}.modulation.ln.{wb}"),
    drop("head.fc.{wb}", "classifier"),
])

# huggingface/transformers models/focalnet/modeling_focalnet.py, as files on the hub have it: FocalNetModel bare,
# FocalNetForImageClassification under "focalnet."
TRANSFORMERS = Dialect("transformers", [
    rename("encoder.stages.{s}.layers.{b}.modulation.projection_context.{wb}",
                                                           "layers.{s}.blocks.{b}.modulation.h.{wb}"),
    rename("embeddings.patch_embeddings.projection.{wb}",  "patch_embed.proj.{wb}"),
    rename("embeddings.norm.{wb}",                         "patch_embed.norm.{wb}"),
    rename("encoder.stages.{s}.downsample.projection.{wb}", "layers.{s}.downsample.proj.{wb}"),
    rename("encoder.stages.{s}.downsample.norm.{wb}",      "layers.{s}.downsample.norm.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.norm{n}.{wb}",   "layers.{s}.blocks.{b}.norm{n}.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.gamma_{n}",      "layers.{s}.blocks.{b}.gamma_{n}"),
    rename("encoder.stages.{s}.layers.{b}.modulation.projection_in.{wb}",
                                                           "layers.{s}.blocks.{b}.modulation.f.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.modulation.projection_out.{wb}",
                                                           "layers.{s}.blocks.{b}.modulation.proj.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.modulation.layernorm.{wb}",
                                                           "layers.{s}.blocks.{b}.modulation.ln.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.modulation.focal_layers.{k}.0.weight",
                                                           "layers.{s}.blocks.{b}.modulation.focal_layers.{k}.0.weight"),
    rename("encoder.stages.{s}.layers.{b}.mlp.fc{n}.{wb}", "layers.{s}.blocks.{b}.mlp.fc{n}.{wb}"),
    rename("layernorm.{wb}",                               "norm.{wb}"),
    drop("embeddings.mask_token", "what masked pretraining puts in the place of a patch"),
    drop("classifier.{wb}", "classifier"),
])

DIALECTS = [OFFICIAL, TIMM, TIMM_POST_NORM, TRANSFORMERS]
