"""How each upstream spells a ViT. Left: its name; right: the canonical one."""

from __future__ import annotations

from typing import Any

from zooconv import Dialect, Files, cat, drop, keep, merge, rename, reshape

from .members import TOY_CLIP, TOY_DINOV2, TOY_SWIGLU

BLOCK = ("blocks.{b}.norm{n}.{wb}",
         "blocks.{b}.attn.qkv.{wb}",
         "blocks.{b}.attn.proj.{wb}",
         "blocks.{b}.ls{n}.gamma")

CANONICAL = keep(
    "patch_embed.proj.{wb}",
    "cls_token",
    "pos_embed",
    "register_tokens",
    "norm_pre.{wb}",
    *BLOCK,
    "blocks.{b}.mlp.fc{n}.{wb}",
    "blocks.{b}.mlp.w{n:12|3}.{wb}",
    "norm.{wb}",
)

CLASSIFIER = [
    drop("head.{wb}", "classifier"),
    drop("pre_logits.fc.{wb}", "classifier"),
    drop("fc_norm.{wb}", "norm of the pooled patches: the classifier's"),
]
MASK = drop("{m:mask_token|embeddings.mask_token}", "of masked pretraining")


def qkv(block: str, parts: tuple[str, str, str]) -> Any:
    """Queries, keys and values, which are one layer in the canonical naming."""
    return merge([f"{block}.{part}.{{wb}}" for part in parts], "blocks.{b}.attn.qkv.{wb}", cat(axis=0))


# huggingface/pytorch-image-models timm/models/vision_transformer.py and deit.py. The official files of MAE and DeiT
# have these names, too: their classes are made of timm's.
TIMM = Dialect("timm", [
    *keep("patch_embed.proj.{wb}",
          "cls_token",
          "pos_embed",
          "norm_pre.{wb}",
          *BLOCK,
          "blocks.{b}.mlp.fc{n}.{wb}",
          "norm.{wb}"),
    rename("reg_token",                                 "register_tokens"),
    *CLASSIFIER,
])

# the same with timm/layers/mlp.py: SwiGLUPacked. The names are those of a plain perceptron; shapes tell the two apart.
TIMM_SWIGLU = Dialect("timm-swiglu", [
    *keep("patch_embed.proj.{wb}",
          "cls_token",
          "pos_embed",
          "norm_pre.{wb}",
          *BLOCK,
          "norm.{wb}"),
    rename("blocks.{b}.mlp.fc1.{wb}",                   "blocks.{b}.mlp.w12.{wb}"),
    rename("blocks.{b}.mlp.fc2.{wb}",                   "blocks.{b}.mlp.w3.{wb}"),
    rename("reg_token",                                 "register_tokens"),
    *CLASSIFIER,
], toy=TOY_SWIGLU)

# facebookresearch/dinov2 dinov2/models/vision_transformer.py; facebookresearch/mae models_mae.py, with its decoder.
# gamma_1 and gamma_2 are kept for `infer` to refuse: they are no member's.
OFFICIAL = Dialect("official", [
    *CANONICAL,
    *keep("blocks.{b}.gamma_{n}"),
    MASK,
    drop("decoder_pos_embed", "decoder of masked pretraining"),
    drop("decoder_{d:embed|norm|pred}.{wb}", "decoder of masked pretraining"),
    drop("decoder_blocks.{b}.norm{n}.{wb}", "decoder of masked pretraining"),
    drop("decoder_blocks.{b}.{d:attn.qkv|attn.proj|mlp.fc1|mlp.fc2}.{wb}", "decoder of masked pretraining"),
    *CLASSIFIER,
], files=Files(key=""))

# dinov2/models/vision_transformer.py: BlockChunk, as its training leaves it, under "teacher.backbone.": blocks stand in
# chunks (block_chunks: at most 4 in dinov2/configs), but keep the numbers that they have in all
CHUNKS = Dialect("dinov2-chunks", [
    *(rename(name.replace("blocks.", f"blocks.{chunk}."), name) for chunk in range(4)
      for name in (*BLOCK, "blocks.{b}.mlp.fc{n}.{wb}", "blocks.{b}.mlp.w{n:12|3}.{wb}")),
    *keep("patch_embed.proj.{wb}", "cls_token", "pos_embed", "register_tokens", "norm.{wb}"),
    MASK,
], toy=TOY_DINOV2, files=Files(key="teacher"))

