"""EVA-02: the real modules are recognised, layouts are what the classes hold, and positions turn as they should.

The toy of the test kit is a base member in small; the tiny ones and CLIP's are proved here.
"""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from support import DATA, specs
from zooconv_zoo.eva02 import FAMILY
from zooconv_zoo.eva02.backbone import EVA02, Block
from zooconv_zoo.eva02.dialects import OFFICIAL, TIMM, VITDET
from zooconv_zoo.eva02.family import TOY, VARIANTS
from zooconv_zoo.eva02.layers import turns

from zooconv import CheckFailed, UsageError, convert
from zooconv.checkpoint.open import open_checkpoint
from zooconv.d2config.keys import wanted_of
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.names import resolve
from zooconv.parity import parity
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.subject import read_layout
from zooconv.tensor import DTYPES
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.zoo import zoo

TINY = replace(TOY, sub_norm=False)  # one matrix for q, k, v and one for gate and gated, no norms between
CLIP = replace(TOY, attn_norm=True, depth=1)
BARE = replace(TOY, class_token=False)  # as detectors have it
WEIGHTS = lively_weights(FAMILY, TOY)


def read(tensors):
    return recognise(specs(tensors), families(), what="x")


# -- layouts ---------------------------------------------------------------------------------------------------------


def planned(layout, config):
    return make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(config)), chosen_layout(FAMILY, layout))


@pytest.fixture(scope="module")
def wanted():
    return json.loads(gzip.decompress((DATA / "manifests" / "eva02" / "detrex-eva02_b.json.gz").read_bytes()))


def forms(plan):
    return {t.name: (list(t.shape), DTYPES[t.dtype].torch) for t in plan.targets}


def test_the_layout_of_detrex_is_what_its_class_holds_but_the_pyramid_and_the_tables_of_angles(wanted):
    own = {*wanted["init_only"], *wanted["constant_buffers"]}
    keys = {name: (k["shape"], k["dtype"]) for name, k in wanted["keys"].items() if name not in own}
    plan = planned("detrex", VARIANTS["base_patch16_224"])
    assert forms(plan) == keys
    assert len(keys) == 231
    assert forms(plan) != forms(planned("detrex", VARIANTS["large_patch16_224"]))  # the control: it can fail
    glee = {name.removeprefix("backbone."): form for name, form in keys.items()}
    assert forms(planned("glee", VARIANTS["base_patch16_224"])) == glee


def test_the_row_of_the_class_token_stays_where_the_token_goes():
    plan = planned("detrex", VARIANTS["base_patch16_224"])
    assert forms(plan)["backbone.net.pos_embed"][0] == [1, 197, 768]
    assert set(plan.dropped) == {"cls_token", "norm.weight", "norm.bias"}


def test_the_config_of_glee_says_its_sizes():
    model = wanted_of(planned("glee", VARIANTS["large_patch16_224"]), "x.pth").keys["MODEL"]
    assert model["EVA02"] == {"DMBED_DIM": 1024, "DEPTH": 24, "NUM_HEADS": 16, "PATCH_SIZE": 16,
                              "PRETRAINED_WEIGHT": "x.pth"}


@pytest.mark.parametrize(("variant", "layout", "why"), [
    ("tiny_patch14_224", "detrex", "one matrix for q, k and v"), ("base_patch16_clip_224", "detrex", "EVA-CLIP"),
    ("large_patch14_448", "detrex", "p14to16"), ("large_patch14_448", "glee", "p14to16")])
def test_what_a_vitdet_cannot_hold_is_refused_with_the_reason(variant, layout, why):
    with pytest.raises((CheckFailed, UsageError)) as caught:
        planned(layout, VARIANTS[variant])
    assert why in str(caught.value)


def test_glee_takes_positions_of_14_by_14_for_granted(work):
    file = save_pth(work / "toy.pth", WEIGHTS)
    with pytest.raises((CheckFailed, UsageError), match="14 x 14"):
        convert(file, layout="glee", load_check=False)


