"""How each upstream spells a ResNet. Left: its name; right: the canonical one, which is Detectron2's.

Detectron's own files, whose names are Caffe2's, stand in caffe2.py.
"""

from __future__ import annotations

from zooconv import Dialect, drop, keep, rename

from .caffe2 import CAFFE2, CAFFE2_FOLDED, CAFFE2_GN, CAFFE2_SPATIAL
from .family import TOY_DEEP

CANONICAL = [
    *keep("res{s}.{b}.conv{j}.weight",
          "res{s}.{b}.conv{j}.norm.{bn}",
          "res{s}.{b}.shortcut.weight",
          "res{s}.{b}.shortcut.norm.{bn}",
          "stem.conv{j}.weight",
          "stem.conv{j}.norm.{bn}"),
]

COUNTER = "counter, which takes no part in what a model computes"
HEAD = "projection head of self-supervised training"

BLOCKS = [
    rename("layer{s}.{b}.conv{j}.weight",       "res{s+1}.{b}.conv{j}.weight"),
    rename("layer{s}.{b}.bn{j}.{bn}",           "res{s+1}.{b}.conv{j}.norm.{bn}"),
    rename("layer{s}.{b}.downsample.0.weight",  "res{s+1}.{b}.shortcut.weight"),
    rename("layer{s}.{b}.downsample.1.{bn}",    "res{s+1}.{b}.shortcut.norm.{bn}"),
]
COUNTERS = [
    drop("layer{s}.{b}.bn{j}.num_batches_tracked", COUNTER),
    drop("layer{s}.{b}.downsample.1.num_batches_tracked", COUNTER),
]

# pytorch/vision torchvision/models/resnet.py, and everybody who kept its names: timm/models/resnet.py, OpenMMLab
# (mmpretrain/models/backbones/resnet.py, under "backbone."), MoCo ("module.encoder_q.", "module.base_encoder."), SwAV,
# SimSiam, DINO ("backbone.", in its training files under the keys student and teacher), and the detectors of
# torchvision and DETR ("backbone.body.", "backbone.0.body."), whose frozen norms have no counter. Names do not tell
# where a bottleneck has its stride: all of these have it in the 3x3, but OpenMMLab's *_caffe files in the 1x1.
TORCHVISION = Dialect("torchvision", [
    *BLOCKS,
    rename("conv1.weight",                      "stem.conv1.weight"),
    rename("bn1.{bn}",                          "stem.conv1.norm.{bn}"),
    *COUNTERS,
    drop("bn1.num_batches_tracked", COUNTER),
    drop("fc.{wb}", "classifier"),
    # facebookresearch/moco moco/builder.py (v2), facebookresearch/simsiam simsiam/builder.py: layers for a classifier;
    # facebookresearch/moco-v3 moco/builder.py, _build_mlp
    drop("fc.{i}.{bn}", HEAD),
    drop("fc.{i}.num_batches_tracked", HEAD),
    # facebookresearch/swav src/resnet50.py
    drop("projection_head.{i}.{bn}", HEAD),
    drop("projection_head.{i}.num_batches_tracked", HEAD),
    drop("prototypes.weight", HEAD),
])

# timm/models/resnet.py with stem_type="deep": resnet50c and resnet50s, of Gluon
TIMM_DEEP_STEM = Dialect("timm-deep-stem", [
    rename("conv1.0.weight",                    "stem.conv1.weight"),
    rename("conv1.1.{bn}",                      "stem.conv1.norm.{bn}"),
    rename("conv1.3.weight",                    "stem.conv2.weight"),
    rename("conv1.4.{bn}",                      "stem.conv2.norm.{bn}"),
    rename("conv1.6.weight",                    "stem.conv3.weight"),
    rename("bn1.{bn}",                          "stem.conv3.norm.{bn}"),
    *BLOCKS,
    *COUNTERS,
    drop("conv1.{i}.num_batches_tracked", COUNTER),
    drop("bn1.num_batches_tracked", COUNTER),
    drop("fc.{wb}", "classifier"),
], toy=TOY_DEEP)

# open-mmlab/mmsegmentation and mmdetection, models/backbones/resnet.py with deep_stem: ResNetV1c
OPENMMLAB_DEEP_STEM = Dialect("openmmlab-deep-stem", [
    rename("stem.0.weight",                     "stem.conv1.weight"),
    rename("stem.1.{bn}",                       "stem.conv1.norm.{bn}"),
    rename("stem.3.weight",                     "stem.conv2.weight"),
    rename("stem.4.{bn}",                       "stem.conv2.norm.{bn}"),
    rename("stem.6.weight",                     "stem.conv3.weight"),
    rename("stem.7.{bn}",                       "stem.conv3.norm.{bn}"),
    *BLOCKS,
    *COUNTERS,
    drop("stem.{i}.num_batches_tracked", COUNTER),
    drop("fc.{wb}", "classifier"),
], toy=TOY_DEEP)

# huggingface/transformers models/resnet/modeling_resnet.py, as files on the hub have it: ResNetModel bare,
# ResNetForImageClassification under "resnet."
TRANSFORMERS = Dialect("transformers", [
    rename("encoder.stages.{s}.layers.{b}.layer.{j}.convolution.weight",   "res{s+2}.{b}.conv{j+1}.weight"),
    rename("encoder.stages.{s}.layers.{b}.layer.{j}.normalization.{bn}",   "res{s+2}.{b}.conv{j+1}.norm.{bn}"),
    rename("encoder.stages.{s}.layers.{b}.shortcut.convolution.weight",    "res{s+2}.{b}.shortcut.weight"),
    rename("encoder.stages.{s}.layers.{b}.shortcut.normalization.{bn}",    "res{s+2}.{b}.shortcut.norm.{bn}"),
    rename("embedder.embedder.convolution.weight",                         "stem.conv1.weight"),
    rename("embedder.embedder.normalization.{bn}",                         "stem.conv1.norm.{bn}"),
    drop("encoder.stages.{s}.layers.{b}.layer.{j}.normalization.num_batches_tracked", COUNTER),
    drop("encoder.stages.{s}.layers.{b}.shortcut.normalization.num_batches_tracked", COUNTER),
    drop("embedder.embedder.normalization.num_batches_tracked", COUNTER),
    drop("classifier.1.{wb}", "classifier"),
])

DIALECTS = [TORCHVISION, TIMM_DEEP_STEM, OPENMMLAB_DEEP_STEM, TRANSFORMERS,
            CAFFE2, CAFFE2_SPATIAL, CAFFE2_FOLDED, CAFFE2_GN]