# huggingface/transformers models/vit/modeling_vit.py and vit_mae/modeling_vit_mae.py, as files on the hub have it:
# bare, or under "vit.", the decoder of ViTMAEForPreTraining beside it. facebook/deit-* without distillation are ViTs.
_HF = "encoder.layer.{b}"
TRANSFORMERS = Dialect("transformers", [
    rename("embeddings.patch_embeddings.projection.{wb}",   "patch_embed.proj.{wb}"),
    rename("embeddings.cls_token",                          "cls_token"),
    rename("embeddings.position_embeddings",                "pos_embed"),
    rename(f"{_HF}.layernorm_before.{{wb}}",                "blocks.{b}.norm1.{wb}"),
    qkv(f"{_HF}.attention.attention", ("query", "key", "value")),
    rename(f"{_HF}.attention.output.dense.{{wb}}",          "blocks.{b}.attn.proj.{wb}"),
    rename(f"{_HF}.layernorm_after.{{wb}}",                 "blocks.{b}.norm2.{wb}"),
    rename(f"{_HF}.intermediate.dense.{{wb}}",              "blocks.{b}.mlp.fc1.{wb}"),
    rename(f"{_HF}.output.dense.{{wb}}",                    "blocks.{b}.mlp.fc2.{wb}"),
    rename("layernorm.{wb}",                                "norm.{wb}"),
    MASK,
    drop("pooler.dense.{wb}", "pooler, of the classifier"),
    drop("classifier.{wb}", "classifier"),
])

# the same in memory since version 5, as `torch.save(model.state_dict())` leaves it
TRANSFORMERS_5 = Dialect("transformers-5", [
    rename("embeddings.patch_embeddings.projection.{wb}",   "patch_embed.proj.{wb}"),
    rename("embeddings.cls_token",                          "cls_token"),
    rename("embeddings.position_embeddings",                "pos_embed"),
    rename("layers.{b}.layernorm_before.{wb}",              "blocks.{b}.norm1.{wb}"),
    qkv("layers.{b}.attention", ("q_proj", "k_proj", "v_proj")),
    rename("layers.{b}.attention.o_proj.{wb}",              "blocks.{b}.attn.proj.{wb}"),
    rename("layers.{b}.layernorm_after.{wb}",               "blocks.{b}.norm2.{wb}"),
    rename("layers.{b}.mlp.fc{n}.{wb}",                     "blocks.{b}.mlp.fc{n}.{wb}"),
    rename("layernorm.{wb}",                                "norm.{wb}"),
    MASK,
    drop("pooler.dense.{wb}", "pooler, of the classifier"),
    drop("classifier.{wb}", "classifier"),
])


def transformers_dinov2(name: str, *layers: Any) -> Dialect:
    """huggingface/transformers models/dinov2/modeling_dinov2.py and dinov2_with_registers/, under "dinov2." or bare."""
    return Dialect(name, [
        rename("embeddings.patch_embeddings.projection.{wb}",   "patch_embed.proj.{wb}"),
        rename("embeddings.cls_token",                          "cls_token"),
        rename("embeddings.position_embeddings",                "pos_embed"),
        rename("embeddings.register_tokens",                    "register_tokens"),
        rename(f"{_HF}.norm{{n}}.{{wb}}",                       "blocks.{b}.norm{n}.{wb}"),
        rename(f"{_HF}.layer_scale{{n}}.lambda1",               "blocks.{b}.ls{n}.gamma"),
        rename(f"{_HF}.mlp.fc{{n}}.{{wb}}",                     "blocks.{b}.mlp.fc{n}.{wb}"),
        *layers,
        rename("layernorm.{wb}",                                "norm.{wb}"),
        MASK,
        drop("classifier.{wb}", "classifier"),
    ], toy=TOY_DINOV2)


TRANSFORMERS_DINOV2 = transformers_dinov2(
    "transformers-dinov2",
    qkv(f"{_HF}.attention.attention", ("query", "key", "value")),
    rename(f"{_HF}.attention.output.dense.{{wb}}",              "blocks.{b}.attn.proj.{wb}"),
    rename(f"{_HF}.mlp.weights_in.{{wb}}",                      "blocks.{b}.mlp.w12.{wb}"),
    rename(f"{_HF}.mlp.weights_out.{{wb}}",                     "blocks.{b}.mlp.w3.{wb}"),
)

# in memory since version 5; a SwiGLU's halves are two layers there
TRANSFORMERS_DINOV2_5 = transformers_dinov2(
    "transformers-dinov2-5",
    qkv(f"{_HF}.attention", ("q_proj", "k_proj", "v_proj")),
    rename(f"{_HF}.attention.o_proj.{{wb}}",                    "blocks.{b}.attn.proj.{wb}"),
    merge([f"{_HF}.mlp.{part}_proj.{{wb}}" for part in ("gate", "up")], "blocks.{b}.mlp.w12.{wb}", cat(axis=0)),
    rename(f"{_HF}.mlp.down_proj.{{wb}}",                       "blocks.{b}.mlp.w3.{wb}"),
)

class_token = reshape("c -> 1 1 c")
positions = reshape("n c -> 1 n c")

# huggingface/transformers models/clip/modeling_clip.py: CLIPVisionModel, under "vision_model." on the hub
TRANSFORMERS_CLIP = Dialect("transformers-clip", [
    rename("embeddings.patch_embedding.weight",             "patch_embed.proj.weight"),
    rename("embeddings.class_embedding",                    "cls_token", class_token),
    rename("embeddings.position_embedding.weight",          "pos_embed", positions),
    rename("pre_layrnorm.{wb}",                             "norm_pre.{wb}"),
    rename("encoder.layers.{b}.layer_norm{n}.{wb}",         "blocks.{b}.norm{n}.{wb}"),
    qkv("encoder.layers.{b}.self_attn", ("q_proj", "k_proj", "v_proj")),
    rename("encoder.layers.{b}.self_attn.out_proj.{wb}",    "blocks.{b}.attn.proj.{wb}"),
    rename("encoder.layers.{b}.mlp.fc{n}.{wb}",             "blocks.{b}.mlp.fc{n}.{wb}"),
    rename("post_layernorm.{wb}",                           "norm.{wb}"),
    drop("embeddings.position_ids", "they count the positions"),
], toy=TOY_CLIP)

