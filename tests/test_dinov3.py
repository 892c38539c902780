"""DINOv3's ViTs: the real modules are recognised, and neighbours are not; biases that keys have not; positions.

The toy of the test kit has a plain perceptron and biases. Members with a gated one, and without, are proved here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from zooconv_zoo.dinov3 import FAMILY
from zooconv_zoo.dinov3 import backbone as reference
from zooconv_zoo.dinov3.backbone import DINOv3ViT
from zooconv_zoo.dinov3.family import TOY, TOY_GATED, VARIANTS
from zooconv_zoo.dinov3.upstreams import Timm, uncached

from zooconv import CheckFailed, convert
from zooconv.names import resolve
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import import_package
from zooconv.zoo import zoo

DIALECTS = {d.name: d for d in FAMILY.dialects}
BARE = replace(TOY, qkv_bias=False)
BARE_GATED = replace(TOY_GATED, qkv_bias=False)
KEYS = ("rope_embed.periods", "mask_token", "local_cls_norm.weight", "local_cls_norm.bias")


def headers(state):
    return {name: TensorSpec(name, tuple(tensor.shape)) for name, tensor in state.items()}


def read(tensors):
    """What these tensors are taken for: family, dialect, variant."""
    found = recognise(headers(tensors), families(), what="x")
    return found.family.name, found.dialect.name, found.variant


def official(config=TOY, dtype=np.float32):
    """A file as facebookresearch/dinov3 publishes it: with a mask for the bias, and what only training needs."""
    arrays = spelled(DIALECTS["official"], lively_weights(FAMILY, config))
    for b in range(config.depth if config.qkv_bias else 0):
        ones = np.ones(config.dim, np.float32)
        arrays[f"blocks.{b}.attn.qkv.bias_mask"] = np.concatenate([ones, 0 * ones, ones])
    shapes = ((config.dim // config.heads // 4,), (1, config.dim), (config.dim,), (config.dim,))
    arrays |= {name: random_array(name, shape) for name, shape in zip(KEYS, shapes, strict=True)}
    return {name: array.astype(dtype) for name, array in arrays.items()}


# -- the packages' own modules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_timms_own_models_are_recognised(variant, timm):
    size = variant.removesuffix("_qkvb")
    kind = "lingbot" if size == "giant" else "dinov3" + variant.removeprefix(size)
    with torch.device("meta"):
        module = timm.create_model(f"vit_{size}_patch16_{kind}", num_classes=7)
    config = VARIANTS[variant]
    assert read(module.state_dict()) == ("dinov3", "timm-gated" if config.gated else "timm", variant)
    assert (module.blocks[0].attn.num_heads, module.norm.eps) == (config.heads, config.eps)  # which no tensor tells


@pytest.mark.parametrize("variant", ["small_qkvb", "small_plus_qkvb", "large_qkvb", "7b"])
def test_transformers_own_models_are_recognised_in_memory_and_on_the_hub(variant):
    package, config = import_package("transformers"), VARIANTS[variant]
    with torch.device("meta"):
        state = package.DINOv3ViTBackbone(package.DINOv3ViTConfig(
            hidden_size=config.dim, num_hidden_layers=config.depth, num_attention_heads=config.heads,
            intermediate_size=config.hidden, use_gated_mlp=config.gated, query_bias=config.qkv_bias,
            value_bias=config.qkv_bias, num_register_tokens=config.storage)).state_dict()
    kind = "-gated" if config.gated else ""
    assert read(state) == ("dinov3", f"transformers-5{kind}", variant)
    hub = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    assert read(hub) == ("dinov3", f"transformers{kind}", variant)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_small_patch14_reg4_dinov2", "beit_base_patch16_224",
                                  "vit_betwixt_patch16_rope_reg4_gap_256", "vit_small_patch16_rope_224"])
def test_its_neighbours_are_not_taken_for_it(name, timm):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    try:
        found = read(state)[0]
    except CheckFailed:
        found = None
    assert found != "dinov3"


def test_sapiens_is_refused_with_the_reason(timm):
    with torch.device("meta"):
        state = timm.create_model("vit_base_patch16_sapiens2").state_dict()
    with pytest.raises(CheckFailed, match="is not a DINOv3 ViT") as caught:
        recognise(headers(state), families(), what="x", layout="vitdet")
    assert "share keys" in caught.value.why[0]


def test_a_norm_of_its_own_for_the_class_token_is_refused():
    norm = {f"cls_norm.{kind}": np.ones(TOY.dim, np.float32) for kind in ("weight", "bias")}
    with pytest.raises(CheckFailed) as caught:
        read(official() | norm)
    assert "untie_cls_and_patch_norms" in caught.value.why[0]


def test_a_position_embedding_is_no_part_of_it():
    with pytest.raises(CheckFailed, match="nearly a DINOv3 ViT") as caught:
        read(official() | {"pos_embed": random_array("pos_embed", (1, 197, TOY.dim))})
    assert caught.value.why == ("unexpected  pos_embed",)


# -- the bias that keys have not -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TOY, TOY_GATED, BARE_GATED], ids=["plain", "gated", "no bias"])
@pytest.mark.parametrize("layout", ["d2", "vitdet"])
def test_every_dialect_becomes_the_same_file(config, layout, work):
    first = convert(save_pth(work / "official.pth", official(config), wrapper=None), layout=layout, load_check=False)
    assert KEYS[0] in first.data["dropped"]
    assert len(first.data["dropped"]) == 4 + (config.depth if config.qkv_bias else 0)
    kind = "-gated" if config.gated else ""
    for name in (f"timm{kind}", f"transformers{kind}", f"transformers-5{kind}"):
        path = save_safetensors(work / f"{name}.safetensors",
                                spelled(DIALECTS[name], lively_weights(FAMILY, config)))
        assert convert(path, layout=layout, load_check=False).written.file.sha256 == first.written.file.sha256


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_the_zeros_of_keys_go_and_come_back_in_every_type(dtype, work):
    done = convert(save_pth(work / "official.pth", official(dtype=dtype)), load_check=False)
    assert "backbone.blocks.0.attn.q_bias" in done.certificate.targets
    back = done.certificate.sources["blocks.0.attn.qkv.bias"].back
    assert [part["fill"] for part in back["cat"] if isinstance(part, dict)] == [0.0]


@pytest.mark.parametrize("value", [1e-30, -0.0, np.nan])
def test_a_bias_of_keys_that_is_not_zero_is_not_lost_without_a_word(value, work):
    arrays = official()
    arrays["blocks.1.attn.qkv.bias"][TOY.dim + 3] = value
    with pytest.raises(CheckFailed, match="cannot be had back") as caught:
        convert(save_pth(work / "official.pth", arrays), load_check=False)
    assert caught.value.why[0].startswith("blocks.1.attn.qkv.bias: cat(backbone.blocks.1.attn.q_bias, 0 everywhere")
    assert not list(work.glob("**/*.cert.json"))


# -- what it computes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("against", ["timm", "transformers"])
@pytest.mark.parametrize("config", [TOY_GATED, BARE, BARE_GATED], ids=["gated", "no bias", "gated, no bias"])
def test_the_other_kinds_compute_what_each_upstream_computes(config, against, work):
    parity, faults, score = prove(FAMILY, config, against, work, most=50)
    assert (parity.passed, faults, score.survivors, score.unreached) == (True, [], [], [])
    assert parity.spelled == against + ("-gated" if config.gated else "") + " names"
    assert (parity.skipped, parity.unseen) == ({}, ())


@pytest.mark.parametrize("wrong", [
    lambda right, h, w, c: right(w, h, c), lambda right, h, w, c: -right(h, w, c),
    lambda right, h, w, c: right(h, w, c).float().double()], ids=["transposed", "backwards", "in float32"])
def test_other_positions_are_noticed(wrong, work, monkeypatch):
    right = reference.angles
    monkeypatch.setattr(reference, "angles", lambda h, w, c: wrong(right, h, w, c))
    assert not prove(FAMILY, TOY, "timm", work, most=1)[0].passed


@torch.no_grad()
def test_what_transformers_has_kept_of_positions_is_neither_used_nor_changed():
    package = import_package("transformers")
    module = package.models.dinov3_vit.modeling_dinov3_vit
    asked = {"dtype": torch.float32, "device": torch.device("cpu")}
    before = module.get_patches_center_coordinates(5, 7, **asked)
    with uncached():
        assert module.get_patches_center_coordinates(5, 7, **asked) is not before
    assert module.get_patches_center_coordinates(5, 7, **asked) is before


@torch.no_grad()
def test_features_are_timms(work):
    """The real file of the real module on the whole road, in single precision, compared by no code of the tool."""
    torch.manual_seed(0)
    theirs = Timm().build(TOY, {}).float().eval()
    for name, tensor in theirs.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape) * 0.2 + name.endswith(("norm1.weight", "norm2.weight", "norm.weight")))
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    done = convert(save_safetensors(work / "model.safetensors", arrays), layout="vitdet", load_check=False)
    state = {n.removeprefix("backbone.net."): t for n, t in torch.load(done.path)["model"].items()}
    ours = DINOv3ViT(TOY, out_features=("block0", "last_feat")).eval()
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 80, 48)
    for name, found in zip(ours.out_features, (theirs.forward_intermediates(images, indices=[0])[1][0],
                                               theirs.forward_intermediates(images, norm=True)[1][1]), strict=True):
        assert torch.allclose(ours(images)[name], found, atol=1e-5, rtol=1e-4)


def test_the_reference_backbone_is_configured_as_others_are():
    module = DINOv3ViT(TOY, out_features=("block0", "last_feat"), drop_path=0.1, checkpointing=True).freeze(2)
    shapes = {name: (shape.channels, shape.stride) for name, shape in module.output_shape().items()}
    assert shapes == {"block0": (16, 16), "last_feat": (16, 16)}
    learning = {name.split(".")[0] + name[6:9] * name.startswith("blocks") for name, p in module.named_parameters()
                if p.requires_grad}
    assert learning == {"blocks.1.", "norm"}
    found = module.train()(torch.zeros(1, 3, 62, 90))  # a border that is not a multiple of 16 is padded
    assert {name: tuple(f.shape) for name, f in found.items()} == dict.fromkeys(shapes, (1, 16, 4, 6))
    found["last_feat"].sum().backward()
    assert module.blocks[1].attn.q_bias.grad is not None


# -- the zoo ---------------------------------------------------------------------------------------------------------


def test_every_published_model_of_timm_is_in_the_zoo(timm):
    known = {model.repo.split("/")[1] for model in zoo().models}
    assert set(timm.list_pretrained("vit_*_dinov3*") + timm.list_pretrained("*lingbot*")) <= known


def test_satellite_models_are_normalised_as_they_were_trained():
    assert zoo().find(resolve("dinov3_vitl16_pretrain_sat493m", zoo()).name).mean == (0.430, 0.411, 0.296)
