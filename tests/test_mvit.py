"""MViTv2: the real modules are recognised, Detectron2's class is its manifest, and what cannot be held is refused.

The toy of the test kit widens in its attention and has no class token; the members that differ are proved here.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
import torch
from support import DATA, read, specs
from zooconv_zoo.mvit import FAMILY
from zooconv_zoo.mvit.attention import Attention, relative, unwindows, windows
from zooconv_zoo.mvit.backbone import MViT
from zooconv_zoo.mvit.dialects import OFFICIAL
from zooconv_zoo.mvit.family import TOY, VARIANTS, infer, tensors

from zooconv import CheckFailed, Shapes, UsageError, convert
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import import_package
from zooconv.zoo import zoo

DIALECTS = {d.name: d for d in FAMILY.dialects}
LARGE = replace(TOY, depths=(2, 1, 3, 1), widen_in_mlp=True)  # the large member in small
TOKEN = replace(TOY, cls_token=True)  # those of ImageNet-21k
EXACT = 1e-12  # relative; a sum in another order costs about 1e-15


def planned(layout, config, **options):
    return make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(config)), chosen_layout(FAMILY, layout), **options)


def loaded(config, weights, **options):
    """The reference backbone with these canonical weights, in float64."""
    module = MViT(config, **options).eval()
    module.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return module.double()


def apart(mine, theirs):
    return float((mine - theirs).abs().max() / theirs.abs().max())


# -- layouts ---------------------------------------------------------------------------------------------------------


def test_the_layout_of_detectron2_is_what_its_class_holds():
    wanted = json.loads(gzip.decompress((DATA / "manifests" / "mvit" / "d2-mvit-mvitv2_t.json.gz").read_bytes()))
    keys = {name: {"shape": k["shape"], "dtype": k["dtype"]} for name, k in wanted["keys"].items()}
    plan = planned("fpn", VARIANTS["tiny"])
    made = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in plan.targets}
    assert made == keys
    assert sorted(plan.fresh) == sorted(wanted["init_only"])
    assert {t.name for t in planned("fpn", VARIANTS["tiny"], fresh=False).targets} == keys.keys() - {*plan.fresh}
    small = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch}
             for t in planned("fpn", VARIANTS["small"]).targets}
    assert made != small  # the control: the comparison can fail


@pytest.mark.parametrize(("config", "reason"), [
    (VARIANTS["large"], "widens in the perceptron"),
    (replace(TOY, dims=(4, 8, 12, 24)), "twice the channels"), (replace(TOY, heads=(1, 2, 2, 4)), "twice the channels"),
    (replace(TOY, depths=(1, 2, 1, 1)), "tables of 7 relative positions in block 3, not 15"),
])
def test_what_detectron2s_class_cannot_hold_is_refused_and_kept_whole_by_d2(config, reason):
    with pytest.raises(CheckFailed) as caught:
        planned("fpn", config)
    assert reason in caught.value.why[0]
    assert {t.name.removeprefix("backbone.") for t in planned("d2", config).targets} == FAMILY.table(config).keys()


def test_the_class_token_is_left_out_where_detectron2_has_none_and_it_is_told():
    """As Detectron2's own configs of mvitv2_*_in21k do, whose loader says nothing of it."""
    plan = planned("fpn", VARIANTS["base_cls"])
    assert plan.config == replace(VARIANTS["base_cls"], cls_token=False)
    assert plan.dropped["cls_token"] == plan.changes[0] == "class token left out: Detectron2's MViT has none"
    assert planned("fpn", VARIANTS["base"]).changes == ()


@pytest.mark.parametrize("variant", ["tiny", "small", "base"])
def test_detectron2_holds_the_members_that_its_configs_name(variant):
    assert len(planned("fpn", VARIANTS[variant]).targets) == len(FAMILY.table(VARIANTS[variant])) + 6


# -- the config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    {"grid": 96}, {"grid": 20}, {"kv_stride": 2}, {"kv_stride": 8}, {"kv_stride": 16}, {"depths": (2, 1, 4, 1)},
    {"depths": (3,), "dims": (8,), "heads": (2,), "kv_stride": 2}, {"heads": (2, 2, 2, 2)}, {"dims": (4, 12, 16, 32)},
], ids=str)
@pytest.mark.parametrize("base", [TOY, LARGE, TOKEN], ids=["toy", "large", "token"])
def test_a_config_is_read_off_its_shapes(base, change):
    config = replace(base, **change)
    if len(config.depths) == 1:
        config = replace(config, widen_in_mlp=False)
    assert infer(Shapes({spec.name: spec.shape for spec in tensors(config)})) == config


