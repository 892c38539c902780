"""The packages that a DINOv3 ViT is held against, each as its authors build it.

Both compute positions in float32, by name: in a proof in double precision this alone would cost 1e-7. So here they
are asked for them in float64 while the images are float64; the code that runs is theirs all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zooconv import Upstream, import_package

from .family import PATCH, DINOv3Config

Shapes = Mapping[str, tuple[int, ...]]


class Double(TorchFunctionMode):
    """Where a function of torch is told `dtype=torch.float32`, it is told float64."""

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        return function(*args, **given)


def as_exact_as(images: Tensor) -> AbstractContextManager[Any]:
    """Positions in float64 for images in float64."""
    return Double() if images.dtype == torch.float64 else nullcontext()


def outputs(blocks: Sequence[Tensor], last: Tensor, images: Tensor) -> dict[str, Tensor]:
    """Tokens (N, tokens, C), of every block and behind the final norm, under the reference backbone's names."""
    height, width = (size // PATCH for size in images.shape[2:])

    def as_map(tokens: Tensor) -> Tensor:
        return tokens[:, -height * width:].transpose(1, 2).reshape(len(tokens), -1, height, width)

    found = {f"block{i}": as_map(tokens) for i, tokens in enumerate(blocks)}
    return found | {"last_feat": as_map(last), "class_token": last[:, 0]}


class Timm(Upstream):
    """huggingface/pytorch-image-models timm/models/eva.py, built as its vit_*_dinov3 and _qkvb are"""

    package = dialect = "timm"

    def spelling(self, config: DINOv3Config) -> str:
        return "timm-gated" if config.gated else "timm"

    def build(self, config: DINOv3Config, shapes: Shapes) -> nn.Module:
        eps = config.eps
        eva = import_package("timm").models.eva
        with Double():
            module: nn.Module = eva.Eva(
                dynamic_img_size=True, embed_dim=config.dim, depth=config.depth, num_heads=config.heads,
                qkv_bias=config.qkv_bias, init_values=1e-5, rope_type="dinov3", rope_temperature=100,
                rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False, num_reg_tokens=config.storage,
                mlp_ratio=(config.hidden + 0.5) / config.dim,  # of which it takes the floor
                swiglu_mlp=config.gated, swiglu_align_to=8, use_fc_norm=False, num_classes=0,
                norm_layer=lambda dim, **options: eva.LayerNorm(dim, eps=eps, **options))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        with as_exact_as(images):
            last, found = module.forward_intermediates(images, output_fmt="NLC")
        return outputs(found, last, images)


class Transformers(Upstream):
    """huggingface/transformers models/dinov3_vit/modeling_dinov3_vit.py"""

    package = dialect = "transformers"

    def spelling(self, config: DINOv3Config) -> str:
        return "transformers-gated" if config.gated else "transformers"

    def inside(self, name: str) -> str:
        return f"model.{name}" if name.startswith("layer.") else name

    def build(self, config: DINOv3Config, shapes: Shapes) -> nn.Module:
        package = import_package("transformers")
        with Double():
            module: nn.Module = package.DINOv3ViTModel(package.DINOv3ViTConfig(
                hidden_size=config.dim, num_hidden_layers=config.depth, num_attention_heads=config.heads,
                intermediate_size=config.hidden, use_gated_mlp=config.gated, query_bias=config.qkv_bias,
                value_bias=config.qkv_bias, hidden_act="silu" if config.gated else "gelu", layer_norm_eps=config.eps,
                num_register_tokens=config.storage))
        return module

    def outputs(self, module: Any, images: Tensor) -> dict[str, Tensor]:
        with as_exact_as(images), uncached():
            found = module(images, output_hidden_states=True)
        return outputs(found.hidden_states[1:], found.last_hidden_state, images)


@contextmanager
def uncached() -> Iterator[None]:
    """Let transformers compute the places of patches anew: it keeps what it was asked for before, in any precision."""
    code: Any = import_module("transformers.models.dinov3_vit.modeling_dinov3_vit")
    kept = code.get_patches_center_coordinates
    code.get_patches_center_coordinates = kept.__wrapped__
    try:
        yield
    finally:
        code.get_patches_center_coordinates = kept
