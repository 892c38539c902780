"""ViT: Detectron2's names, every upstream's real modules, what is refused, and a backbone as users expect it."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import DATA
from zooconv_zoo.vit import FAMILY
from zooconv_zoo.vit.backbone import ViT, build, told
from zooconv_zoo.vit.dialects import OFFICIAL
from zooconv_zoo.vit.members import TOY, TOY_CLIP, TOY_DINOV2, TOY_SWIGLU, VARIANTS

from zooconv import convert
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import Leaf
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.mapping.template import Template
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, random_weights, save_pth, spelled
from zooconv.testing.prove import main, prove
from zooconv.upstream import import_package
from zooconv.zoo import zoo

DIALECTS = {d.name: d for d in FAMILY.dialects}
MANIFESTS = DATA / "manifests" / "vit"
TOYS = {"plain": TOY, "CLIP": TOY_CLIP, "DINOv2 with registers": TOY_DINOV2, "SwiGLU": TOY_SWIGLU}


def specs(tensors):
    return {n: TensorSpec(n, tuple(t.shape), "I64" if t.dtype in (torch.int64, np.int64) else "F32")
            for n, t in tensors.items()}


def recognised(module, what="x", **options):
    return recognise(specs(module.state_dict()), families(), what=what, **options)


def on_meta(make, *arguments, **options):
    with torch.device("meta"):
        return make(*arguments, **options)


def tensors_of(config):
    return {name: torch.from_numpy(array) for name, array in lively_weights(FAMILY, config).items()}


# -- Detectron2's names ------------------------------------------------------------------------------------------------


def manifest(name):
    return json.loads(gzip.decompress((MANIFESTS / f"{name}.json.gz").read_bytes()))["keys"]


def planned(layout, config):
    return make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(config)), chosen_layout(FAMILY, layout), fresh=True)


def test_the_layout_devit_is_what_its_class_holds():
    wanted = {n: {"shape": k["shape"], "dtype": k["dtype"]} for n, k in manifest("devit-dinov2-dinov2_vits14").items()}
    made, other = ({t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in planned(
        "devit", VARIANTS[f"{size}_p14_518_dinov2"]).targets} for size in ("small", "base"))
    assert made == wanted
    assert other != wanted
    assert planned("devit", VARIANTS["small_p14_518_dinov2"]).fresh == ["backbone.mask_token"]


@pytest.mark.parametrize("variant", ["giant2_p14_518_dinov2", "small_p14_518_dinov2_reg4", "small_p16_224"])
def test_devit_refuses_what_it_cannot_build(variant):
    told_why = chosen_layout(FAMILY, "devit").refusal(VARIANTS[variant])
    assert "small, base and large, without registers, at 518 pixels" in told_why


@pytest.mark.parametrize("pos_prefix", [1, 0])
def test_what_vitdet_holds_is_a_member_of_the_family(pos_prefix):
    """No class token, but its position or not; no final norm. Relative positions and the pyramid begin anew."""
    config = replace(VARIANTS["base_p16_224"], class_token=False, norm=False, pos_prefix=pos_prefix)
    table = {spec.name: spec.shape for spec in FAMILY.tensors(config)}
    held = {n.removeprefix("backbone.net."): tuple(k["shape"]) for n, k in manifest("d2-vitdet-vitdet_b").items()
            if n.startswith("backbone.net.") and "rel_pos" not in n}
    assert held == table | {"pos_embed": (1, 197, 768)}
    found = recognise(FAMILY.table(config), families(), what="x")
    assert (found.family, found.config) == (FAMILY, config)


# -- the upstreams' own modules ----------------------------------------------------------------------------------------

TIMM = {  # a member of each kind; the slow test has all
    "vit_tiny_patch16_224": "tiny_p16_224", "vit_base_patch32_224": "base_p32_224",
    "deit_base_patch16_384": "base_p16_384", "deit3_medium_patch16_224": "medium_p16_224_deit3",
    "flexivit_small": "small_p16_240_flexi", "eva_large_patch14_196": "large_p14_196_pooled",
    "vit_base_patch16_224_miil": "base_p16_224_miil", "vit_intern300m_patch14_448": "large_p14_448_intern",
    "vit_base_patch16_radio_v3": "base_p16_512_radio_ls", "vit_xsmall_patch16_clip_224": "xsmall_p16_224_clip",
    "vit_huge_patch14_clip_quickgelu_378": "huge_p14_378_clip", "vit_small_patch14_dinov2": "small_p14_518_dinov2",
    "vit_giant_patch14_dinov2": "giant2_p14_518_dinov2",
    "vit_small_patch14_reg4_dinov2": "small_p14_518_dinov2_reg4_timm",
    "vit_so400m_patch14_siglip_gap_384": "so400m_p14_378_gap", "vit_medium_patch16_gap_240": "medium_p16_240_gap_ls",
    "vit_wee_patch16_reg1_gap_256": "wee_p16_256_gap_reg1",
    "vit_so150m2_patch16_reg1_gap_256": "so150m2_p16_256_gap_reg1_pos",
    "vit_so150m_patch16_reg4_gap_256": "so150m_p16_256_gap_reg4_pos",
}


def check_timm(name, variant, timm):
    module = on_meta(timm.create_model, name, num_classes=7)
    found = recognised(module)
    gated = "-swiglu" if VARIANTS[variant].gated else ""
    assert (found.family, found.dialect.name, found.variant) == (FAMILY, f"timm{gated}", variant)
    assert found.config.heads == module.blocks[0].attn.num_heads
    assert found.config.eps == module.blocks[0].norm1.eps
    assert {n for n, why in found.dropped.items() if why == "classifier"} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", TIMM)
def test_timms_models_are_recognised_with_their_heads_and_epsilon(name, timm):
    check_timm(name, TIMM[name], timm)


@pytest.mark.slow
def test_every_one_of_timms_rows_is_what_its_file_would_be(timm):
    rows = [model for model in zoo().models if model.family == "vit" and model.repo.startswith("timm/")]
    members = {model.repo.split("/")[1].split(".")[0]: model.variant for model in rows}
    assert len(members) > 100
    for name, variant in members.items():
        check_timm(name, variant, timm)


def in_transformers(kind, config_kind, **options):
    package = import_package("transformers")
    return on_meta(getattr(package, kind), getattr(package, config_kind)(**options))


LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}


@pytest.mark.parametrize(("kind", "config", "options", "dialect", "prefix", "variant"), [
    ("ViTModel", "ViTConfig", {}, "transformers-5", "", "base_p16_224"),
    ("ViTForImageClassification", "ViTConfig", {"image_size": 384, "patch_size": 32}, "transformers-5", "vit.",
     "base_p32_384"),
    ("ViTMAEForPreTraining", "ViTMAEConfig", LARGE | {"intermediate_size": 4096}, "transformers-5", "vit.",
     "large_p16_224"),
    ("CLIPVisionModel", "CLIPVisionConfig", {}, "transformers-clip", "", "base_p32_224_clip"),
    ("CLIPVisionModelWithProjection", "CLIPVisionConfig", LARGE | {"intermediate_size": 4096, "patch_size": 14},
     "transformers-clip", "vision_model.", "large_p14_224_clip"),
    ("CLIPModel", "CLIPConfig", {}, "transformers-clip", "vision_model.", "base_p32_224_clip"),
    ("Dinov2Model", "Dinov2Config", {"image_size": 518, "patch_size": 14}, "transformers-dinov2-5", "",
     "base_p14_518_dinov2"),
    ("Dinov2ForImageClassification", "Dinov2Config", {
        "image_size": 518, "patch_size": 14, "hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24,
        "use_swiglu_ffn": True}, "transformers-dinov2-5", "dinov2.", "giant2_p14_518_dinov2"),
    ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", LARGE | {"image_size": 518, "patch_size": 14},
     "transformers-dinov2-5", "", "large_p14_518_dinov2_reg4"),
])
def test_transformers_models_are_recognised(kind, config, options, dialect, prefix, variant):
    found = recognised(in_transformers(kind, config, **options))
    assert (found.family, found.dialect.name, found.prefix, found.variant) == (FAMILY, dialect, prefix, variant)


@pytest.mark.parametrize(("name", "variant"), [("vit_b_16", "base_p16_224"), ("vit_b_32", "base_p32_224"),
                                               ("vit_l_16", "large_p16_224"), ("vit_l_32", "large_p32_224"),
                                               ("vit_h_14", "huge_p14_224")])
def test_torchvisions_models_are_recognised_in_every_size(name, variant):
    module = on_meta(getattr(import_package("torchvision").models, name))
    found = recognised(module)
    assert (found.family, found.dialect.name, found.variant) == (FAMILY, "torchvision", variant)
    older = {n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t
             for n, t in module.state_dict().items()}
    assert recognise(specs(older), families(), what="x").variant == variant


@pytest.mark.parametrize("table", json.loads((DATA / "vit_dialects.json").read_text()),
                         ids=lambda t: f"{t['family']}-{t['dialect']}")
def test_a_table_says_what_was_proved_by_comparing_features(table):
    """The rule tables in data/ were proved elsewhere, by forward features; ours give the same names."""
    name, prefix = {("vit", "transformers"): ("transformers", "vit."), ("vit", "mmpretrain"): ("openmmlab", ""),
                    ("clip_vit", "transformers"): ("transformers-clip", "vision_model."),
                    ("dinov2", "transformers"): ("transformers-dinov2", ""), ("dinov2", "timm_reg4"): ("timm", ""),
                    ("dinov2", "timm_giant_swiglu"): ("timm-swiglu", "")}.get(
                        (table["family"], table["dialect"]), (table["dialect"], ""))
    dialect = DIALECTS[name]
    config = {"clip_vit": TOY_CLIP, "dinov2": TOY_SWIGLU if "swiglu" in name else TOY_DINOV2}.get(table["family"], TOY)
    for target, sources in sources_of(dialect, config).items():
        assert proved(table, [prefix + source for source in sources]) == target


def sources_of(dialect, config):
    whole = {spec.name: Leaf(spec.shape, spec.dtype, spec.name) for spec in FAMILY.tensors(config)}
    return {firing.taken[0]: firing.made for firing in dialect.from_canonical(whole).fired}


def proved(table, sources):
    for rule in table["rules"]:
        if len(rule["src"]) == len(sources) and (bound := Template(rule["src"][0]).match(sources[0])) is not None:
            assert [Template(text).render(bound) for text in rule["src"]] == sources
            return Template(rule["dst"][0]).render(bound)
    raise AssertionError(f"no rule for {sources}")


# -- the same weights under other names --------------------------------------------------------------------------------


def test_every_spelling_of_a_toy_gives_the_same_bytes(work):
    for kind, config in TOYS.items():
        weights, digests = random_weights(FAMILY, config), {}
        for name, dialect in DIALECTS.items():
            whole = {spec.name: Leaf(spec.shape, spec.dtype, spec.name) for spec in FAMILY.tensors(config)}
            if not dialect.from_canonical(whole).unmatched and (config.gated or not name.endswith("-swiglu")):
                path = save_pth(work / f"{name}.pth", spelled(dialect, weights))
                digests[name] = convert(path, load_check=False, force=True).written.file.sha256
        assert len(digests) >= 3, kind
        assert len(set(digests.values())) == 1, kind


def test_what_dinov2s_training_leaves_is_read_from_its_chunks(work):
    """Blocks stand in chunks, and keep their numbers: dinov2/models/vision_transformer.py."""
    config = replace(TOY_DINOV2, depth=8)
    weights = random_weights(FAMILY, config)
    chunked = {}
    for name, array in weights.items():
        parts = name.split(".")
        chunk = [str(int(parts[1]) // 2)] if parts[0] == "blocks" else []
        chunked[".".join(["backbone", *parts[:1], *chunk, *parts[1:]])] = array
    assert "backbone.blocks.3.7.attn.qkv.weight" in chunked
    chunked |= {"backbone.mask_token": random_array("m", (1, 8)), "dino_head.mlp.0.bias": random_array("h", (9,))}
    save_pth(work / "training.pth", chunked, "teacher")
    save_pth(work / "plain.pth", weights, None)
    done = [convert(f"{name}.pth", load_check=False) for name in ("training", "plain")]
    assert done[0].written.file.sha256 == done[1].written.file.sha256
    assert done[0].preview.found.dialect.name == "dinov2-chunks"


@pytest.mark.parametrize(("kind", "extra"), [
    ("mae", {"mask_token": (1, 1, 6), "decoder_pos_embed": (1, 10, 6), "decoder_embed.weight": (6, 8),
             "decoder_blocks.0.norm1.weight": (6,), "decoder_blocks.0.attn.qkv.bias": (18,),
             "decoder_blocks.0.mlp.fc2.weight": (6, 24), "decoder_norm.bias": (6,), "decoder_pred.weight": (48, 6)}),
    ("dinov2", {"mask_token": (1, 8)}),
])
def test_what_pretraining_alone_needs_is_dropped_with_the_reason(kind, extra):
    tensors = {name: TensorSpec(name, shape) for name, shape in extra.items()} | FAMILY.table(TOY)
    found = recognise(tensors, families(), what=kind)
    assert (found.dialect.name, found.config) == ("official", TOY)
    assert found.dropped.keys() == extra.keys()
    assert all("masked pretraining" in why for why in found.dropped.values())


def openai(config, prefix="visual."):
    arrays = spelled(DIALECTS["openai"], random_weights(FAMILY, config), prefix)
    rest = {f"{prefix}proj": (8, 16), "positional_embedding": (77, 16), "text_projection": (16, 16), "logit_scale": (),
            "transformer.resblocks.0.ln_1.weight": (16,), "token_embedding.weight": (100, 16)}
    return arrays | {name: random_array(name, shape) for name, shape in rest.items()}


def test_the_image_tower_of_a_clip_is_found_and_the_text_tower_left_alone():
    found = recognise(specs(openai(TOY_CLIP)), families(), what="x")
    assert (found.dialect.name, found.prefix, found.config) == ("openai", "visual.", TOY_CLIP)
    assert found.dropped["visual.proj"] == "projection to where images and texts meet"
    assert len(found.dropped) == 6


@pytest.mark.parametrize("kind", ["openai", "official"])
def test_timm_itself_reads_these_names_as_we_do(kind, timm):
    """timm's filter of foreign checkpoints is the other opinion on the names of CLIP and DINOv2."""
    config = TOY_CLIP if kind == "openai" else TOY_SWIGLU
    ours = spelled(DIALECTS["timm-swiglu" if config.gated else "timm"], random_weights(FAMILY, config))
    theirs = openai(config) if kind == "openai" else random_weights(FAMILY, config) | {"mask_token": ours["pos_embed"]}
    model = timm.models.VisionTransformer(img_size=12, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=0)
    read = timm.models.vision_transformer.checkpoint_filter_fn(
        {name: torch.from_numpy(array) for name, array in theirs.items()}, model)
    read = {name: tensor for name, tensor in read.items() if not name.startswith("head.")}
    assert read.keys() == ours.keys()
    assert all(np.array_equal(read[name].numpy(), array) for name, array in ours.items())


