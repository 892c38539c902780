"""Detectron's and Detectron2's own ResNets (`R-50.pkl`), whose names are Caffe2's.

Names: facebookresearch/detectron2 detectron2/checkpoint/c2_model_loading.py, convert_basic_c2_names. A norm is spelled
in four ways:

    bn_gamma, bn_beta, bn_running_mean, bn_running_var   detectron2://ImageNetPretrained/MSRA and FAIR
    bn_s, bn_b, bn_rm, bn_riv                            Caffe2's SpatialBN; riv is the variance all the same
    bn_s, bn_b                                           Detectron: statistics folded into an affine layer
    gn_s, gn_b                                           Detectron: group norms

Images were BGR. Bottlenecks of MSRA's have their stride in the first 1x1; those of FAIR's, in groups or with group
norms, in the 3x3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zooconv import Dialect, Requires, constants, drop, rename, split, together

from .family import EPSILON, TOY_GN, ResNetConfig

Rules = list[Any]

# convolutions, the norms after them, and what both are called here
PLACES = [
    ("res{s}_{b}_branch2a", "res{s}_{b}_branch2a", "res{s}.{b}.conv1"),
    ("res{s}_{b}_branch2b", "res{s}_{b}_branch2b", "res{s}.{b}.conv2"),
    ("res{s}_{b}_branch2c", "res{s}_{b}_branch2c", "res{s}.{b}.conv3"),
    ("res{s}_{b}_branch1",  "res{s}_{b}_branch1",  "res{s}.{b}.shortcut"),
    ("conv1",               "res_conv1",           "stem.conv1"),
]

DROPPED = [
    drop("conv1_b", "bias before a norm, which Detectron's stem has not, and never loaded"),
    drop("fc1000_{p:w|b}", "classifier"),
    drop("pred_{p:w|b}", "classifier"),
]

PARTS = ("weight", "bias", "running_mean", "running_var")
STATISTICS = ["res{s}.{b}.conv{j}.norm.running_{p:mean|var}", "res{s}.{b}.shortcut.norm.running_{p:mean|var}",
              "stem.conv{j}.norm.running_{p:mean|var}"]


def table(norm: Callable[[str, str], Rules]) -> Rules:
    """The rules of a file: its convolutions, and of each of them the norm, theirs and ours."""
    weights = [rename(f"{conv}_w", f"{ours}.weight") for conv, _, ours in PLACES]
    return [*weights, *(rule for _, theirs, ours in PLACES for rule in norm(theirs, ours)), *DROPPED]


def batch_norm(*words: str) -> Callable[[str, str], Rules]:
    """All four, or none: without statistics, weight and bias are a folded norm's."""
    return lambda theirs, ours: [together([f"{theirs}_bn_{word}" for word in words],
                                          [f"{ours}.norm.{part}" for part in PARTS])]


def folded(theirs: str, ours: str) -> Rules:
    """An affine layer as a frozen batch norm: of mean 0, and of the variance that is 1 with the epsilon added."""
    return [split(f"{theirs}_bn_s", [f"{ours}.norm.{part}" for part in ("weight", "running_mean", "running_var")],
                  constants(0, 1 - EPSILON)),
            rename(f"{theirs}_bn_b", f"{ours}.norm.bias")]


def group_norm(theirs: str, ours: str) -> Rules:
    theirs = theirs.removeprefix("res_")  # the stem's is conv1_gn_s
    return [rename(f"{theirs}_gn_s", f"{ours}.norm.weight"), rename(f"{theirs}_gn_b", f"{ours}.norm.bias")]


def keys(config: ResNetConfig) -> dict[str, Any]:
    """Where the stride is: configs/Misc/mask_rcnn_R_50_FPN_3x_gn.yaml and its neighbours."""
    return {"RESNETS": {"STRIDE_IN_1X1": config.groups == 1 and not config.group_norm}}


def scaled(config: ResNetConfig) -> dict[str, Any]:
    """Images for FAIR's ResNeXts were divided, too: configs/COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml."""
    return keys(config) | ({"PIXEL_STD": [57.375, 57.12, 58.395]} if config.groups > 1 else {})


def requires(note: str, model: Callable[[ResNetConfig], dict[str, Any]] = keys) -> Requires:
    return Requires("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), model, note)


LATER = ("Detectron's own weights: BGR images, and the stride of a bottleneck where the config beside says. The file"
         " that is made does not tell: whoever converts it once more must keep that config")
FROZEN = "its norms were folded: use them frozen (RESNETS.NORM: FrozenBN), because their statistics are none"

CAFFE2 = Dialect("caffe2", table(batch_norm("gamma", "beta", "running_mean", "running_var")),
                 requires=requires(LATER, scaled))
CAFFE2_SPATIAL = Dialect("caffe2-spatialbn", table(batch_norm("s", "b", "rm", "riv")), requires=requires(LATER))
CAFFE2_FOLDED = Dialect("caffe2-folded", table(folded), lacks=STATISTICS, requires=requires(f"{LATER}; {FROZEN}"))
CAFFE2_GN = Dialect("caffe2-gn", table(group_norm), requires=requires(LATER), toy=TOY_GN)
