"""Declared changes: what they compute, that they are told everywhere, and that nothing else comes in with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from toy import TOY, Config

from zooconv import CheckFailed, UsageError, convert, inspect, plugins, resample_grid
from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.mapping import expr
from zooconv.mapping.arithmetic import bicubic, decoded, encoded
from zooconv.mapping.expr import Leaf, ShapeError, evaluate
from zooconv.parity import parity
from zooconv.registry import Registry
from zooconv.subject import subjects
from zooconv.testing.checkpoints import lively_weights, save_pth, spelled

SCALED = Config(4, scaled=True)


@pytest.fixture
def scaled(work, install):
    """A file of a toy with a gain, which the layout `tight` folds."""
    install("toy")
    return save_pth(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, SCALED)))


def tensors(path):
    return torch.load(path)["model"]


# -- arithmetic ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_bicubic_is_torchs(height, width, to_height, to_width, seed):
    values = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    wanted = torch.nn.functional.interpolate(values, (to_height, to_width), mode="bicubic", align_corners=False)
    torch.testing.assert_close(torch.from_numpy(bicubic(values.numpy(), 2, 3, to_height, to_width)), wanted,
                               rtol=1e-12, atol=1e-12)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), st.sampled_from(["F64", "F32", "F16", "BF16"]))
def test_numbers_are_rounded_as_torch_rounds_them(numbers, dtype):
    kind = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    wanted = torch.tensor(numbers, dtype=torch.float32).to(torch.float64).to(kind)
    opaque = encoded(np.array(numbers, "<f4").astype("<f8"), dtype)
    assert opaque.tobytes() == wanted.view(torch.uint8).numpy().tobytes()
    assert decoded(opaque, dtype).tolist() == wanted.double().tolist()


def test_a_grid_along_one_axis_is_resampled_and_what_stands_before_it_stays():
    embedding = torch.randn(1, 1 + 6, 5)
    (value,) = resample_grid(1, old=(2, 3), to=(4, 4), kept=1).forward((Leaf((1, 7, 5), "F32", "pos"),), 1)
    found = torch.from_numpy(evaluate(value, lambda name: embedding.numpy().view("<u4"))).view(torch.float32)
    grid = embedding[:, 1:].double().reshape(1, 2, 3, 5).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(grid, (4, 4), mode="bicubic", align_corners=False)
    assert found.shape == value.shape == (1, 17, 5)
    assert torch.equal(found[:, :1], embedding[:, :1])
    torch.testing.assert_close(found[:, 1:], wanted.flatten(2).transpose(1, 2).float(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("operation", "shapes", "numbers", "dtype", "told"), [
    ("scale", [(4, 2), (2,)], (), "F32", "2 is not a factor for each row of 4x2"),
    ("bicubic", [(4, 2)], (0, 2, 3, 3), "F32", "axes 0 and 2 of 4x2 cannot become 3 x 3"),
    ("scale", [(4, 2), (4,)], (), "I64", "scale computes with floating-point numbers, not with I64"),
])
def test_what_cannot_be_computed_is_refused(operation, shapes, numbers, dtype, told):
    with pytest.raises(ShapeError, match=told):
        expr.arithmetic(operation, tuple(Leaf(shape, dtype, "x") for shape in shapes), numbers)


# -- a layout's own changes --------------------------------------------------------------------------------------------


def test_a_fold_gives_the_product_and_leaves_the_rest_as_it_is(scaled):
    plain, tight = (tensors(convert(scaled, layout=name, load_check=False).path) for name in ("plain", "tight"))
    assert torch.equal(tight["net.mix.weight"], plain["backbone.mix.weight"] * plain["backbone.gain"][:, None])
    assert "net.gain" not in tight
    assert all(torch.equal(tight[f"net.{n}"], plain[f"backbone.{n}"]) for n in ("qkv.weight", "patch.weight"))


def test_it_is_told_in_the_summary_the_record_the_certificate_and_the_file_says_what_it_has_become(scaled, zooconv):
    told = zooconv("convert", scaled, "--layout", "tight", "--no-load-check").err
    assert "gain folded into mix  (2 tensors computed anew)" in told
    schema = json.loads((Path(__file__).parents[1] / "docs" / "registry.schema.json").read_text())
    jsonschema.validate(json.loads((scaled.parent / "registry.json").read_text()), schema)
    record = Registry.read(scaled.parent / "registry.json").records["toy/tight"]
    assert record.changes == ["gain folded into mix"]
    assert "gain folded into mix" in (scaled.parent / "toy_tight.pth.md").read_text()
    done = convert(scaled, layout="tight", load_check=False, force=True)
    assert done.certificate.changes == ["gain folded into mix"]
    assert {n: row.computed for n, row in done.certificate.sources.items() if row.computed} == dict.fromkeys(
        ["gain", "mixer"], "gain folded into mix")
    assert done.certificate.sources["q.weight"].back is not None
    with open_checkpoint(done.path) as artifact:
        assert inspect(done.path).data["config"] == {"dim": 4, "patch": 16, "scaled": False}
        assert artifact.tensors


def test_what_was_computed_is_computed_again_when_its_certificate_is_checked(scaled):
    done = convert(scaled, layout="tight", load_check=False)
    with open_checkpoint(scaled) as source, open_checkpoint(done.path) as artifact:
        assert check_certificate(done.certificate, source, artifact) == []
        row = done.certificate.targets["net.mix.weight"]
        assert row.made["arithmetic"] == "scale"
        forged = row.model_copy(update={"made": row.made | {"of": [row.made["of"][0], "norm.weight"]}})
        rows = {**done.certificate.targets, "net.mix.weight": forged}
        assert "is not it" in check_certificate(done.certificate.model_copy(update={"targets": rows}),
                                                source, artifact)[0]


def test_the_artifact_means_what_a_file_of_the_same_values_means(scaled):
    """The canonical digest of a changed artifact is that of its own tensors, not of its source's."""
    done = convert(scaled, layout="tight", load_check=False)
    assert done.certificate.artifact.canonical == inspect(done.path).data["canonical"]
    assert done.certificate.artifact.canonical != done.certificate.source.canonical