# -- relatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "reason"), [
    ("deit_tiny_distilled_patch16_224", "distillation token"), ("vit_base_patch16_rpn_224", "normalises after"),
    ("vit_base_patch16_siglip_224", "pools with attention"), ("beit3_base_patch16_224", "BEiT-3"),
    ("samvit_base_patch16", "relative positions (SAM)"),
    ("vit_dwee_patch16_reg1_gap_256", "differential"), ("vit_pwee_patch16_reg1_gap_256", "side by side"),
    ("vit_small_patch16_18x2_224", "side by side"), ("aimv2_large_patch14_224", "norms without a bias"),
    ("vit_small_r26_s32_224", "convolutional network"), ("vit_tiny_r_s16_p8_224", "convolutional network"),
])
def test_what_these_layouts_cannot_hold_is_refused_with_the_reason(name, reason, timm):
    with pytest.raises(CheckFailed, match="not a ViT that its Detectron2 layouts can hold") as caught:
        recognised(on_meta(timm.create_model, name), name, layout="vitdet")
    assert reason in caught.value.why[0]


@pytest.mark.parametrize(("kind", "config", "reason"), [("DeiTModel", "DeiTConfig", "distillation token"),
                                                        ("SiglipVisionModel", "SiglipVisionConfig", "SigLIP")])