# openai/CLIP clip/model.py and mlfoundations/open_clip src/open_clip/transformer.py: VisionTransformer, under
# "visual.", the text tower beside it
OPENAI = Dialect("openai", [
    rename("conv1.weight",                                  "patch_embed.proj.weight"),
    rename("class_embedding",                               "cls_token", class_token),
    rename("positional_embedding",                          "pos_embed", positions),
    rename("ln_pre.{wb}",                                   "norm_pre.{wb}"),
    rename("transformer.resblocks.{b}.ln_{n}.{wb}",         "blocks.{b}.norm{n}.{wb}"),
    rename("transformer.resblocks.{b}.attn.in_proj_{wb}",   "blocks.{b}.attn.qkv.{wb}"),
    rename("transformer.resblocks.{b}.attn.out_proj.{wb}",  "blocks.{b}.attn.proj.{wb}"),
    rename("transformer.resblocks.{b}.mlp.c_fc.{wb}",       "blocks.{b}.mlp.fc1.{wb}"),
    rename("transformer.resblocks.{b}.mlp.c_proj.{wb}",     "blocks.{b}.mlp.fc2.{wb}"),
    rename("ln_post.{wb}",                                  "norm.{wb}"),
    drop("proj", "projection to where images and texts meet"),
], toy=TOY_CLIP, files=Files(key=""))

# pytorch/vision torchvision/models/vision_transformer.py; perceptrons of files before version 0.13 have linear_1 and 2
TORCHVISION = Dialect("torchvision", [
    rename("conv_proj.{wb}",                                            "patch_embed.proj.{wb}"),
    rename("class_token",                                               "cls_token"),
    rename("encoder.pos_embedding",                                     "pos_embed"),
    rename("encoder.layers.encoder_layer_{b}.ln_{n}.{wb}",              "blocks.{b}.norm{n}.{wb}"),
    rename("encoder.layers.encoder_layer_{b}.self_attention.in_proj_{wb}",  "blocks.{b}.attn.qkv.{wb}"),
    rename("encoder.layers.encoder_layer_{b}.self_attention.out_proj.{wb}", "blocks.{b}.attn.proj.{wb}"),
    rename("encoder.layers.encoder_layer_{b}.mlp.0.{wb}",               "blocks.{b}.mlp.fc1.{wb}"),
    rename("encoder.layers.encoder_layer_{b}.mlp.3.{wb}",               "blocks.{b}.mlp.fc2.{wb}"),
    rename("encoder.layers.encoder_layer_{b}.mlp.linear_{n}.{wb}",      "blocks.{b}.mlp.fc{n}.{wb}"),
    rename("encoder.ln.{wb}",                                           "norm.{wb}"),
    drop("heads.{h:head|pre_logits}.{wb}", "classifier"),
])

# open-mmlab/mmpretrain mmpretrain/models/backbones/vision_transformer.py, usually under "backbone."
OPENMMLAB = Dialect("openmmlab", [
    rename("patch_embed.projection.{wb}",                   "patch_embed.proj.{wb}"),
    *keep("cls_token", "pos_embed"),
    rename("pre_norm.{wb}",                                 "norm_pre.{wb}"),
    rename("layers.{b}.ln{n}.{wb}",                         "blocks.{b}.norm{n}.{wb}"),
    *(rename(f"layers.{{b}}.attn.{part}.{{wb}}",            f"blocks.{{b}}.attn.{part}.{{wb}}")
      for part in ("qkv", "proj")),
    rename("layers.{b}.attn.gamma1.weight",                 "blocks.{b}.ls1.gamma"),
    rename("layers.{b}.ffn.layers.0.0.{wb}",                "blocks.{b}.mlp.fc1.{wb}"),
    rename("layers.{b}.ffn.layers.1.{wb}",                  "blocks.{b}.mlp.fc2.{wb}"),
    rename("layers.{b}.ffn.w{n:12|3}.{wb}",                 "blocks.{b}.mlp.w{n:12|3}.{wb}"),
    rename("layers.{b}.ffn.gamma2.weight",                  "blocks.{b}.ls2.gamma"),
    rename("ln1.{wb}",                                      "norm.{wb}"),
    drop("ln2.{wb}", "norm of the pooled patches: the classifier's"),
    drop("mask_token", "of masked pretraining"),
])

DIALECTS = [TIMM, TIMM_SWIGLU, OFFICIAL, CHUNKS, TRANSFORMERS, TRANSFORMERS_5, TRANSFORMERS_DINOV2,
            TRANSFORMERS_DINOV2_5, TRANSFORMERS_CLIP, OPENAI, TORCHVISION, OPENMMLAB]
