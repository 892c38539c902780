"""How each upstream spells a RegNet. Left: its name; right: the canonical one.

Stages count from 1 here and in the canonical names, blocks from 0 in some upstreams: hence `{b}` -> `{b+1}`.
"""

from __future__ import annotations

from typing import Any

from zooconv import Dialect, Files, drop, keep, rename

PART = "{p:weight|bias|running_mean|running_var}"  # of a batch norm

CANONICAL = keep(
    "stem.conv.weight",
    "stem.bn." + PART,
    "s{s}.b{b}.proj.weight",
    "s{s}.b{b}.bn." + PART,
    "s{s}.b{b}.f.{l:a|b|c}.weight",
    "s{s}.b{b}.f.{l:a|b|c}_bn." + PART,
    "s{s}.b{b}.f.se.f_ex.{i}.{wb}",
)


def counter(norm: str) -> Any:
    return drop(norm + ".num_batches_tracked", "how many batches a norm has seen: it takes no part in what it computes")


def norm(source: str, target: str) -> list[Any]:
    """A batch norm: what it computes with, and its counter."""
    return [rename(f"{source}.{PART}", f"{target}.{PART}"), counter(source)]


# facebookresearch/pycls pycls/models/anynet.py, of files under model_state. These saw images as BGR.
PYCLS = Dialect("pycls", [
    *CANONICAL,
    counter("stem.bn"),
    counter("s{s}.b{b}.bn"),
    counter("s{s}.b{b}.f.{l:a|b|c}_bn"),
    drop("head.fc.{wb}", "classifier"),
], files=Files(key="model_state"))

# facebookresearch/vissl vissl/models/trunks/regnet.py on ClassyVision's classy_vision/models/anynet.py: SEER, under
# classy_state_dict.base_model.model.trunk
VISSL = Dialect("vissl", [
    rename("_feature_blocks.conv1.stem.0.weight",                          "stem.conv.weight"),
    *norm("_feature_blocks.conv1.stem.1",                                  "stem.bn"),
    rename("_feature_blocks.res{s+1}.block{s}-{b}.proj.weight",            "s{s}.b{b+1}.proj.weight"),
    *norm("_feature_blocks.res{s+1}.block{s}-{b}.bn",                      "s{s}.b{b+1}.bn"),
    rename("_feature_blocks.res{s+1}.block{s}-{b}.f.{l:a|b}.0.weight",     "s{s}.b{b+1}.f.{l:a|b}.weight"),
    *norm("_feature_blocks.res{s+1}.block{s}-{b}.f.{l:a|b}.1",             "s{s}.b{b+1}.f.{l:a|b}_bn"),
    rename("_feature_blocks.res{s+1}.block{s}-{b}.f.se.excitation.{i}.{wb}", "s{s}.b{b+1}.f.se.f_ex.{i}.{wb}"),
    rename("_feature_blocks.res{s+1}.block{s}-{b}.f.c.weight",             "s{s}.b{b+1}.f.c.weight"),
    *norm("_feature_blocks.res{s+1}.block{s}-{b}.f.final_bn",              "s{s}.b{b+1}.f.c_bn"),
])

# pytorch/vision torchvision/models/regnet.py
TORCHVISION = Dialect("torchvision", [
    rename("stem.0.weight",                                                "stem.conv.weight"),
    *norm("stem.1",                                                        "stem.bn"),
    rename("trunk_output.block{s}.block{s}-{b}.proj.0.weight",             "s{s}.b{b+1}.proj.weight"),
    *norm("trunk_output.block{s}.block{s}-{b}.proj.1",                     "s{s}.b{b+1}.bn"),
    rename("trunk_output.block{s}.block{s}-{b}.f.{l:a|b|c}.0.weight",      "s{s}.b{b+1}.f.{l:a|b|c}.weight"),
    *norm("trunk_output.block{s}.block{s}-{b}.f.{l:a|b|c}.1",              "s{s}.b{b+1}.f.{l:a|b|c}_bn"),
    rename("trunk_output.block{s}.block{s}-{b}.f.se.fc1.{wb}",             "s{s}.b{b+1}.f.se.f_ex.0.{wb}"),
    rename("trunk_output.block{s}.block{s}-{b}.f.se.fc2.{wb}",             "s{s}.b{b+1}.f.se.f_ex.2.{wb}"),
    drop("fc.{wb}", "classifier"),
])

