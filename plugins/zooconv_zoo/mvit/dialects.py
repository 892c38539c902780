"""How each upstream spells an MViTv2. Left: its name; right: the canonical one."""

from __future__ import annotations

from zooconv import Dialect, Files, Flat, drop, keep, rename, reshape

ATTENTION = keep("blocks.{n}.attn.pool_{p:q|k|v}.weight",
                 "blocks.{n}.attn.norm_{p:q|k|v}.{wb}",
                 "blocks.{n}.attn.rel_pos_{a:h|w}",
                 "blocks.{n}.attn.{p:qkv|proj}.{wb}")
BLOCK = keep("blocks.{n}.norm{i}.{wb}",
             "blocks.{n}.mlp.fc{i}.{wb}")
AROUND = keep("patch_embed.proj.{wb}",
              "cls_token",
              "norm.{wb}")
CANONICAL = [*ATTENTION, *BLOCK, *keep("blocks.{n}.proj.{wb}"), *AROUND]

# facebookresearch/mvit mvit/models/mvit_model.py, of files under model_state. Its loader squeezes the time axis out of
# convolutions that PySlowFast's video code has trained on images (CHECKPOINT_SQUEEZE_TEMPORAL); so do these rules.
still = reshape("o i h w -> o i h w", "o i 1 h w -> o i h w")
OFFICIAL = Dialect("official", [
    rename("blocks.{n}.attn.pool_{p:q|k|v}.weight",  "blocks.{n}.attn.pool_{p:q|k|v}.weight", still),
    rename("patch_embed.proj.weight",                "patch_embed.proj.weight", still),
    *CANONICAL[1:],
    drop("head.projection.{wb}", "classifier"),
], files=Files(key="model_state"))

# huggingface/pytorch-image-models timm/models/mvitv2.py: blocks are numbered stage by stage, and the projection that
# widens a shortcut is named after where it stands
STAGES = Flat("stages.{s}.blocks.{b}.", "blocks.{n}.", by="attn.proj.weight")
TIMM = Dialect("timm", [
    *ATTENTION,
    *BLOCK,
    rename("blocks.{n}.shortcut_proj_attn.{wb}",     "blocks.{n}.proj.{wb}"),
    *AROUND,
    drop("head.fc.{wb}", "classifier"),
], flat=STAGES)

# mvitv2_large, expand_attn=False: in the perceptron of a stage's last block
TIMM_MLP = Dialect("timm-widen-in-mlp", [
    *ATTENTION,
    *BLOCK,
    rename("blocks.{n}.shortcut_proj_mlp.{wb}",      "blocks.{n}.proj.{wb}"),
    *AROUND,
    drop("head.fc.{wb}", "classifier"),
], flat=STAGES)

DIALECTS = [OFFICIAL, TIMM, TIMM_MLP]