# -- the packages' own modules, and the authors' files -----------------------------------------------------------------


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("base_patch16_224", "large_patch16_224")])
def test_timms_own_models_are_recognised(variant, timm):
    with torch.device("meta"):
        found = read(timm.create_model(f"eva02_{variant}").state_dict())
    dialect = "timm" if VARIANTS[variant].sub_norm else "timm-fused"
    assert (found.family.name, found.dialect.name, found.variant) == ("eva02", dialect, variant)


@pytest.mark.parametrize("name", ["eva02_enormous_patch14_clip_224", "eva_giant_patch14_224", "beit_base_patch16_224",
                                  "vit_base_patch16_224", "vit_small_patch14_reg4_dinov2", "deit3_small_patch16_224",
                                  "vit_small_plus_patch16_dinov3_qkvb", "vit_medium_patch16_rope_reg1_gap_256"])
def test_other_vision_transformers_are_not_taken_for_it(name, timm):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    with suppress(CheckFailed):  # nobody's
        assert read(state).family.name != "eva02"


def test_what_these_layouts_cannot_hold_is_left_to_timms_own_code_by_name():
    model = resolve("timm/eva02_enormous_patch14_clip_224.laion2b_plus", zoo()).model
    assert (model.family, model.alone) == ("timm", True)


def test_each_file_of_the_authors_repository_is_a_model_of_its_own():
    file = "eva02/pt/eva02_L_pt_m38m_p14to16.pt"
    for typed in ("eva02_L_pt_m38m_p14to16", f"Yuxin-CV/EVA-02:{file}"):
        source = resolve(typed, zoo())
        assert (source.repo, source.files, source.name) == ("Yuxin-CV/EVA-02", (file,), "eva02_L_pt_m38m_p14to16")
    assert resolve("Yuxin-CV/EVA-02", zoo()).model is None  # which of them?


def around(canonical, norm="norm"):
    """What stands beside the backbone in the authors' files: tables of angles, tokens and heads of pretraining."""
    angles = [f"{place}rope.freqs_{kind}" for place in ("", "blocks.0.attn.", "blocks.1.attn.")
              for kind in ("cos", "sin")]
    more = {"mask_token": (1, 1, 128), "lm_head.weight": (8, 128), "lm_head.bias": (8,), "head.weight": (5, 128),
            "head.bias": (5,), **dict.fromkeys(angles, (9, 64))}
    return {name.replace("norm.", f"{norm}.") if name.startswith("norm.") else name: array
            for name, array in canonical.items()} | {name: random_array(name, shape) for name, shape in more.items()}


@pytest.mark.parametrize("norm", ["norm", "fc_norm"])
@pytest.mark.parametrize("config", [TOY, TINY, CLIP], ids=["base", "tiny", "clip"])
def test_the_authors_files_become_the_same_as_timms(config, norm, work):
    canonical = lively_weights(FAMILY, config)
    dialect = next(d for d in FAMILY.dialects if d.name == ("timm" if config.sub_norm else "timm-fused"))
    timm = spelled(dialect, canonical) | {"head.weight": random_array("head.weight", (5, 128))}
    assert "fc_norm.weight" in timm
    files = [save_pth(work / "a.pth", around(canonical, norm)), save_safetensors(work / "b.safetensors", timm)]
    first, second = (convert(file, load_check=False) for file in files)
    assert (first.data["dialect"], second.data["dialect"]) == ("official", dialect.name)
    assert first.written.file.sha256 == second.written.file.sha256


def test_eva_clip_is_found_beside_its_text_tower():
    state = {f"visual.{n}": a for n, a in around(lively_weights(FAMILY, CLIP)).items()}
    text = {"logit_scale": random_array("s", ()), "text.token_embedding.weight": random_array("t", (9, 4))}
    found = read(state | text)
    assert (found.family.name, found.dialect.name, found.prefix) == ("eva02", "official", "visual.")