# -- the package's own modules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_timms_own_models_are_recognised(variant, timm):
    with torch.device("meta"):
        state = timm.create_model(f"mvitv2_{variant}").state_dict()
    assert read(state) == ("mvit", "timm-widen-in-mlp" if variant == "large" else "timm", variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_official_names_are_recognised(variant):
    heads = {"head.projection.weight": TensorSpec("", (10, 8)), "head.projection.bias": TensorSpec("", (10,))}
    assert read({**FAMILY.table(VARIANTS[variant]), **heads}) == ("mvit", "official", variant)


def test_members_that_widen_in_their_perceptrons_compute_what_timm_computes(work):
    parity, faults, score = prove(FAMILY, LARGE, "timm", work, most=60)
    assert (parity.passed, faults, score.survivors, score.unreached) == (True, [], [], [])
    assert (parity.spelled, parity.skipped, parity.unseen) == ("timm-widen-in-mlp names", {}, ())


def test_where_the_tables_are_of_another_length_it_still_computes_what_timm_computes(work):
    parity, _, score = prove(FAMILY, replace(TOY, grid=20, kv_stride=2), "timm", work, most=5)
    assert (parity.passed, score.survivors) == (True, [])


def timms(config, timm):
    """timm's module with random weights near those that it starts with."""
    mvitv2 = timm.models.mvitv2
    torch.manual_seed(0)
    module = mvitv2.MultiScaleVit(mvitv2.MultiScaleVitCfg(
        depths=config.depths, embed_dim=config.dims, num_heads=config.heads, expand_attn=not config.widen_in_mlp,
        use_cls_token=config.cls_token), img_size=64, num_classes=5).eval()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            tensor.copy_(torch.randn(tensor.shape) * 0.2 + (".norm" in name and name.endswith("weight")))
    return module


@torch.no_grad()
@pytest.mark.parametrize(("config", "layout"), [(TOY, "fpn"), (LARGE, "d2")], ids=["toy", "large"])
def test_stage_features_are_timms(config, layout, work, timm):
    """The real file of the real module on the whole road, compared by no code of the tool's own proof."""
    theirs = timms(config, timm)
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    done = convert(save_safetensors(work / "model.safetensors", arrays), layout=layout, load_check=False)
    mount = {"d2": "backbone.", "fpn": "backbone.bottom_up."}[layout]
    state = {n.removeprefix(mount): t for n, t in torch.load(done.path)["model"].items()}
    ours = MViT(config).eval()
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert missing == (["norm.weight", "norm.bias"] if layout == "fpn" else [])
    assert unexpected == [n for n in state if n.startswith("scale")]
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features = theirs.double().forward_intermediates(images, intermediates_only=True)
    for mine, feature in zip(ours.double()(images).values(), features, strict=True):
        assert apart(mine, feature) < EXACT


@torch.no_grad()
def test_a_class_token_is_left_out_of_the_residual_as_its_authors_do_and_timm_does_not(timm, work):
    theirs = timms(TOKEN, timm)
    found = recognise(specs(theirs.state_dict()), families(), what="x")
    weights = {name: theirs.state_dict()[value.name] for name, value in found.canonical.items()}
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features = theirs.double().forward_intermediates(images, intermediates_only=True)
    as_timm = loaded(TOKEN, weights, token_residual=True)(images)
    assert all(apart(mine, f) < EXACT for mine, f in zip(as_timm.values(), features, strict=True))
    as_authors = loaded(TOKEN, weights)(images)
    assert min(apart(as_authors[f"scale{s}"], features[s - 2]) for s in (3, 4, 5)) > 1e-3
    with pytest.raises(UsageError, match="timm cannot build this MViTv2") as caught:
        prove(FAMILY, TOKEN, "timm", work)
    assert "class token" in caught.value.why[0]


# -- dialects --------------------------------------------------------------------------------------------------------


def upstream(dialect, canonical):
    """Canonical weights as this upstream publishes them: its names, its head."""
    head = "head.projection" if dialect == "official" else "head.fc"
    heads = {f"{head}.weight": (10, 32), f"{head}.bias": (10,)}
    return spelled(DIALECTS[dialect], canonical) | {n: random_array(n, shape) for n, shape in heads.items()}


@pytest.mark.parametrize(("dialect", "config", "layout"), [
    ("official", TOY, "d2"), ("official", TOY, "fpn"), ("timm", TOY, "d2"), ("timm", TOY, "fpn"),
    ("timm-widen-in-mlp", LARGE, "d2"), ("timm", TOKEN, "d2")], ids=lambda x: x if isinstance(x, str) else "")
def test_a_dialect_is_recognised_as_itself_and_becomes_the_same_file(dialect, config, layout, work):
    canonical = lively_weights(FAMILY, config)
    arrays = upstream(dialect, canonical)
    assert read(arrays)[:2] == ("mvit", dialect)
    first = convert(save_pth(work / "first.pth", canonical), layout=layout, load_check=False)
    other = convert(save_pth(work / "other.pth", arrays, "model_state", epoch=99), layout=layout, load_check=False)
    assert other.written.file.sha256 == first.written.file.sha256


def test_blocks_of_a_stage_are_numbered_through():
    made = set(upstream("timm", lively_weights(FAMILY, TOY)))
    assert {f"stages.{s}.blocks.0.shortcut_proj_attn.bias" for s in (1, 2, 3)} == {
        n for n in made if n.endswith("shortcut_proj_attn.bias")}
    made = set(upstream("timm-widen-in-mlp", lively_weights(FAMILY, LARGE)))
    assert {"stages.0.blocks.1", "stages.1.blocks.0", "stages.2.blocks.2"} == {
        n.removesuffix(".shortcut_proj_mlp.bias") for n in made if n.endswith("shortcut_proj_mlp.bias")}


def test_convolutions_that_were_trained_on_video_of_one_frame_are_squeezed_as_the_official_loader_does(work):
    canonical = lively_weights(FAMILY, TOY)
    stills = {n: a[:, :, None] if a.ndim == 4 else a for n, a in canonical.items()}
    assert sum(a.ndim == 5 for a in stills.values()) == 1 + 3 * sum(TOY.depths)
    first = convert(save_pth(work / "first.pth", canonical), load_check=False)
    other = convert(save_pth(work / "other.pth", stills), load_check=False)
    assert other.written.file.sha256 == first.written.file.sha256


def test_a_file_that_nearly_fits_is_told_what_is_missing_in_its_own_spelling():
    arrays = upstream("timm", lively_weights(FAMILY, TOY))
    del arrays["stages.2.blocks.1.attn.norm_k.bias"]
    with pytest.raises(CheckFailed, match="nearly a MViTv2 in timm names") as caught:
        read(arrays)
    assert caught.value.why == ("missing     stages.2.blocks.1.attn.norm_k.bias",)


def test_two_ways_of_widening_are_not_mixed():
    arrays = {n.replace("_attn.", "_mlp.", 1) if ".3.blocks.0.shortcut" in n else n: a
              for n, a in upstream("timm", lively_weights(FAMILY, TOY)).items()}
    with pytest.raises(CheckFailed, match="nearly"):
        read(arrays)


@pytest.mark.parametrize(("dialect", "block"), [("official", "blocks.{}"), ("timm", "stages.0.blocks.{}"),
                                                ("timm", "stages.{}.blocks.0")])
def test_a_number_without_end_is_refused_and_not_counted_up_to(dialect, block):
    arrays = upstream(dialect, lively_weights(FAMILY, TOY))
    arrays[block.format(10 ** 15) + ".norm1.weight"] = arrays["patch_embed.proj.bias"]
    with pytest.raises(CheckFailed):
        read(arrays)


# -- relatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mvit_v2_s"])
def test_a_video_model_is_refused_by_its_names_and_by_its_own(name):
    with torch.device("meta"):
        state = getattr(import_package("torchvision").models.video, name)().state_dict()
    with pytest.raises(CheckFailed) as caught:
        read(state)
    assert "video" in caught.value.why[0]
    with pytest.raises(UsageError, match="video"):
        resolve(name, zoo())


def test_absolute_positions_are_refused():
    with pytest.raises(CheckFailed) as caught:
        read({**FAMILY.table(TOY), "pos_embed": TensorSpec("pos_embed", (1, 256, 4))})
    assert "absolute positions" in caught.value.why[0]


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "repo"), [
    ("mvitv2_tiny", "timm/mvitv2_tiny.fb_in1k"), ("MViTv2_T_in1k", "timm/mvitv2_tiny.fb_in1k"),
    ("mvitv2_base", "timm/mvitv2_base.fb_in1k"), ("MViTv2_B_in21k", "timm/mvitv2_base_cls.fb_inw21k"),
    ("mvitv2_large_cls", "timm/mvitv2_large_cls.fb_inw21k"), ("MViTv2_L_in1k", "timm/mvitv2_large.fb_in1k"),
])
def test_a_name_that_people_type_means_the_repository_that_it_should(typed, repo):
    assert resolve(typed, zoo()).repo == repo