def test_a_fold_is_the_same_function_up_to_one_rounding(scaled, zooconv):
    convert(scaled, layout="tight", load_check=False)
    done = zooconv("parity", "toy_tight.pth", "--json")
    (found,) = done.json
    assert (done.code, found["changes"], found["limit"]) == (0, ["gain folded into mix"], 5e-6)
    assert 1e-12 < found["outputs"]["mixed"]["float64"]["rel"] < 5e-6


def test_a_fold_that_is_forgotten_is_another_function(scaled, monkeypatch):
    monkeypatch.setattr("toy.TOY", replace(TOY, layouts=[toy.WRONG]))
    plugins.plugins.cache_clear()
    done = convert(scaled, layout="wrong", load_check=False)
    (opening,) = subjects(str(done.path))
    with opening as subject:
        result = parity(subject.source, subject.found, subject.artifact, subject.ours)
    assert (result.passed, result.changes) == (False, ("gain left out",))
    assert max(d.relative for d in result.apart) > 0.01


def test_a_layout_whose_change_does_not_apply_loses_nothing(plain):
    done = convert(plain, layout="tight", load_check=False)
    assert (done.certificate.changes, done.preview.plan.computed) == (None, {})


def test_a_change_that_lacks_a_tensor_is_refused(scaled, monkeypatch):
    other = replace(toy.FOLDED, rules=[toy.compute(["mix.weight", "loss"], ["mix.weight"], toy.fold_scale)])
    monkeypatch.setattr("toy.TOY", replace(TOY, layouts=[replace(toy.TIGHT, changes=[other])]))
    plugins.plugins.cache_clear()
    with pytest.raises(CheckFailed) as caught:
        convert(scaled, layout="tight", load_check=False)
    assert any("needs loss" in line for line in caught.value.why)


# -- changes on demand ------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(work, install):
    install("toy")
    return save_pth(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy)))


def test_patches_are_resampled_when_asked_for(plain, zooconv):
    done = zooconv("convert", plain, "--layout", "plain", "--patch", 8, "--no-load-check")
    assert "patches of 16 pixels resampled to 8" in done.err
    before = tensors(plain)["patch.weight"]
    wanted = torch.nn.functional.interpolate(before.double(), (8, 8), mode="bicubic", align_corners=False)
    found = tensors("toy_plain_patch8.pth")["backbone.patch.weight"]
    torch.testing.assert_close(found, wanted.float(), rtol=0, atol=1e-7)
    assert Registry.read(plain.parent / "registry.json").records["toy/plain/patch8"].converter.options == {"patch": 8}
    assert zooconv("verify", "--certificate").code == 0
    refused = zooconv("parity", "toy_plain_patch8.pth")
    assert (refused.code, "changed on demand are another function" in refused.err) == (2, True)


def test_asking_for_what_is_there_already_changes_nothing(plain):
    asked = convert(plain, layout="plain", patch=16, load_check=False, output=plain.with_name("asked.pth"))
    assert asked.certificate.changes is None
    assert asked.content.tree == convert(plain, layout="plain", load_check=False).content.tree


def test_a_flip_of_the_input_channels_is_told_and_can_be_undone(plain):
    done = convert(plain, layout="plain", bgr=True, load_check=False)
    assert torch.equal(tensors(done.path)["backbone.patch.weight"], tensors(plain)["patch.weight"].flip(1))
    assert done.certificate.changes == ["colour channels of the first convolution turned round"]
    assert done.data["detectron2"]["INPUT"]["FORMAT"] == "BGR"
    assert done.data["detectron2"]["MODEL"]["PIXEL_MEAN"] == [103.53, 116.28, 123.675]
    assert done.certificate.sources["patch.weight"].back["reorder"] == [2, 1, 0]
    assert done.preview.plan.computed == {}


def test_an_option_that_a_family_has_not_is_refused_with_those_it_has(plain):
    with pytest.raises(UsageError, match="Toy has nothing that --window could change") as caught:
        convert(plain, layout="plain", window=7)
    assert caught.value.why == ("what it has: --patch, --bgr",)
    assert Config(4) == TOY.toy