# huggingface/pytorch-image-models timm/models/regnet.py
TIMM = Dialect("timm", [
    rename("stem.conv.weight",                       "stem.conv.weight"),
    *norm("stem.bn",                                 "stem.bn"),
    rename("s{s}.b{b}.downsample.conv.weight",       "s{s}.b{b}.proj.weight"),
    *norm("s{s}.b{b}.downsample.bn",                 "s{s}.b{b}.bn"),
    rename("s{s}.b{b}.conv1.conv.weight",            "s{s}.b{b}.f.a.weight"),
    *norm("s{s}.b{b}.conv1.bn",                      "s{s}.b{b}.f.a_bn"),
    rename("s{s}.b{b}.conv2.conv.weight",            "s{s}.b{b}.f.b.weight"),
    *norm("s{s}.b{b}.conv2.bn",                      "s{s}.b{b}.f.b_bn"),
    rename("s{s}.b{b}.se.fc1.{wb}",                  "s{s}.b{b}.f.se.f_ex.0.{wb}"),
    rename("s{s}.b{b}.se.fc2.{wb}",                  "s{s}.b{b}.f.se.f_ex.2.{wb}"),
    rename("s{s}.b{b}.conv3.conv.weight",            "s{s}.b{b}.f.c.weight"),
    *norm("s{s}.b{b}.conv3.bn",                      "s{s}.b{b}.f.c_bn"),
    drop("head.fc.{wb}", "classifier"),
])


def transformers(name: str, *last: Any, lacks: tuple[str, ...] = ()) -> Dialect:
    """huggingface/transformers models/regnet/modeling_regnet.py: RegNetModel bare, RegNetForImageClassification under
    "regnet.". The layers of a block are numbered through, so that the `last` ones depend on its squeeze-excitation.
    """
    return Dialect(name, [
        rename("embedder.embedder.convolution.weight",                         "stem.conv.weight"),
        *norm("embedder.embedder.normalization",                               "stem.bn"),
        rename("encoder.stages.{s}.layers.{b}.shortcut.convolution.weight",    "s{s+1}.b{b+1}.proj.weight"),
        *norm("encoder.stages.{s}.layers.{b}.shortcut.normalization",          "s{s+1}.b{b+1}.bn"),
        rename("encoder.stages.{s}.layers.{b}.layer.0.convolution.weight",     "s{s+1}.b{b+1}.f.a.weight"),
        *norm("encoder.stages.{s}.layers.{b}.layer.0.normalization",           "s{s+1}.b{b+1}.f.a_bn"),
        rename("encoder.stages.{s}.layers.{b}.layer.1.convolution.weight",     "s{s+1}.b{b+1}.f.b.weight"),
        *norm("encoder.stages.{s}.layers.{b}.layer.1.normalization",           "s{s+1}.b{b+1}.f.b_bn"),
        *last,
        drop("classifier.1.{wb}", "classifier"),
    ], lacks)


TRANSFORMERS_X = transformers(
    "transformers-x",
    rename("encoder.stages.{s}.layers.{b}.layer.2.convolution.weight",         "s{s+1}.b{b+1}.f.c.weight"),
    *norm("encoder.stages.{s}.layers.{b}.layer.2.normalization",               "s{s+1}.b{b+1}.f.c_bn"),
    lacks=("s{s}.b{b}.f.se.f_ex.{i}.{wb}",),
)

TRANSFORMERS_Y = transformers(
    "transformers-y",
    rename("encoder.stages.{s}.layers.{b}.layer.2.attention.{i}.{wb}",         "s{s+1}.b{b+1}.f.se.f_ex.{i}.{wb}"),
    rename("encoder.stages.{s}.layers.{b}.layer.3.convolution.weight",         "s{s+1}.b{b+1}.f.c.weight"),
    *norm("encoder.stages.{s}.layers.{b}.layer.3.normalization",               "s{s+1}.b{b+1}.f.c_bn"),
)

DIALECTS = [PYCLS, VISSL, TORCHVISION, TIMM, TRANSFORMERS_X, TRANSFORMERS_Y]