def test_every_model_of_timm_that_has_weights_is_in_the_zoo(timm):
    listed = {model.repo for model in zoo().models if model.family == "mvit"}
    assert listed == {f"timm/{name}" for name in timm.list_pretrained("mvitv2*")}


# -- as a Detectron2 backbone ----------------------------------------------------------------------------------------


def test_windows_are_undone():
    x = torch.randn(2, 3, 5 * 7, 4)
    parts, padded = windows(x, (5, 7), 4)
    assert (parts.shape, padded) == ((2, 3, 4, 16, 4), (8, 8))
    assert torch.equal(parts[0, 0, 1, :3], x[0, 0, 4:7])  # the second window begins in the fifth column
    assert torch.equal(unwindows(parts, padded, (5, 7), 4), x)


@torch.no_grad()
def test_attention_in_windows_is_attention_in_each_of_them():
    block = replace(next(TOY.blocks()), heads=2, dim=8, q_stride=1, kv_stride=2, side=8)
    attention = Attention(block, tokens=0, kv_stride=2, window=4, residual_pooling=False, token_residual=False,
                          use_rel_pos=True).double()
    attention.rel_pos_h.normal_()
    attention.rel_pos_w.normal_()
    q, k, v = (torch.randn(1, 2, side, side, 4, dtype=torch.float64) for side in (8, 4, 4))
    found = attention.in_windows(*(x.flatten(2, 3) for x in (q, k, v)), (8, 8), (4, 4)).unflatten(2, (8, 8))
    for row in (0, 1):
        for column in (0, 1):
            part = [x[:, :, row * n:(row + 1) * n, column * n:(column + 1) * n] for x, n in ((q, 4), (k, 2), (v, 2))]
            alone = attention.attend(*(x.flatten(2, 3) for x in part), (4, 4), (2, 2)).unflatten(2, (4, 4))
            assert torch.allclose(found[:, :, row * 4:row * 4 + 4, column * 4:column * 4 + 4], alone, atol=1e-14)