def test_a_trained_detector_is_read_and_becomes_the_layout_that_it_came_from(work):
    trained = {f"backbone.net.{n}": a for n, a in spelled(VITDET, lively_weights(FAMILY, BARE)).items()}
    tables = ("rope_win", "rope_glb", "blocks.0.attn.rope")
    more = [f"net.{table}.freqs_{kind}" for table in tables for kind in ("cos", "sin")]
    own = {f"backbone.{name}": random_array(name, (4, 8)) for name in [*more, "simfp_3.0.weight"]}
    done = convert(save_pth(work / "trained.pth", trained | own), layout="detrex", load_check=False)
    assert done.data["dialect"] == "vitdet"
    assert done.data["config"]["class_token"] is False
    assert set(torch.load(done.path)["model"]) == set(trained)


# -- what it computes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, CLIP], ids=["tiny", "clip"])
def test_other_members_compute_what_timm_computes(config, work):
    result, faults, score = prove(FAMILY, config, "timm", work, most=60)
    assert (result.passed, faults, score.survivors, score.unreached) == (True, [], [], [])
    assert list(result.skipped) == ["tokens"]


def held(path, source, against="timm"):
    with open_checkpoint(source) as theirs, open_checkpoint(path) as artifact:
        ours = read_layout(artifact, FAMILY, chosen_layout(FAMILY, "d2"))
        return parity(theirs, recognise(theirs.specs, families(), what="x"), artifact, ours, against)


def test_a_norm_of_every_token_is_held_against_a_norm_of_every_token(work):
    names = {n.replace("fc_norm", "norm"): a for n, a in spelled(TIMM, WEIGHTS).items()}
    source = save_safetensors(work / "tokens.safetensors", names)
    result = held(convert(source, load_check=False).path, source)
    assert result.passed
    assert list(result.skipped) == ["pooled"]
    assert "tokens" in {d.output for d in result.differences}


def test_rotary_positions_are_felt(work, monkeypatch):
    """No tensor holds them, so that no mutant could: the control is a scale of positions that is a little off."""
    monkeypatch.setattr("zooconv_zoo.eva02.layers.REFERENCE", 15)
    result, _, _ = prove(FAMILY, TOY, "timm", work, most=1)
    assert not result.passed


@pytest.mark.parametrize("size", [(4, 4), (3, 7), (16, 16), (32, 20)])
def test_rotary_positions_are_timms_whatever_the_size(size, timm):
    rope = timm.layers.RotaryEmbeddingCat(64, in_pixels=False, feat_shape=size, ref_feat_shape=(16, 16))
    sine, cosine = rope.get_embed().chunk(2, -1)
    assert torch.equal(turns(*size), torch.stack((cosine, sine)))


@torch.no_grad()
def test_blocks_within_windows_see_each_window_alone():
    block = Block(BARE, 0).double()
    x = torch.randn(2, 6 * 9, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by = turns(3, 3)
    whole = block(x, by, (6, 9), 3).unflatten(1, (6, 9))
    for row in (0, 3):
        for column in (0, 3, 6):
            place = (slice(None), slice(row, row + 3), slice(column, column + 3))
            alone = block(x.unflatten(1, (6, 9))[place].flatten(1, 2), by, (3, 3), 0)
            assert torch.allclose(whole[place].flatten(1, 2), alone, rtol=0, atol=1e-12)


@torch.no_grad()
def test_as_a_detector_uses_it():
    net = EVA02(BARE, out_features=("block1", "last_feat"), window=2, windowed=(0,)).eval()
    features = net(torch.randn(1, 3, 48, 80))  # not of the trained size, nor of whole windows
    shapes = net.output_shape()
    assert {n: f.shape for n, f in features.items()} == dict.fromkeys(shapes, (1, 128, 3, 5))
    assert {s.stride for s in shapes.values()} == {16}
    learning = {n for n, p in net.freeze(2).named_parameters() if p.requires_grad}
    assert learning == {n for n, _ in net.named_parameters() if n.startswith(("blocks.1.", "norm."))}
    with pytest.raises(ValueError, match="class token"):
        EVA02(TOY, window=2, windowed=(0,))
