"""How each upstream spells an InternImage. Left: its name; right: the canonical one.

The first rule is of DCNv3's offsets, which no other architecture has.
"""

from __future__ import annotations

from zooconv import Dialect, drop, keep, rename

BLOCK = "levels.{s}.blocks.{b}"
PARTS = keep(f"{BLOCK}.dcn.offset.{{wb}}",
             f"{BLOCK}.dcn.{{p:mask|input_proj|output_proj|dw_conv.0|dw_conv.1.1}}.{{wb}}",
             f"{BLOCK}.dcn.center_feature_scale_proj_{{wb}}",
             f"{BLOCK}.{{p:norm|res_post_norm}}{{n}}.0.{{wb}}",
             f"{BLOCK}.mlp.fc{{n}}.{{wb}}",
             "patch_embed.conv{n}.{wb}",
             "patch_embed.norm{n}.1.{wb}",
             "levels.{s}.norm.0.{wb}",
             "levels.{s}.post_norms.{i}.0.{wb}",
             "levels.{s}.downsample.conv.weight",
             "levels.{s}.downsample.norm.1.{wb}")
SCALES = keep(f"{BLOCK}.gamma{{n}}")

CANONICAL = [*PARTS, *SCALES]

# up to xlarge a convolution and a batch norm, in the huge and the giant an attention pooling of CLIP's kind
PROJECTOR = "of the classifier's pooling"
HEADS = [drop("conv_head.0.weight", "classifier"),
         drop("conv_head.1.0.{bn}", "classifier"),
         drop("conv_head.1.0.num_batches_tracked", "classifier"),
         drop("dcnv3_head_x4.0.{wb}", PROJECTOR),
         drop("dcnv3_head_x3.{wb}", PROJECTOR),
         drop("clip_projector.norm1_{p:q|k|v}.0.{wb}", PROJECTOR),
         drop("clip_projector.cross_dcn.{p:q|k|v}_bias", PROJECTOR),
         drop("clip_projector.cross_dcn.{p:q|k|v}.weight", PROJECTOR),
         drop("clip_projector.cross_dcn.proj.{wb}", PROJECTOR),
         drop("fc_norm.0.{wb}", PROJECTOR),
         drop("head.{wb}", "classifier")]

# OpenGVLab/InternImage classification/models/intern_image.py; its detectors (detection/, segmentation/) and detrex's,
# under "backbone."
OFFICIAL = Dialect("official", [*CANONICAL, *HEADS])

# the same code for transformers (trust_remote_code), classification/huggingface/*/modeling_internimage.py, as files on
# the hub have it: under "model.", and without the word gamma, which transformers would take for a norm's weight
TRANSFORMERS = Dialect("transformers", [
    *PARTS,
    rename(f"{BLOCK}.layer_scale{{n}}", f"{BLOCK}.gamma{{n}}"),
    *HEADS,
])

DIALECTS = [OFFICIAL, TRANSFORMERS]