def test_so_it_is_in_transformers(kind, config, reason):
    with pytest.raises(CheckFailed) as caught:
        recognised(in_transformers(kind, config), kind)
    assert reason in caught.value.why[0]


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "eva_giant_patch14_224",
                                  "vit_relpos_small_patch16_224", "cait_xxs24_224", "xcit_nano_12_p16_224",
                                  "vit_giantopt_patch16_siglip_gap_256", "beit_base_patch16_224"])
def test_other_transformers_are_not_taken_for_a_vit(name, timm):
    with pytest.raises(CheckFailed):
        recognise(specs(on_meta(timm.create_model, name).state_dict()), [FAMILY], what=name)


@pytest.mark.parametrize(("name", "reason"), [
    ("vit_small_patch16_rope_ape_224", "called gamma_1 and gamma_2"),
    ("vit_pe_lang_large_patch14_448", "called gamma_1 and gamma_2"),
    ("vit_pe_spatial_tiny_patch16_512", "has Perception Encoder"), ("qwen3_vit_88m", "Qwen3-VL"),
    ("qwen3_vit_416m", "Qwen3-VL"),
])
def test_rotary_positions_are_in_no_file_and_yet_not_taken_for_none(name, reason, timm):
    """These have every name and every shape of a plain ViT."""
    module = on_meta(timm.create_model, name)
    with pytest.raises(CheckFailed) as caught:
        recognise(specs(module.state_dict()), [FAMILY], what=name)
    assert reason in str(caught.value)
    assert recognised(module, name).family.name == "timm"


