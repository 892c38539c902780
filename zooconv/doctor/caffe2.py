"""How Detectron2 renames the tensors of a file that it takes for one of Caffe2's: every `.pkl` without an author.

The names of other files suffer: `downsample_layers.0.0.weight` becomes `downsample.layers.0.0.weight`, which no model
has. Source: detectron2/checkpoint/c2_model_loading.py, convert_c2_detectron_names; what it takes off predictors for
the background class is not foretold here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RPN, _KEYPOINTS = "proposal_generator.rpn_head", "roi_heads.keypoint_head"

# in this order; the dots of the left sides match any character where Detectron2's do
_STEPS = [(re.compile(pattern), new) for pattern, new in (
    (r"^pred_([bw])$", r"linear_\1"), (r"_", "."), (r"\.b$", ".bias"), (r"\.w$", ".weight"),
    # norms: Caffe2's SpatialBN, Detectron's affine layers, group norms
    (r"bn\.s$", "norm.weight"), (r"bn\.bias$", "norm.bias"), (r"bn\.rm", "norm.running_mean"),
    (r"bn\.running.mean$", "norm.running_mean"), (r"bn\.riv$", "norm.running_var"),
    (r"bn\.running.var$", "norm.running_var"), (r"bn\.gamma$", "norm.weight"), (r"bn\.beta$", "norm.bias"),
    (r"gn\.s$", "norm.weight"), (r"gn\.bias$", "norm.bias"),
    # the stem, and the branches of a block
    (r"^res\.conv1\.norm\.", "conv1.norm."), (r"^conv1\.", "stem.conv1."), (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."), (r"\.branch2b\.", ".conv2."), (r"\.branch2c\.", ".conv3."),
    # DensePose
    (r"^body.conv.fcn", "body_conv_fcn"), (r"AnnIndex\.lowres", "ann_index_lowres"),
    (r"Index\.UV\.lowres", "index_uv_lowres"), (r"U\.lowres", "u_lowres"), (r"V\.lowres", "v_lowres"),
    # region proposals, boxes
    (r"conv\.rpn\.fpn2", f"{_RPN}.conv"), (r"conv\.rpn", f"{_RPN}.conv"),
    (r"rpn\.bbox\.pred\.fpn2", f"{_RPN}.anchor_deltas"), (r"rpn\.cls\.logits\.fpn2", f"{_RPN}.objectness_logits"),
    (r"rpn\.bbox\.pred", f"{_RPN}.anchor_deltas"), (r"rpn\.cls\.logits", f"{_RPN}.objectness_logits"),
    (r"^bbox\.pred", "bbox_pred"), (r"^cls\.score", "cls_score"), (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."), (r"^head\.conv", "box_head.conv"),
    # feature pyramids
    (r"^fpn\.inner\.res(\d+)\.(?:.*\.)?norm\.(?:.*\.)?([^.]+)$", r"fpn_lateral\1.norm.\2"),
    (r"^fpn\.inner\.res(\d+)\.(?:.*\.)?([^.]+)$", r"fpn_lateral\1.\2"),
    (r"^fpn\.res(\d+)\.(?:.*\.)?norm\.(?:.*\.)?([^.]+)$", r"fpn_output\1.norm.\2"),
    (r"^fpn\.res(\d+)\.(?:.*\.)?([^.]+)$", r"fpn_output\1.\2"),
    # masks, keypoints
    (r"\.\[mask\]\.fcn", "mask_head.mask_fcn"), (r"^\.mask\.fcn", "mask_head.mask_fcn"),
    (r"mask\.fcn\.logits", "mask_head.predictor"), (r"conv5\.mask", "mask_head.deconv"),
    (r"conv\.fcn", f"{_KEYPOINTS}.conv_fcn"), (r"kps\.score\.lowres", f"{_KEYPOINTS}.score_lowres"),
    (r"kps\.score\.", f"{_KEYPOINTS}.score."),
)]


def renamed(names: Iterable[str]) -> dict[str, str]:
    """The names that Detectron2 gives (new -> old), fewer where two become one: there it raises AssertionError."""
    made = {}
    for name in names:
        new = name
        for pattern, replacement in _STEPS:
            new = pattern.sub(replacement, new)
        made[new] = name
    return made
