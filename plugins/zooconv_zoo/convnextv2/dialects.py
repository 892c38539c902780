"""How each upstream spells a ConvNeXt V2. Left: its name; right: the canonical one.

Files of masked pretraining alone (FCMAE) end with the last stage: no final norm, no classifier. Such a body is a
dialect of its own (`-body`), so that in any other file a norm that is missing is noticed.
"""

from __future__ import annotations

from zooconv import Dialect, drop, keep, linear, rename, reshape

NORM = ["norm.{wb}"]
broadcast = reshape("c -> 1 1 1 c")  # a vector, where the canonical module keeps it ready to broadcast

BODY = [
    *keep("downsample_layers.{s}.{i}.{wb}",
          "stages.{s}.{b}.dwconv.{wb}",
          "stages.{s}.{b}.norm.{wb}",
          "stages.{s}.{b}.pwconv{n}.{wb}",
          "stages.{s}.{b}.grn.{p:gamma|beta}"),
]
CANONICAL = [*BODY, *keep("norm.{wb}")]

# facebookresearch/ConvNeXt-V2 models/convnextv2.py
OFFICIAL = Dialect("official", [
    *CANONICAL,
    drop("head.{wb}", "classifier"),
])

OFFICIAL_BODY = Dialect("official-body", BODY, lacks=NORM)

# huggingface/pytorch-image-models timm/models/convnext.py; `grn` is in GlobalResponseNormMlp of timm/layers/mlp.py.
# atto … nano have 1x1 convolutions for mlp.fc.
TIMM_RULES = [
    rename("stem.{i}.{wb}",                       "downsample_layers.0.{i}.{wb}"),
    rename("stages.{s}.downsample.{i}.{wb}",      "downsample_layers.{s}.{i}.{wb}"),
    rename("stages.{s}.blocks.{b}.conv_dw.{wb}",  "stages.{s}.{b}.dwconv.{wb}"),
    rename("stages.{s}.blocks.{b}.norm.{wb}",     "stages.{s}.{b}.norm.{wb}"),
    rename("stages.{s}.blocks.{b}.mlp.fc{n}.{wb}", "stages.{s}.{b}.pwconv{n}.{wb}", linear),
    rename("stages.{s}.blocks.{b}.mlp.grn.weight", "stages.{s}.{b}.grn.gamma", broadcast),
    rename("stages.{s}.blocks.{b}.mlp.grn.bias",  "stages.{s}.{b}.grn.beta", broadcast),
]

TIMM = Dialect("timm", [
    *TIMM_RULES,
    rename("head.norm.{wb}",                      "norm.{wb}"),
    drop("head.fc.{wb}", "classifier"),
])

TIMM_BODY = Dialect("timm-body", TIMM_RULES, lacks=NORM)

# huggingface/transformers models/convnextv2/modeling_convnextv2.py, as files on the hub have it: ConvNextV2Model bare,
# ConvNextV2ForImageClassification under "convnextv2."
TRANSFORMERS = Dialect("transformers", [
    rename("embeddings.patch_embeddings.{wb}",                 "downsample_layers.0.0.{wb}"),
    rename("embeddings.layernorm.{wb}",                        "downsample_layers.0.1.{wb}"),
    rename("encoder.stages.{s}.downsampling_layer.{i}.{wb}",   "downsample_layers.{s}.{i}.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.dwconv.{wb}",        "stages.{s}.{b}.dwconv.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.layernorm.{wb}",     "stages.{s}.{b}.norm.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.pwconv{n}.{wb}",     "stages.{s}.{b}.pwconv{n}.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.grn.weight",         "stages.{s}.{b}.grn.gamma"),
    rename("encoder.stages.{s}.layers.{b}.grn.bias",           "stages.{s}.{b}.grn.beta"),
    rename("layernorm.{wb}",                                   "norm.{wb}"),
    drop("classifier.{wb}", "classifier"),
])

# open-mmlab/mmpretrain mmpretrain/models/backbones/convnext.py with use_grn=True, usually under "backbone."; norm0 …
# norm2 exist where a detector asked for more than the last stage
OPENMMLAB_RULES = [
    *keep("downsample_layers.{s}.{i}.{wb}"),
    rename("stages.{s}.{b}.depthwise_conv.{wb}",        "stages.{s}.{b}.dwconv.{wb}"),
    rename("stages.{s}.{b}.norm.{wb}",                  "stages.{s}.{b}.norm.{wb}"),
    rename("stages.{s}.{b}.pointwise_conv{n}.{wb}",     "stages.{s}.{b}.pwconv{n}.{wb}", linear),
    rename("stages.{s}.{b}.grn.{p:gamma|beta}",         "stages.{s}.{b}.grn.{p:gamma|beta}", broadcast),
]

OPENMMLAB = Dialect("openmmlab", [
    *OPENMMLAB_RULES,
    rename("norm3.{wb}",                                "norm.{wb}"),
    drop("norm{i}.{wb}", "output norm of an earlier stage"),
    drop("head.fc.{wb}", "classifier"),
])

OPENMMLAB_BODY = Dialect("openmmlab-body", OPENMMLAB_RULES, lacks=NORM)

DIALECTS = [OFFICIAL, TIMM, TRANSFORMERS, OPENMMLAB, OFFICIAL_BODY, TIMM_BODY, OPENMMLAB_BODY]
