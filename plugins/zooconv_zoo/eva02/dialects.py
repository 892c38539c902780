"""How each upstream spells an EVA-02. Left: its name; right: the canonical one.

The first rule of each is of SwiGLU's last layer; attention with biases for queries and values alone, beside it, is
what no plain vision transformer has.
"""

from __future__ import annotations

from zooconv import Dialect, drop, keep, rename

BLOCK = "blocks.{b}"
BLOCKS = keep(f"{BLOCK}.mlp.w3.{{wb}}",
              f"{BLOCK}.mlp.{{p:w1|w2|w12|ffn_ln}}.{{wb}}",
              f"{BLOCK}.attn.{{p:q|v}}_bias",
              f"{BLOCK}.attn.{{p:q_proj|k_proj|v_proj|qkv}}.weight",
              f"{BLOCK}.attn.{{p:inner_attn_ln|proj}}.{{wb}}",
              f"{BLOCK}.norm{{n}}.{{wb}}")
STEM = keep("patch_embed.proj.{wb}", "pos_embed")

CANONICAL = [*BLOCKS, *STEM, *keep("cls_token", "norm.{wb}")]

HEAD = drop("head.{wb}", "classifier, or CLIP's projection")
ANGLES = "follows from the size of the image"
ROPE = [drop("rope.freqs_{p:cos|sin}", ANGLES), drop(f"{BLOCK}.attn.rope.freqs_{{p:cos|sin}}", ANGLES)]

# baaivision/EVA EVA-02/asuka/modeling_pretrain.py (norm) and modeling_finetune.py (fc_norm); EVA-CLIP/rei/eva_clip/
# eva_vit_model.py (norm) under "visual."; q, k, v and w1, w2 are one matrix each in tiny and small (xformers' SwiGLU)
OFFICIAL = Dialect("official", [
    *CANONICAL,
    rename("fc_norm.{wb}", "norm.{wb}"),
    *ROPE,
    drop("mask_token", "of masked pretraining"),
    drop("lm_head.{wb}", "of masked pretraining"),
    HEAD,
])

# baaivision/EVA EVA-02/det, IDEA-Research/detrex detrex/modeling/backbone/eva_02.py: what detectors were trained to,
# under "backbone.net."; no class token, no last norm
VITDET = Dialect("vitdet", [
    *BLOCKS, *STEM, *ROPE,
    drop("rope_{w:win|glb}.freqs_{p:cos|sin}", ANGLES),
], lacks=("cls_token", "norm.{wb}"))

# huggingface/pytorch-image-models timm/models/eva.py, checkpoint_filter_fn; fc_norm in all but CLIP's
TIMM_RULES = [
    rename(f"{BLOCK}.mlp.fc2.{{wb}}",               f"{BLOCK}.mlp.w3.{{wb}}"),
    rename(f"{BLOCK}.mlp.fc1_g.{{wb}}",             f"{BLOCK}.mlp.w1.{{wb}}"),
    rename(f"{BLOCK}.mlp.fc1_x.{{wb}}",             f"{BLOCK}.mlp.w2.{{wb}}"),
    rename(f"{BLOCK}.mlp.fc1.{{wb}}",               f"{BLOCK}.mlp.w12.{{wb}}"),
    rename(f"{BLOCK}.mlp.norm.{{wb}}",              f"{BLOCK}.mlp.ffn_ln.{{wb}}"),
    rename(f"{BLOCK}.attn.norm.{{wb}}",             f"{BLOCK}.attn.inner_attn_ln.{{wb}}"),
    *keep(f"{BLOCK}.attn.{{p:q_proj|k_proj|v_proj|qkv}}.weight", f"{BLOCK}.attn.proj.{{wb}}",
          f"{BLOCK}.norm{{n}}.{{wb}}"),
    *STEM, *keep("cls_token"),
    rename("fc_norm.{wb}",                          "norm.{wb}"),
    *keep("norm.{wb}"),
]

# base, large: q_proj and v_proj hold their biases
TIMM = Dialect("timm", [
    *TIMM_RULES,
    rename(f"{BLOCK}.attn.{{p:q|v}}_proj.bias",     f"{BLOCK}.attn.{{p:q|v}}_bias"),
    HEAD,
])

# tiny, small: the biases stand beside qkv
TIMM_FUSED = Dialect("timm-fused", [
    *TIMM_RULES,
    *keep(f"{BLOCK}.attn.{{p:q|v}}_bias"),
    HEAD,
])

DIALECTS = [OFFICIAL, TIMM, TIMM_FUSED, VITDET]