@torch.no_grad()
def test_windows_that_hold_the_whole_map_change_nothing_and_smaller_ones_do():
    weights = lively_weights(FAMILY, TOY)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    plain = loaded(TOY, weights)(images)
    for options, same in (({"window": 16}, True), ({"window": 8}, False), ({"double_kv_stride": True}, False),
                          ({"residual_pooling": False}, False)):
        other = loaded(TOY, weights, **options)(images)
        assert (apart(other["scale5"], plain["scale5"]) < EXACT) is same, options


def test_a_table_serves_maps_of_another_side_by_interpolation():
    table = torch.arange(15.)[:, None]
    assert relative(table, 8, 8)[..., 0].tolist()[0] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert relative(table, 8, 4)[..., 0].tolist()[7] == [13, 11, 9, 7]  # a coarser key stands for two places
    spread = relative(table, 16, 16)[..., 0]
    assert spread.shape == (16, 16)
    assert torch.allclose(spread.diagonal(), torch.full((16,), 7.))
    assert float(spread.max()) == 14


def test_a_class_token_belongs_to_no_window():
    with pytest.raises(ValueError, match="no window"):
        MViT(TOKEN, window=8)


def test_the_reference_backbone_is_configured_as_others_are():
    module = MViT(LARGE, out_features=("scale2", "scale5"), window=8, drop_path=0.1, checkpointing=True).freeze(2)
    shapes = {name: (shape.channels, shape.stride) for name, shape in module.output_shape().items()}
    assert shapes == {"scale2": (8, 4), "scale5": (32, 32)}
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert not [n for n in learning if n.startswith(("patch_embed", "blocks.0.", "blocks.1."))]
    assert "blocks.2.attn.rel_pos_h" in learning
    found = module.train()(torch.zeros(2, 3, 92, 140))  # no multiple of a window
    assert {n: tuple(f.shape) for n, f in found.items()} == {"scale2": (2, 8, 23, 35), "scale5": (2, 32, 3, 5)}
    found["scale5"].sum().backward()
    assert module.blocks[-1].attn.rel_pos_w.grad is not None
    assert not MViT(TOKEN).freeze(1).cls_token.requires_grad
    assert "blocks.0.attn.rel_pos_h" not in MViT(TOY, use_rel_pos=False).state_dict()
