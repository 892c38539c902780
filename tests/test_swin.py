"""Swin: what upstreams publish becomes what Detectron2 projects hold; what would load and be wrong does not pass."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import DATA
from zooconv_zoo.swin import FAMILY
from zooconv_zoo.swin.backbone import build, relative_index
from zooconv_zoo.swin.dialects import OFFICIAL, OPENMMLAB
from zooconv_zoo.swin.family import VARIANTS

from zooconv import CheckFailed, convert, identity
from zooconv.mapping.expr import evaluate
from zooconv.mapping.fit import fit
from zooconv.mapping.formulas import relative_position_index
from zooconv.mapping.plan import make_plan
from zooconv.mapping.rules import Rule
from zooconv.parity import parity
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.subject import subjects
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, save_pth, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import import_package, upstream

TOY = FAMILY.toy
MANIFESTS = sorted((DATA / "manifests" / "swin").glob("*.json.gz"))
LAYOUT = {"m2f-swin": "mask2former", "d2-swin-fpn": "fpn", "detrex-swin": "detrex"}
VARIANT = {"swin_tiny_w7_224": "tiny", "swin_base_w12_384": "base_384"}
WEIGHTS = lively_weights(FAMILY, TOY)


def planned(layout, variant, **options):
    return make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(VARIANTS[variant])), chosen_layout(FAMILY, layout), **options)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_a_layout_is_its_manifest(path):
    wanted = json.loads(gzip.decompress(path.read_bytes()))
    layout, variant = LAYOUT[wanted["layout"]], VARIANT[wanted["variant"]]
    made = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in planned(layout, variant).targets}
    assert made == {name: {"shape": k["shape"], "dtype": k["dtype"]} for name, k in wanted["keys"].items()}
    without = {t.name for t in planned(layout, variant, fresh=False).targets}
    assert without == wanted["keys"].keys() - {*wanted["init_only"], *wanted["constant_buffers"]}


@pytest.mark.parametrize(("layout", "mount", "norms"), [
    ("detic", "backbone.bottom_up.", (1, 2, 3)), ("glee", "", (0, 1, 2, 3)), ("swint_detectron2", "backbone.bottom_up.",
                                                                              (0, 1, 2, 3))])
def test_layouts_that_are_known_in_words_are_built_from_the_words(layout, mount, norms):
    names = {t.name for t in planned(layout, "tiny").targets}
    assert all(name.startswith(mount) for name in names)
    assert {i for i in range(4) if f"{mount}norm{i}.weight" in names} == set(norms)
    assert len(names) == 169 + 12 + 2 * len(norms)


# -- the index that follows from the window ----------------------------------------------------------------------------


def with_buffers(weights, window=TOY.window):
    """The official file: the index of every block, and the mask of every second one, besides."""
    index = relative_position_index(window, window).view(np.int64)
    blocks = sorted({name.split(".attn.")[0] for name in weights if ".attn." in name})
    return weights | {f"{b}.attn.relative_position_index": index for b in blocks} | {
        f"{b}.attn_mask": np.zeros((4, 4, 4), np.float32) for b in blocks if b.endswith("1")}


@pytest.mark.parametrize("window", [2, 7, 12])
def test_the_index_is_that_of_every_implementation(window):
    index = torch.from_numpy(relative_position_index(window, window).view(np.int64))
    timm = import_package("timm").models.swin_transformer.get_relative_position_index(window, window)
    vision = import_package("torchvision").models.swin_transformer.ShiftedWindowAttention(4, [window] * 2, [0, 0], 2)
    assert torch.equal(index, timm)
    assert torch.equal(index.flatten(), vision.relative_position_index)
    assert torch.equal(index, relative_index(window))


def test_a_file_that_holds_the_index_gives_the_same_artifact_as_one_that_does_not(work):
    bare = convert(save_pth(work / "bare.pth", WEIGHTS), layout="maskdino", load_check=False)
    full = convert(save_pth(work / "full.pth", with_buffers(WEIGHTS)), layout="maskdino", load_check=False)
    assert bare.written.file.sha256 == full.written.file.sha256
    dropped = full.data["dropped"]
    assert dropped["layers.0.blocks.0.attn.relative_position_index"] == "follows from the config"
    assert dropped["layers.0.blocks.1.attn_mask"] == "follows from the size of the image"
    held = torch.load(bare.path)["model"]["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert torch.equal(held, relative_index(TOY.window))


def test_an_index_that_is_another_is_refused(work):
    arrays = with_buffers(WEIGHTS)
    name = "layers.2.blocks.1.attn.relative_position_index"
    arrays[name] = arrays[name].T.copy()
    with pytest.raises(CheckFailed, match="would be lost") as caught:
        convert(save_pth(work / "odd.pth", arrays), layout="maskdino", load_check=False)
    assert caught.value.why == (f"{name} is not relative_position_index(2, 2)",)


def test_no_fresh_leaves_the_index_to_the_class(work):
    done = convert(save_pth(work / "bare.pth", WEIGHTS), layout="maskdino", fresh=False, load_check=False)
    assert not [name for name in torch.load(done.path)["model"] if "index" in name]


def test_an_artifact_is_read_back_and_becomes_another(work):
    first = convert(save_pth(work / "bare.pth", WEIGHTS), layout="maskdino", load_check=False)
    again = convert(first.path, layout="detrex", name="again", output=work / "again.pth", load_check=False)
    direct = convert(work / "bare.pth", layout="detrex", load_check=False)
    assert again.written.file.sha256 == direct.written.file.sha256


# -- the real modules --------------------------------------------------------------------------------------------------


def real(kind):
    """A real module's own file, in the toy's size, with its own random start values."""
    torch.manual_seed(0)
    if kind == "timm":
        timm = import_package("timm").models.swin_transformer
        return timm.SwinTransformer(img_size=(128, 192), embed_dim=6, depths=TOY.depths, num_heads=TOY.heads,
                                    window_size=2, num_classes=5).state_dict()
    if kind == "torchvision":
        vision = import_package("torchvision").models.swin_transformer
        return vision.SwinTransformer([4, 4], 6, [*TOY.depths], [*TOY.heads], [2, 2], num_classes=5).state_dict()
    package = import_package("transformers")
    return package.SwinForImageClassification(transformers_config(package)).state_dict()


def transformers_config(package):
    return package.SwinConfig(image_size=128, embed_dim=6, depths=[*TOY.depths], num_heads=[*TOY.heads], window_size=2)


@pytest.mark.parametrize(("kind", "dialect"), [("timm", "timm"), ("torchvision", "torchvision"),
                                               ("transformers", "transformers-5")])
def test_the_file_of_a_real_module_is_recognised_and_proved(work, kind, dialect):
    torch.save(real(kind), work / "real.pth")
    done = convert(work / "real.pth", layout="maskdino", load_check=False)
    assert done.data["dialect"] == dialect
    (opening,) = subjects("real")
    with opening as s:
        found = parity(s.source, s.found, s.artifact, s.ours, kind)
    assert (found.passed, found.skipped) == (True, {"pooled": "layout mask2former has no norm.weight"})


def test_transformers_files_keep_the_names_of_version_4(work):
    package = import_package("transformers")
    package.SwinModel(transformers_config(package)).save_pretrained(work / "hf")
    assert convert(work / "hf" / "model.safetensors", output=work, load_check=False).data["dialect"] == "transformers"


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224",
                                  "swin_base_patch4_window12_384", "swin_large_patch4_window7_224"])
def test_timms_members_are_recognised_at_full_size(name):
    with torch.device("meta"):
        state = import_package("timm").create_model(name).state_dict()
    found = recognise({n: TensorSpec(n, tuple(t.shape)) for n, t in state.items()}, families(), what=name)
    assert (found.family.name, found.dialect.name) == ("swin", "timm")
    assert found.variant == name.split("_")[1] + ("_384" if "384" in name else "")


@pytest.mark.parametrize("name", ["swin_s3_tiny_224", "swinv2_cr_tiny_ns_224"])
def test_relatives_are_no_swin(name):
    with torch.device("meta"):
        state = import_package("timm").create_model(name).state_dict()
    found = recognise({n: TensorSpec(n, tuple(t.shape)) for n, t in state.items()}, families(), what=name)
    assert (found.family.name, found.variant) == ("timm", name)


# -- absolute positions ------------------------------------------------------------------------------------------------

ABSOLUTE = replace(TOY, positions=32)  # of images of 128 pixels


def test_absolute_positions_become_the_map_that_detectron2_adds(work):
    weights = lively_weights(FAMILY, ABSOLUTE)
    arrays = spelled(OFFICIAL, weights)
    assert arrays["absolute_pos_embed"].shape == (1, 32 * 32, 6)
    done = convert(save_pth(work / "ape.pth", arrays), layout="mask2former", load_check=False)
    made = torch.load(done.path)["model"]["backbone.absolute_pos_embed"]
    row = torch.from_numpy(arrays["absolute_pos_embed"])
    assert torch.equal(made, row.view(1, 32, 32, 6).permute(0, 3, 1, 2))
    swin = done.data["detectron2"]["MODEL"]["SWIN"]
    assert (swin["APE"], swin["PRETRAIN_IMG_SIZE"]) == (True, 128)
    again = convert(done.path, layout="detrex", output=work / "again.pth", load_check=False)
    assert np.array_equal(torch.load(again.path)["model"]["backbone.absolute_pos_embed"], made)


def test_absolute_positions_compute_what_transformers_computes(tmp_path):
    result, faults, score = prove(FAMILY, ABSOLUTE, "transformers", tmp_path, most=15)
    assert (result.passed, faults, score.survivors, result.unseen) == (True, [], [], ())
    assert result.images == (1, 3, 128, 128)


def test_a_transposed_map_of_positions_is_noticed():
    weights = lively_weights(FAMILY, ABSOLUTE)
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    wrong = weights | {"absolute_pos_embed": weights["absolute_pos_embed"].swapaxes(2, 3).copy()}
    errors = apart(outputs(wrong, images, ABSOLUTE), outputs(weights, images, ABSOLUTE))
    assert min(errors.values()) > 0.01


def test_the_map_of_positions_is_stretched_over_larger_images():
    weights = lively_weights(FAMILY, ABSOLUTE)
    found = outputs(weights, torch.randn(1, 3, 192, 256, dtype=torch.float64), ABSOLUTE)
    assert found["res2"].shape == (1, 6, 48, 64)


def test_positions_of_no_square_are_refused(work):
    arrays = spelled(OFFICIAL, lively_weights(FAMILY, ABSOLUTE))
    arrays["absolute_pos_embed"] = arrays["absolute_pos_embed"][:, :-1]
    with pytest.raises(CheckFailed) as caught:
        convert(save_pth(work / "odd.pth", arrays), load_check=False)
    assert "absolute_pos_embed" in caught.value.why[0]


@pytest.mark.parametrize("against", ["timm", "torchvision"])
def test_packages_without_absolute_positions_say_so(against):
    with pytest.raises(ValueError, match="no absolute positions"):
        upstream(FAMILY, against).build(ABSOLUTE, {})


# -- what would load, and be wrong -------------------------------------------------------------------------------------


def outputs(weights, images, config=TOY):
    module = build(config)
    module.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    with torch.no_grad():
        return module.double().eval().outputs(images)


def apart(a, b):
    return {n: float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in b}


def test_openmmlabs_merging_by_names_alone_is_wrong_from_the_second_stage_on():
    images = torch.randn(1, 3, 128, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arrays = spelled(OPENMMLAB, WEIGHTS)
    wrong = replace(OPENMMLAB, rules=[replace(r, op=identity) if isinstance(r, Rule) else r for r in OPENMMLAB.rules])
    made = {}
    for dialect in (OPENMMLAB, wrong):
        found = fit(FAMILY, dialect, {n: TensorSpec(n, a.shape) for n, a in arrays.items()})
        assert found.exact  # it fits, it would load
        made[dialect.rules is wrong.rules] = {n: evaluate(v, arrays.__getitem__) for n, v in found.canonical.items()}
    right, bad = (outputs(made[key], images) for key in (False, True))
    errors = apart(bad, right)
    assert errors["res2"] == 0
    assert all(errors[name] > 0.3 for name in ("res3", "res4", "res5"))


def test_where_one_window_covers_the_map_detectron2_shifts_and_others_do_not(work, monkeypatch):
    """At 64 pixels the toy's last stage is as large as its window, as Swin-T's is at 224: parity must see it."""
    source = save_pth(work / "toy.pth", WEIGHTS)
    small = replace(FAMILY, image=(64, 64))
    deep = {"depths": (2, 1, 2, 2)}
    config = replace(TOY, **deep)
    save_pth(source, lively_weights(FAMILY, config))
    with subjects(str(source))[0] as s:
        found, ours = (replace(one, family=small) for one in (s.found, s.ours))
        result = parity(s.source, found, s.artifact, ours, "torchvision")
        whole = parity(s.source, s.found, s.artifact, s.ours, "torchvision")
    assert whole.passed
    errors = {d.output: d.relative for d in result.differences}
    assert errors["res4"] < 1e-12
    assert errors["res5"] > 0.001


@pytest.mark.parametrize(("size", "apart_by"), [(224, (0.005, 0.1)), (448, (0, 1e-4))])
def test_a_swin_t_at_224_pixels_is_some_percent_off_by_design_and_at_448_it_is_not(size, apart_by):
    """The last map of 224 pixels is one window: a shift that others leave out there. Nothing else differs."""
    torch.manual_seed(0)
    theirs = import_package("torchvision").models.swin_t().eval()
    state = {n: t.numpy() for n, t in theirs.state_dict().items()}
    found = recognise({n: TensorSpec(n, a.shape, "I64" if "index" in n else "F32") for n, a in state.items()},
                      families(), what="x")
    ours = build(found.config).eval()
    ours.load_state_dict({n: torch.from_numpy(np.array(evaluate(v, state.__getitem__)))
                          for n, v in found.canonical.items()})
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        errors = apart(ours.outputs(images), upstream(FAMILY, "torchvision").outputs(theirs, images))
    assert max(errors[name] for name in ("res2", "res3", "res4")) < 1e-4
    assert apart_by[0] <= errors["res5"] < apart_by[1]


def test_maps_that_are_no_multiple_of_the_window_are_padded():
    images = torch.randn(1, 3, 70, 101, dtype=torch.float64)
    shapes = {n: tuple(f.shape) for n, f in outputs(WEIGHTS, images).items()}
    assert shapes["res2"] == (1, 6, 18, 26)
    assert shapes["res5"] == (1, 48, 3, 4)


def test_windows_of_another_size_come_from_resampled_tables_and_the_index_follows(work):
    """As utils.py of microsoft/Swin-Transformer resamples them: bicubically, over the (2w-1)² relative positions."""
    path = save_pth(work / "toy.pth", spelled(OFFICIAL, WEIGHTS))
    done = convert(path, layout="mask2former", window=3, load_check=False)
    model = torch.load(done.path)["model"]
    for name, old in WEIGHTS.items():
        found = model.get(f"backbone.{name}")
        if name.endswith("relative_position_bias_table"):
            table = torch.from_numpy(old).double().T.reshape(1, -1, 3, 3)
            wanted = torch.nn.functional.interpolate(table, (5, 5), mode="bicubic", align_corners=False)
            torch.testing.assert_close(found, wanted.reshape(-1, 25).T.float(), rtol=0, atol=1e-6)
        elif found is not None:
            assert torch.equal(found, torch.from_numpy(old))
    index = model["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert torch.equal(index, relative_index(3))
    assert done.data["changes"] == ["windows of 2 places resampled to 3"]
    assert done.data["detectron2"]["MODEL"]["SWIN"]["WINDOW_SIZE"] == 3
    assert done.certificate.config["window"] == 3