@pytest.mark.parametrize(("change", "told_why"), [
    ({"dim": 100, "hidden": 400}, "how many heads there are is not in the weights"),
    ({"dim": 1536, "hidden": 6144}, "no known ViT has 1536 channels with 6144 in its perceptrons"),
])
def test_a_size_whose_heads_nobody_knows_is_refused(change, told_why):
    tensors = FAMILY.table(replace(TOY, **change))
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, families(), what="x")
    assert told_why in str(caught.value)


def test_positions_that_make_no_square_are_refused():
    tensors = FAMILY.table(TOY) | {"pos_embed": TensorSpec("pos_embed", (1, 12, 8))}
    with pytest.raises(CheckFailed, match="nearly a ViT") as caught:
        recognise(tensors, families(), what="x")
    assert "its 12 positions are no square grid" in str(caught.value)


BROKEN = {
    "a tensor missing": (lambda t: t.pop("blocks.1.ls2.gamma"), "blocks.1.ls2.gamma"),
    "a token of another width": (lambda t: t.update(cls_token=TensorSpec("cls_token", (1, 1, 9))), "cls_token"),
    "a stranger": (lambda t: t.update({"blocks.0.odd": TensorSpec("blocks.0.odd", (8,))}), "blocks.0.odd"),
    "a gate of another size": (lambda t: t.update({"blocks.1.mlp.w12.weight": TensorSpec(
        "blocks.1.mlp.w12.weight", (24, 8))}), "blocks.1.mlp.w12.weight"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_nearly_fits_is_refused_with_the_offender(kind):
    tensors = dict(FAMILY.table(replace(TOY_SWIGLU, registers=2)))
    change, offender = BROKEN[kind]
    change(tensors)
    with pytest.raises(CheckFailed, match="nearly a ViT") as caught:
        recognise(tensors, families(), what="x")
    assert offender in str(caught.value)


# -- proofs that the kit's toys do not make ----------------------------------------------------------------------------

MORE = {
    "registers without positions": (replace(TOY_DINOV2, pos_prefix=0), "timm"),
    "DeiT III": (replace(TOY, layerscale=True, pos_prefix=0), "timm"),
    "no class token": (replace(TOY, class_token=False, pos_prefix=0), "timm"),
    "registers with positions": (replace(TOY, class_token=False, registers=2, pos_prefix=2), "timm"),
    "no biases, no norm": (replace(TOY, class_token=False, registers=1, layerscale=True, qkv_bias=False, norm=False),
                           "timm"),
    "CLIP": (TOY_CLIP, "timm"),
    "SwiGLU": (TOY_SWIGLU, "timm"),
    "SwiGLU and registers": (replace(TOY_SWIGLU, registers=2), "transformers-dinov2"),
    "biases elsewhere": (replace(TOY, qkv_bias=False), "transformers"),
}


@pytest.mark.parametrize("kind", MORE)
def test_every_kind_computes_what_its_upstream_does_and_mistakes_are_caught(kind, work):
    config, against = MORE[kind]
    parity, faults, score = prove(FAMILY, config, against, work, most=12)
    assert (parity.passed, parity.unseen, faults, score.survivors, score.unreached) == (True, (), [], [], [])
    assert score.total >= 11


@pytest.mark.parametrize(("against", "kind", "why"), [
    ("timm", "DINOv2 with registers", "positions for all tokens or for the patches alone"),
    ("torchvision", "CLIP", "they have none for norm_pre.weight"),
    ("transformers-dinov2", "plain", "its layerscale is always True"),
    ("transformers-clip", "SwiGLU", "they have none for patch_embed.proj.bias"),
])
def test_an_upstream_that_has_no_such_member_says_so(against, kind, why, work):
    with pytest.raises(UsageError) as caught:
        prove(FAMILY, TOYS[kind], against, work)
    assert why in caught.value.why[0]


def test_the_command_passes_over_what_an_upstream_cannot_have(monkeypatch, capsys):
    monkeypatch.setitem(FAMILY.variants, "toy", TOY_CLIP)
    assert main(["vit/toy", "--against", "torchvision"]) == 0
    assert "not run: torchvision names cannot tell this ViT" in capsys.readouterr().out


def test_a_vit_without_a_class_token_has_no_use_for_its_position(timm):
    """ViTDet: the row of the class token is left out where positions are added, as its get_abs_pos does."""
    config = replace(TOY, class_token=False)
    weights = tensors_of(config)
    ours = build(config).eval()
    ours.load_state_dict(weights)
    theirs = timm.models.VisionTransformer(img_size=12, patch_size=4, embed_dim=8, depth=2, num_heads=2, mlp_ratio=3,
                                           class_token=False, global_pool="", num_classes=0).eval()
    theirs.load_state_dict(weights | {"pos_embed": weights["pos_embed"][:, 1:]})
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(ours.outputs(images)["tokens"], theirs.forward_features(images))
    ours.pos_embed.data[:, 0] = torch.nan
    assert ours.outputs(images)["tokens"].isfinite().all()


# -- a backbone that users can take ------------------------------------------------------------------------------------


def test_it_says_what_it_gives_and_gives_it():
    backbone = ViT(TOY_DINOV2, out_features=("block0", "last_feat"))
    shapes, found = backbone.output_shape(), backbone(torch.randn(2, 3, 20, 12))
    assert [*shapes] == [*found] == ["block0", "last_feat"]
    for name, shape in shapes.items():
        assert found[name].shape == (2, shape.channels, 20 // shape.stride, 12 // shape.stride)


def test_other_images_are_given_positions_in_between_as_detectron2_does():
    """detectron2/modeling/backbone/utils.py: get_abs_pos"""
    backbone = build(TOY)
    weight = backbone.pos_embed[:, 1:].reshape(1, 3, 3, 8).permute(0, 3, 1, 2)
    between = torch.nn.functional.interpolate(weight, size=(5, 7), mode="bicubic", align_corners=False)
    patches = backbone.patch_embed(images := torch.randn(1, 3, 20, 28))
    torch.testing.assert_close(backbone.embed(images)[:, 1:], (patches + between).flatten(2).transpose(1, 2))
    assert not torch.equal(between[..., :3, :3], weight)


def test_the_class_token_and_the_registers_stand_first_and_only_the_first_has_a_position():
    backbone = build(TOY_DINOV2)
    backbone.load_state_dict(tensors_of(TOY_DINOV2))
    tokens = backbone.embed(torch.randn(1, 3, 12, 12))
    assert torch.equal(tokens[:, :1], backbone.cls_token + backbone.pos_embed[:, :1])
    assert torch.equal(tokens[:, 1:3], backbone.register_tokens)


def test_what_is_frozen_learns_nothing_and_the_rest_does():
    backbone = ViT(TOY_DINOV2).freeze(2)
    learns = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert learns == {name for name in backbone.state_dict() if name.startswith(("blocks.1.", "norm."))}


def test_in_training_some_residuals_are_left_out_and_checkpointing_changes_nothing():
    images = torch.randn(4, 3, 12, 12)
    backbone = ViT(TOY, drop_path=0.9, checkpointing=True).train()
    torch.manual_seed(0)
    first = backbone(images)["last_feat"]
    torch.manual_seed(0)
    backbone.checkpointing = False
    assert torch.equal(first, backbone(images)["last_feat"])
    assert not torch.equal(first, backbone.eval()(images)["last_feat"])


def test_quick_gelu_is_another_function():
    weights, images = tensors_of(TOY_CLIP), torch.randn(1, 3, 12, 12)
    plain, quick = ViT(TOY_CLIP), ViT(TOY_CLIP, quick_gelu=True)
    for backbone in (plain, quick):
        backbone.load_state_dict(weights)
    apart = (plain(images)["last_feat"] - quick(images)["last_feat"]).abs().max()
    assert 1e-4 < apart < 0.1


@pytest.mark.parametrize(("depth", "blocks"), [(1, [0]), (2, [0, 1]), (12, [2, 5, 8, 11]), (27, [8, 14, 20, 26])])
def test_outputs_are_told_at_equal_distances(depth, blocks):
    assert told(depth) == blocks


# -- the zoo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "repo"), [
    ("vit_base_patch14_dinov2", "timm/vit_base_patch14_dinov2.lvd142m"), ("dinov2-base", "facebook/dinov2-base"),
    ("vit_base_patch16_clip_quickgelu_224.openai", "timm/vit_base_patch16_clip_224.openai"),
    ("deit_3_base_224_21k", "timm/deit3_base_patch16_224.fb_in22k_ft_in1k"), ("vit-mae-base", "facebook/vit-mae-base"),
])
def test_names_that_people_type(typed, repo):
    assert resolve(typed, zoo()).repo == repo


@pytest.mark.parametrize("typed", ["facebook/deit-base-distilled-patch16-224", "vit_b_16_swag"])
def test_names_of_what_there_is_not_are_refused(typed):
    with pytest.raises(UsageError, match="is refused"):
        resolve(typed, zoo())


@pytest.mark.parametrize("typed", ["timm/deit_base_distilled_patch16_224.fb_in1k", "vit_base_patch16_siglip_224.webli",
                                   "vit_base_patch16_rpn_224.sw_in1k", "vit_base_patch16_224.bamboo"])
def test_names_of_what_these_layouts_cannot_hold_are_left_to_timms_own_code(typed):
    model = resolve(typed, zoo()).model
    assert (model.family, model.alone) == ("timm", True)
    assert "vitdet" not in model.layouts


def test_a_name_of_several_weights_is_refused_with_the_choices():
    with pytest.raises(UsageError, match="could be any of") as caught:
        resolve("vit_base_patch16_224", zoo())
    assert "vit_base_patch16_224.mae" in caught.value.why


def test_every_vit_that_saw_quick_gelu_says_so():
    noted = {model.name for model in zoo().models if "QuickGELU" in model.note}
    assert {"vit_base_patch16_clip_224.openai", "clip-vit-base-patch16", "vit_huge_patch14_clip_378.dfn5b"} <= noted
    assert "vit_base_patch16_clip_224.laion2b" not in noted
