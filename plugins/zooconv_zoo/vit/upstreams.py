"""The packages that a ViT is held against, each as its authors build it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from zooconv import Upstream, import_package

from .backbone import told
from .family import ViTConfig
from .members import TOY_CLIP, TOY_DINOV2

Shapes = Mapping[str, tuple[int, ...]]
ANY = (True, False)


def need(config: ViTConfig, **given: object) -> None:
    """Raise ValueError for a member that a class cannot make: `given` fields may be one of these, others the usual."""
    for field in fields(config):
        value, wanted = getattr(config, field.name), given.get(field.name, field.default)
        if isinstance(field.default, int) and value not in (wanted if isinstance(wanted, Iterable) else [wanted]):
            raise ValueError(f"its {field.name} is always {wanted}; that of this member is {value}")


def outputs(blocks: Any, run: Callable[[], Tensor]) -> dict[str, Tensor]:
    """What leaves the blocks at the patches, as maps, and all tokens, which `run` makes."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda module, given, out: found.append(out)) for block in blocks]
    tokens = run()
    for hook in hooks:
        hook.remove()
    return {f"block{b}": feature_map(found[b]) for b in told(len(found))} | {"tokens": tokens}


def feature_map(tokens: Tensor) -> Tensor:
    """The patches' tokens, which are the last ones and make a square, as (N, C, H, W)."""
    side = isqrt(tokens.shape[1])
    return tokens[:, -side * side:].transpose(1, 2).reshape(len(tokens), -1, side, side)


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/vision_transformer.py"""

    package = dialect = "timm"

    def spelling(self, config: ViTConfig) -> str:
        return "timm-swiglu" if config.gated else "timm"

    def build(self, config: ViTConfig, shapes: Shapes) -> nn.Module:
        if config.pos_prefix not in (0, config.prefix):
            raise ValueError("it has positions for all tokens or for the patches alone; this member has "
                             f"{config.pos_prefix} besides those of the patches, for {config.prefix} tokens")
        timm = import_package("timm")
        perceptron: Any = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU} if config.gated else {}
        wide = config.hidden * (2 if config.gated else 1)
        module: nn.Module = timm.models.vision_transformer.VisionTransformer(
            img_size=config.patch * config.grid, patch_size=config.patch, embed_dim=config.dim, depth=config.depth,
            num_heads=config.heads, mlp_ratio=(wide + 0.5) / config.dim, qkv_bias=config.qkv_bias,
            init_values=1.0 if config.layerscale else None, class_token=config.class_token,
            reg_tokens=config.registers, no_embed_class=config.pos_prefix == 0, pre_norm=config.pre_norm,
            final_norm=config.norm, fc_norm=False, global_pool="", num_classes=0,
            norm_layer=partial(nn.LayerNorm, eps=config.eps), **perceptron)
        return module

    def follow(self, module: Any, config: ViTConfig) -> None:
        """Without tokens besides the patches, and without the final norm: as ViTDet is."""
        if config.prefix == 0:
            module.pos_embed = nn.Parameter(module.pos_embed[:, -config.grid ** 2:])
            module.cls_token = module.reg_token = None
        if not config.norm:
            module.norm = nn.Identity()

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return outputs(module.blocks, lambda: module.forward_features(images))


def sizes(config: ViTConfig) -> dict[str, Any]:
    """What transformers' configs have in common. Its own eps is 1e-12 in ViT, where the weights saw 1e-6."""
    return {"hidden_size": config.dim, "num_hidden_layers": config.depth, "num_attention_heads": config.heads,
            "image_size": config.patch * config.grid, "patch_size": config.patch, "layer_norm_eps": config.eps}


class Transformers(Upstream):
    """huggingface/transformers models/vit/modeling_vit.py"""

    package, dialect = "transformers", "transformers-5"

    def build(self, config: ViTConfig, shapes: Shapes) -> nn.Module:
        need(config, qkv_bias=ANY)
        package = import_package("transformers")
        module: nn.Module = package.ViTModel(package.ViTConfig(
            **sizes(config), intermediate_size=config.hidden, qkv_bias=config.qkv_bias), add_pooling_layer=False)
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return outputs(module.layers, lambda: module(images).last_hidden_state)


