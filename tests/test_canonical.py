"""The same weights have one fingerprint, whoever spelled them; two files are compared by bringing both to it."""

from __future__ import annotations

import numpy as np
import pytest
from support import SMALL
from zooconv_zoo.convnext import FAMILY

from zooconv import convert, inspect
from zooconv.diff import diff
from zooconv.registry import Registry
from zooconv.testing.checkpoints import random_weights, save_pth, save_safetensors, spelled

DIALECTS = {d.name: d for d in FAMILY.dialects}


def saved(work, dialect, weights, save=save_pth):
    return save(work / f"{dialect}.file", spelled(DIALECTS[dialect], weights))


@pytest.mark.parametrize("save", [save_pth, save_safetensors], ids=["pth", "safetensors"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_spelling_of_the_same_weights_has_one_canonical_digest(work, weights, dialect, save):
    wanted = inspect(saved(work, "official", weights)).data["canonical"]
    assert inspect(saved(work, dialect, weights, save)).data["canonical"] == wanted


@pytest.mark.parametrize("layout", ["d2", "uninext", "maskdino"])
def test_source_artifact_and_registry_agree_on_it(source, layout):
    done = convert(source, layout=layout, load_check=False)
    record = Registry.read(source.with_name("registry.json")).records[f"small/{layout}"]
    assert record.source.content.canonical == inspect(source).data["canonical"]
    assert record.output.content.canonical == inspect(done.path).data["canonical"]
    whole = layout == "d2"
    assert (record.output.content.canonical == record.source.content.canonical) == whole


def test_one_bit_makes_another_one(work, weights):
    bent = weights | {"norm.bias": np.nextafter(weights["norm.bias"], np.float32(2))}
    assert (inspect(saved(work, "timm", bent)).data["canonical"]
            != inspect(saved(work, "official", weights)).data["canonical"])


def test_a_head_does_not_change_it(work, weights, official):
    assert inspect(save_pth(work / "a.pth", official)).data["canonical"] == inspect(
        save_pth(work / "b.pth", weights)).data["canonical"]


def test_inspect_can_leave_the_tensors_unread(source, zooconv):
    assert inspect(source, digest=False).data["canonical"] is None
    assert "canonical" not in zooconv("inspect", source, "--no-digest").out
    assert inspect(source).data["canonical"] in zooconv("inspect", source).out


# -- diff --------------------------------------------------------------------------------------------------------------


def test_two_spellings_do_not_differ(work, weights, zooconv):
    ran = zooconv("diff", saved(work, "timm", weights), saved(work, "torchvision", weights, save_safetensors))
    assert ran.code == 0
    assert "names  canonical" in ran.out
    assert f"same   {len(weights)} tensors" in ran.out


def test_a_value_that_differs_is_told_with_its_numbers(work, weights):
    other = weights | {"norm.bias": weights["norm.bias"] + np.eye(1, 16, 3, dtype=np.float32)[0] * np.float32(0.5)}
    found = diff(saved(work, "timm", weights), saved(work, "official", other))
    (change,) = found.changes
    assert (change.name, change.how, found.same) == ("norm.bias", "values", len(weights) - 1)
    assert change.numbers["different"] == 1
    assert change.numbers["max"] == pytest.approx(0.5, abs=1e-6)
    assert change.numbers["mean"] == pytest.approx(0.5 / 16, abs=1e-6)


def test_shapes_dtypes_and_absence_are_told(work, weights):
    other = {name: array for name, array in weights.items() if name != "norm.bias"}
    other |= {"stages.0.0.gamma": weights["stages.0.0.gamma"].astype(np.float16), "norm.weight": np.ones(3, np.float32),
              "more": np.ones(2, np.float32)}
    found = diff(save_pth(work / "a.pth", weights), save_pth(work / "b.pth", other))
    told = {change.name: change.how for change in found.changes}
    assert told == {"norm.bias": "only in A", "more": "only in B", "norm.weight": "shape", "stages.0.0.gamma": "dtype"}


def test_files_that_no_family_knows_are_compared_in_their_own_names(work):
    arrays = {"x": np.arange(4, dtype=np.float32), "y": np.ones(3, np.float32)}
    found = diff(save_pth(work / "a.pth", arrays), save_pth(work / "b.pth", arrays | {"y": np.zeros(3, np.float32)}))
    assert (found.names, [c.name for c in found.changes]) == ("their own", ["y"])


def test_what_is_left_out_of_the_comparison_is_named(work, weights, official):
    found = diff(save_pth(work / "a.pth", official), save_pth(work / "b.pth", weights))
    assert found.changes == ()
    assert found.beside == {"A": ("head.weight", "head.bias"), "B": ()}


def test_different_members_differ_in_shape_everywhere(work, weights):
    larger = random_weights(FAMILY, type(SMALL)((1, 2, 3, 1), (8, 16, 24, 32)))
    found = diff(saved(work, "timm", weights), saved(work, "official", larger))
    assert {change.how for change in found.changes} == {"shape"}


def test_the_exit_code_says_whether_they_differ(work, weights, zooconv):
    a, b = saved(work, "timm", weights), saved(work, "official", weights | {"norm.bias": -weights["norm.bias"]})
    ran = zooconv("diff", a, b, "--json")
    assert ran.code == 1
    assert ran.json["changes"][0]["name"] == "norm.bias"
    assert zooconv("diff", a, b, "-q").out == "norm.bias\n"
    assert zooconv("diff", a, work / "absent.pth").code == 2
