"""How each upstream spells a ConvNeXt. Left: its name; right: the canonical one."""

from __future__ import annotations

from zooconv import Dialect, Files, drop, flatten, keep, linear, rename, same_as

CANONICAL = [
    *keep("downsample_layers.{s}.{i}.{wb}",
          "stages.{s}.{b}.gamma",
          "stages.{s}.{b}.dwconv.{wb}",
          "stages.{s}.{b}.norm.{wb}",
          "stages.{s}.{b}.pwconv{n}.{wb}",
          "norm.{wb}"),
]

# facebookresearch/ConvNeXt models/convnext.py
OFFICIAL = Dialect("official", [
    *CANONICAL,
    drop("head.{wb}", "classifier"),
])

# facebookresearch/dinov3 dinov3/models/convnext.py: the official names, and the final norm once more in a list
DINOV3 = Dialect("dinov3", [
    *CANONICAL,
    same_as("norms.3.{wb}", "norm.{wb}"),
], files=Files(key=""))

# huggingface/pytorch-image-models timm/models/convnext.py. atto … nano and _hnf have 1x1 convolutions for mlp.fc;
# _hnf normalises before pooling (norm_pre), _mlp has a hidden layer in its head.
TIMM = Dialect("timm", [
    rename("stem.{i}.{wb}",                       "downsample_layers.0.{i}.{wb}"),
    rename("stages.{s}.downsample.{i}.{wb}",      "downsample_layers.{s}.{i}.{wb}"),
    rename("stages.{s}.blocks.{b}.gamma",         "stages.{s}.{b}.gamma"),
    rename("stages.{s}.blocks.{b}.conv_dw.{wb}",  "stages.{s}.{b}.dwconv.{wb}"),
    rename("stages.{s}.blocks.{b}.norm.{wb}",     "stages.{s}.{b}.norm.{wb}"),
    rename("stages.{s}.blocks.{b}.mlp.fc{n}.{wb}", "stages.{s}.{b}.pwconv{n}.{wb}", linear),
    rename("head.norm.{wb}",                      "norm.{wb}"),
    rename("norm_pre.{wb}",                       "norm.{wb}"),
    drop("head.fc.{wb}", "classifier"),
    drop("head.pre_logits.fc.{wb}", "classifier"),
])

# huggingface/transformers models/convnext/modeling_convnext.py, as files on the hub have it: ConvNextModel bare,
# ConvNextForImageClassification under "convnext."
TRANSFORMERS = Dialect("transformers", [
    rename("embeddings.patch_embeddings.{wb}",                     "downsample_layers.0.0.{wb}"),
    rename("embeddings.layernorm.{wb}",                            "downsample_layers.0.1.{wb}"),
    rename("encoder.stages.{s}.downsampling_layer.{i}.{wb}",       "downsample_layers.{s}.{i}.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.layer_scale_parameter",  "stages.{s}.{b}.gamma"),
    rename("encoder.stages.{s}.layers.{b}.dwconv.{wb}",            "stages.{s}.{b}.dwconv.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.layernorm.{wb}",         "stages.{s}.{b}.norm.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.pwconv{n}.{wb}",         "stages.{s}.{b}.pwconv{n}.{wb}"),
    rename("layernorm.{wb}",                                       "norm.{wb}"),
    drop("classifier.{wb}", "classifier"),
])

# huggingface/transformers models/dinov3_convnext/modeling_dinov3_convnext.py, as files on the hub have it
TRANSFORMERS_DINOV3 = Dialect("transformers-dinov3", [
    rename("stages.{s}.downsample_layers.{i}.{wb}",         "downsample_layers.{s}.{i}.{wb}"),
    rename("stages.{s}.layers.{b}.gamma",                   "stages.{s}.{b}.gamma"),
    rename("stages.{s}.layers.{b}.depthwise_conv.{wb}",     "stages.{s}.{b}.dwconv.{wb}"),
    rename("stages.{s}.layers.{b}.layer_norm.{wb}",         "stages.{s}.{b}.norm.{wb}"),
    rename("stages.{s}.layers.{b}.pointwise_conv{n}.{wb}",  "stages.{s}.{b}.pwconv{n}.{wb}"),
    rename("layer_norm.{wb}",                               "norm.{wb}"),
])

# pytorch/vision torchvision/models/convnext.py: stages at odd indices of `features`, downsampling at even ones
TORCHVISION = Dialect("torchvision", [
    rename("features.0.{i}.{wb}",                  "downsample_layers.0.{i}.{wb}"),
    rename("features.{2*s}.{i}.{wb}",              "downsample_layers.{s}.{i}.{wb}"),
    rename("features.{2*s+1}.{b}.layer_scale",     "stages.{s}.{b}.gamma", flatten),
    rename("features.{2*s+1}.{b}.block.0.{wb}",    "stages.{s}.{b}.dwconv.{wb}"),
    rename("features.{2*s+1}.{b}.block.2.{wb}",    "stages.{s}.{b}.norm.{wb}"),
    rename("features.{2*s+1}.{b}.block.3.{wb}",    "stages.{s}.{b}.pwconv1.{wb}"),
    rename("features.{2*s+1}.{b}.block.5.{wb}",    "stages.{s}.{b}.pwconv2.{wb}"),
    rename("classifier.0.{wb}",                    "norm.{wb}"),
    drop("classifier.2.{wb}", "classifier"),
])

# open-mmlab/mmpretrain mmpretrain/models/backbones/convnext.py, usually under "backbone."; norm0 … norm2 exist where
# a detector asked for more than the last stage
OPENMMLAB = Dialect("openmmlab", [
    rename("downsample_layers.{s}.{i}.{wb}",            "downsample_layers.{s}.{i}.{wb}"),
    rename("stages.{s}.{b}.gamma",                      "stages.{s}.{b}.gamma"),
    rename("stages.{s}.{b}.depthwise_conv.{wb}",        "stages.{s}.{b}.dwconv.{wb}"),
    rename("stages.{s}.{b}.norm.{wb}",                  "stages.{s}.{b}.norm.{wb}"),
    rename("stages.{s}.{b}.pointwise_conv{n}.{wb}",     "stages.{s}.{b}.pwconv{n}.{wb}", linear),
    rename("norm3.{wb}",                                "norm.{wb}"),
    drop("norm{i}.{wb}", "output norm of an earlier stage"),
    drop("head.fc.{wb}", "classifier"),
])

DIALECTS = [OFFICIAL, DINOV3, TIMM, TRANSFORMERS, TRANSFORMERS_DINOV3, TORCHVISION, OPENMMLAB]