class TransformersMAE(Upstream):
    """huggingface/transformers models/vit_mae/modeling_vit_mae.py, with nothing hidden and in the right order"""

    package, dialect = "transformers", "transformers-5"

    def build(self, config: ViTConfig, shapes: Shapes) -> nn.Module:
        need(config, qkv_bias=ANY)
        package = import_package("transformers")
        module: nn.Module = package.ViTMAEModel(package.ViTMAEConfig(
            **sizes(config), intermediate_size=config.hidden, qkv_bias=config.qkv_bias, mask_ratio=0.0))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        order = torch.arange(module.embeddings.patch_embeddings.num_patches).expand(len(images), -1)
        return outputs(module.layers, lambda: module(images, noise=order).last_hidden_state)


class TransformersDINOv2(Upstream):
    """huggingface/transformers models/dinov2/modeling_dinov2.py, and models/dinov2_with_registers/"""

    package, dialect = "transformers", "transformers-dinov2-5"
    toy = TOY_DINOV2

    def build(self, config: ViTConfig, shapes: Shapes) -> nn.Module:
        need(config, layerscale=True, registers=range(100), gated=ANY, qkv_bias=ANY)
        package = import_package("transformers")
        kind = "Dinov2WithRegisters" if config.registers else "Dinov2"
        more = {"num_register_tokens": config.registers} if config.registers else {}
        module: nn.Module = getattr(package, f"{kind}Model")(getattr(package, f"{kind}Config")(
            **sizes(config), **more, mlp_ratio=ratio(config), use_swiglu_ffn=config.gated, qkv_bias=config.qkv_bias))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return outputs(module.encoder.layer, lambda: module(images).last_hidden_state)


def ratio(config: ViTConfig) -> int:
    """The mlp_ratio of these classes, a whole number. A SwiGLU has two thirds of it, as a multiple of 8."""
    for whole in range(1, 9):
        wide = whole * config.dim
        if config.hidden == ((int(wide * 2 / 3) + 7) // 8 * 8 if config.gated else wide):
            return whole
    raise ValueError(f"no whole mlp_ratio makes {config.hidden} of {config.dim}")


class TransformersCLIP(Upstream):
    """huggingface/transformers models/clip/modeling_clip.py, with GELU for its own QuickGELU"""

    package, dialect = "transformers", "transformers-clip"
    toy = TOY_CLIP

    def build(self, config: ViTConfig, shapes: Shapes) -> nn.Module:
        need(config, pre_norm=True)
        package = import_package("transformers")
        module: nn.Module = package.CLIPVisionModel(package.CLIPVisionConfig(
            **sizes(config), intermediate_size=config.hidden, hidden_act="gelu"))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        return outputs(module.encoder.layers, lambda: module.post_layernorm(module(images).last_hidden_state))


class Torchvision(Upstream):
    """pytorch/vision torchvision/models/vision_transformer.py"""

    package = dialect = "torchvision"

    def build(self, config: ViTConfig, shapes: Shapes) -> nn.Module:
        need(config)
        module = import_package("torchvision").models.vision_transformer.VisionTransformer(
            config.patch * config.grid, config.patch, config.depth, config.heads, config.dim, config.hidden)
        module.heads = nn.Identity()
        return module  # type: ignore[no-any-return]

    def inside(self, name: str) -> str:
        return name.replace("mlp.linear_1.", "mlp.0.").replace("mlp.linear_2.", "mlp.3.")

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        token = module.class_token.expand(len(images), -1, -1)
        patches = module.conv_proj(images).flatten(2).transpose(1, 2)
        return outputs(module.encoder.layers, lambda: module.encoder(torch.cat([token, patches], 1)))
