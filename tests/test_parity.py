"""Forward parity: a right artifact computes what its source's own implementation computes, and a wrong one does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL
from toy import OLDER, SEPARATE, TOY, Config
from zooconv_zoo.convnext import FAMILY

from zooconv import CheckFailed, UsageError, convert
from zooconv.modules import fill, unseen, without_values
from zooconv.parity import EXACT, parity
from zooconv.registry import Registry
from zooconv.subject import subjects
from zooconv.testing.checkpoints import lively_weights, lively_weights_on_disk, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import code, import_package

DIALECTS = {d.name: d for d in FAMILY.dialects}
UPSTREAMS = {"timm": "timm", "transformers": "transformers", "transformers-dinov3": "transformers-dinov3",
             "torchvision": "torchvision"}


def source_of(work, config, dialect="timm", **changes):
    weights = lively_weights(FAMILY, config)
    return save_safetensors(work / "model.safetensors", spelled(DIALECTS[dialect], weights | changes))


def measured(path, against=None, layout="d2"):
    (opening,) = subjects(str(path), layout=layout)
    with opening as s:
        return parity(s.source, s.found, s.artifact, s.ours, against)


@pytest.mark.parametrize("against", UPSTREAMS)
@pytest.mark.parametrize("dialect", ["timm", "official"])
def test_an_artifact_computes_what_each_upstream_computes(work, dialect, against):
    result = measured(source_of(work, SMALL, dialect), against)
    assert result.passed
    assert [d.output for d in result.differences][:4] == ["res2", "res3", "res4", "res5"]
    assert max(d.relative for d in result.differences) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("against", ["timm", "transformers", "torchvision"])
@pytest.mark.parametrize("variant", ["tiny", "small", "base", "large", "xlarge"])
def test_every_size_computes_what_each_upstream_computes_and_its_certificate_holds(work, variant, against, zooconv):
    source = source_of(work, FAMILY.variants[variant], UPSTREAMS[against])
    convert(source, load_check=False)
    ran = zooconv("parity", "model", "--against", against, "--json")
    assert ran.code == 0
    assert all(output["float64"]["rel"] <= EXACT for output in ran.json[0]["outputs"].values())
    assert zooconv("verify", "--certificate").code == 0


def test_the_upstream_whose_names_the_source_has_is_asked_first(work):
    assert measured(source_of(work, SMALL, "torchvision")).against == "torchvision"
    assert measured(source_of(work, SMALL, "official")).against == "timm"


def test_it_says_in_whose_names_the_upstream_was_given_the_weights(work):
    assert measured(source_of(work, SMALL, "timm"), "timm").spelled == "timm names"
    assert measured(source_of(work, SMALL, "timm"), "torchvision").spelled == "timm names, spelled as torchvision's"


# -- what it must catch ------------------------------------------------------------------------------------------------

SPOIL = {
    "two blocks swapped": lambda w: w | {n.replace("s.2.0.", "s.2.1.") if "stages.2.0." in n else
                                        n.replace("s.2.1.", "s.2.0."): a
                                        for n, a in w.items() if n.startswith(("stages.2.0.", "stages.2.1."))},
    "a kernel transposed": lambda w: w | {"stages.1.1.dwconv.weight": w["stages.1.1.dwconv.weight"].swapaxes(2, 3)},
    "a gamma forgotten": lambda w: w | {"stages.0.0.gamma": np.ones_like(w["stages.0.0.gamma"])},
    "one part in a million": lambda w: w | {"norm.bias": w["norm.bias"] * np.float32(1 + 1e-6)},
}


@pytest.fixture
def spoiled(work):
    """The artifact is written by zooconv from spoiled weights, and then held against the right source."""
    def spoiled(spoil):
        weights = lively_weights(FAMILY, SMALL)
        right = convert(save_pth(work / "right.pth", weights), load_check=False).path
        convert(save_pth(work / "wrong.pth", SPOIL[spoil](weights)), load_check=False).path.replace(right)

    return spoiled


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_wrong_artifact_that_loads_without_a_word_fails(spoiled, spoil):
    spoiled(spoil)
    assert not measured("right").passed


def test_a_failure_is_said_recorded_and_exits_with_1(spoiled, zooconv):
    spoiled("one part in a million")
    ran = zooconv("parity", "right")
    assert ran.code == 1
    assert "NOT the same function" in ran.out
    assert Registry.read(Path("registry.json")).records["right/d2"].checks["parity"].status == "fail"


def test_features_that_are_not_finite_are_told(work):
    weights = lively_weights(FAMILY, SMALL) | {"downsample_layers.1.0.weight": np.full(4, np.nan, np.float32)}
    source = save_pth(work / "odd.pth", weights)
    convert(source, load_check=False, allow_nonfinite=True)
    with pytest.raises(CheckFailed, match="NaN or Inf in res3"):
        measured(Path("odd_d2.pth"))


# -- what a layout lacks, and what is out of reach ---------------------------------------------------------------------


def test_what_needs_a_tensor_that_the_layout_lacks_is_skipped_with_its_reason(work):
    result = measured(source_of(work, SMALL), "timm", layout="maskdino")
    assert result.skipped == {"pooled": "layout mask2former has no norm.weight"}
    assert result.passed
    assert result.tensors == 79
    assert result.unseen == ()


def test_an_output_that_is_another_by_design_is_skipped_with_its_reason(work):
    result = measured(source_of(work, SMALL, "transformers"))
    assert "1e-12" in result.skipped["pooled"]
    assert result.unseen == ("norm.weight", "norm.bias")


def test_a_lacking_tensor_hides_nothing_else(work, install):
    """Layout bare lacks the bias that every output needs: then there is nothing left to compare."""
    install("toy")
    save_pth(work / "toy.pth", spelled(TOY.dialects[0], lively_weights(TOY, TOY.toy)))
    with pytest.raises(UsageError, match="no output in common") as caught:
        measured(work / "toy.pth", layout="bare")
    assert "layout bare has no patch.bias" in caught.value.why


def test_tensors_without_a_part_in_the_outputs_are_found():
    module = torch.nn.Linear(3, 2).double()
    module.idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    assert unseen(module, lambda m: {"y": m(torch.ones(1, 3, dtype=torch.float64))}) == ["idle"]


def test_the_reach_goes_to_running_statistics_and_not_to_counters():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    first = lambda m: {"y": m[1](m[0](images))}  # noqa: E731
    before = module.eval()(images)
    assert unseen(module, first) == ["1.num_batches_tracked", *(n for n in module.state_dict() if n.startswith("2."))]
    assert torch.equal(module(images), before)


def test_a_family_of_another_makers_is_proved_the_same_way(work, install, zooconv):
    install("toy")
    path = save_pth(work / "toy.pth", spelled(TOY.dialects[0], lively_weights(TOY, TOY.toy)))
    result = measured(path, layout="plain")
    assert result.passed
    assert 0 < max(d.relative for d in result.differences) < EXACT


@pytest.fixture
def aged(install, monkeypatch):
    """The toy, with an upstream that spells its small members in another way than the others."""
    install("toy")
    family = replace(TOY, dialects=[SEPARATE, OLDER], upstreams={"toy": "toy:Aged"})
    monkeypatch.setattr("toy.TOY", family)
    return family


@pytest.mark.parametrize(("dim", "dialect", "told"), [
    (2, OLDER, "older names"), (2, SEPARATE, "separate names, spelled as older's"),
    (4, SEPARATE, "separate names"), (4, OLDER, "older names, spelled as separate's")])
def test_a_member_is_held_against_an_upstream_in_the_spelling_that_it_has_there(work, aged, dim, dialect, told):
    save_pth(work / "toy.pth", spelled(dialect, lively_weights(aged, Config(dim))))
    result = measured(work / "toy.pth", layout="plain")
    assert (result.passed, result.spelled) == (True, told)


def test_a_member_is_proved_in_the_spelling_that_it_has_there(work, aged):
    result, faults, score = prove(aged, Config(2), "toy", work)
    assert (result.passed, result.spelled, faults, score.survivors) == (True, "older names", [], [])


# -- the record --------------------------------------------------------------------------------------------------------


def test_the_outcome_goes_into_the_record_and_stays_while_the_bytes_do(work, zooconv):
    source = source_of(work, SMALL)
    convert(source, load_check=False)
    assert zooconv("parity", "model", "--against", "timm", "--against", "torchvision").code == 0
    check = json.loads(Path("registry.json").read_text())["artifacts"]["model/d2"]["checks"]["parity"]
    assert check["status"] == "pass"
    assert sorted(check["against"]) == ["timm", "torchvision"]
    assert check["against"]["timm"] | {"version": ""} == {
        "status": "pass", "version": "", "limit": EXACT, "unseen": [],
        "outputs": ["res2", "res3", "res4", "res5", "pooled"]}
    convert(source, load_check=False)
    assert "parity" in Registry.read(Path("registry.json")).records["model/d2"].checks
    source_of(work, SMALL, **{"norm.bias": np.ones(16, np.float32)})
    convert(source, load_check=False)
    assert "parity" not in Registry.read(Path("registry.json")).records["model/d2"].checks


def test_a_file_that_no_registry_knows_is_converted_for_the_occasion(work, zooconv):
    source = source_of(work, SMALL)
    ran = zooconv("parity", source, "--layout", "detrex")
    assert ran.code == 0
    assert "the same function" in ran.out
    assert sorted(p.name for p in work.iterdir()) == ["model.safetensors"]


def test_every_artifact_of_a_model_is_proved(work, zooconv):
    source = source_of(work, SMALL)
    for layout in ("d2", "kmax"):
        convert(source, layout=layout, load_check=False)
    assert [one["name"] for one in zooconv("parity", "model", "--json").json] == ["model/d2", "model/kmax"]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["model", "--against", "caffe"], 2, "it can against: timm, transformers, transformers-dinov3, torchvision"),
    (["model", "--max-memory", "0.2"], 2, "GB of memory; it may use 0.2 GB"),
    (["convnext_tiny_22k"], 2, "next: zooconv fetch-convert convnext_tiny_22k"),
    (["convnext_tinny_22k"], 2, "did you mean convnext_tiny_22k"),
    (["absent.pth"], 2, "absent.pth"),
    (["model", "--source", "other.pth"], 1, "is not what model_d2.pth was made of"),
])
def test_what_cannot_be_proved_is_told(work, zooconv, arguments, code, told):
    convert(source_of(work, SMALL), load_check=False)
    save_pth(work / "other.pth", lively_weights(FAMILY, SMALL, seed=1))
    ran = zooconv("parity", *arguments)
    assert (ran.code, told in ran.err, "Traceback" in ran.err) == (code, True, False), ran.err


def test_a_source_and_an_artifact_that_do_not_belong_together_are_refused(work):
    other = type(SMALL)((1, 2, 4, 1), SMALL.dims)
    one = convert(save_pth(work / "one.pth", lively_weights(FAMILY, SMALL)), load_check=False)
    two = save_pth(work / "two.pth", lively_weights(FAMILY, other))
    with (subjects(str(two))[0] as s, subjects(str(one.path))[0] as o,
          pytest.raises(UsageError, match="different models") as caught):
        parity(s.source, s.found, o.artifact, o.ours)
    assert "depths 1,2,4,1" in caught.value.why[0]


@pytest.mark.parametrize(("changes", "told"), [
    ({"backbone": ""}, "no reference backbone"),
    ({"upstreams": {}}, "names no upstream to hold it against"),
    ({"upstreams": {"toy": "toy:Absent"}}, "pip install no_such_package"),
    ({"upstreams": {"toy": "toy:Unable"}}, "toy cannot build this Toy"),
    ({"backbone": "toy:other_backbone"}, "the weights do not fit the reference backbone"),
])
def test_a_family_that_cannot_be_run_says_why(work, install, changes, told):
    install("toy")
    path = save_pth(work / "toy.pth", spelled(TOY.dialects[0], lively_weights(TOY, TOY.toy)))
    with subjects(str(path), layout="plain")[0] as s:
        found, ours = (replace(fit, family=replace(TOY, **changes)) for fit in (s.found, s.ours))
        with pytest.raises((UsageError, CheckFailed)) as caught:
            parity(s.source, found, s.artifact, ours)
    assert told in f"{caught.value} {caught.value.next}"


# -- modules -----------------------------------------------------------------------------------------------------------


def test_modules_are_built_without_values_and_filled_strictly():
    with without_values():
        module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    given = {name: (lambda t=t: torch.full_like(t, 2)) for name, t in torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict().items()}
    assert fill(module, given, lacking=nothing, what="it") == {}
    assert all((tensor == 2).all() for tensor in module.state_dict().values())
    assert module[1].running_var.dtype == torch.float64
    assert module[1].num_batches_tracked.dtype == torch.int64
    without = {n: t for n, t in given.items() if n != "0.bias"}
    for wrong, told in ((without, "1 not in the weights: 0.bias"),
                        (given | {"more": given["0.bias"]}, "1 without a place: more"),
                        (given | {"0.bias": lambda: torch.ones(4)}, "1 of another shape: 0.bias (4 given, 3 wanted)")):
        with pytest.raises(CheckFailed) as caught:
            fill(module, wrong, lacking=nothing, what="it")
        assert caught.value.why == (told,)
    assert fill(module, without, lacking=lambda name: "it has none", what="it") == {"0.bias": "it has none"}
    assert module[0].bias.isnan().all()


def test_whole_numbers_that_are_not_given_stay_as_they_were_built():
    module = torch.nn.BatchNorm1d(3)
    given = {name: (lambda t=t: t.clone()) for name, t in module.state_dict().items() if "num" not in name}
    module.num_batches_tracked += 7
    fill(module, given, lacking=nothing, what="it")
    assert module.num_batches_tracked == 7


def nothing(name):
    return None


def test_lively_weights_are_the_same_on_disk(work):
    here, there = lively_weights(FAMILY, SMALL), lively_weights_on_disk(FAMILY, SMALL, work / "weights")
    assert here.keys() == there.keys()
    for name, array in here.items():
        mapped = there[name]
        assert (array.dtype, array.shape, array.tobytes()) == (mapped.dtype, mapped.shape, mapped.tobytes()), name


@pytest.mark.parametrize("variant", ["tiny", "xlarge"])
def test_buffers_keep_their_values_and_parameters_take_no_time(variant):
    with without_values():
        module = code(FAMILY.backbone)(FAMILY.variants[variant])
        norm = torch.nn.BatchNorm2d(3)
    assert len(module.state_dict()) == len(list(FAMILY.tensors(FAMILY.variants[variant])))
    assert (norm.running_var == 1).all()
    assert norm.weight.shape == (3,)


# -- the reference backbone --------------------------------------------------------------------------------------------


def test_the_backbone_is_configurable_the_way_its_users_expect():
    from zooconv_zoo.convnext.backbone import ConvNeXt

    module = ConvNeXt(SMALL.depths, SMALL.dims, out_features=["res3", "res5"], drop_path=0.5, checkpointing=True)
    images = torch.randn(2, 3, 64, 96)
    assert module.output_shape() == {"res3": (8, 8), "res5": (16, 32)}
    found = module.eval()(images)
    assert {n: tuple(f.shape) for n, f in found.items()} == {"res3": (2, 8, 8, 12), "res5": (2, 16, 2, 3)}
    plain = ConvNeXt(SMALL.depths, SMALL.dims).eval()
    plain.load_state_dict(module.state_dict())
    assert all(torch.equal(f, plain(images)[n]) for n, f in found.items())
    with torch.no_grad():
        assert not torch.equal(module.train()(images)["res5"], module(images)["res5"])
    module.freeze(3)
    module(images)["res5"].sum().backward()
    learned = {n.split(".")[1] for n, p in module.named_parameters() if p.grad is not None and n[0] in "sd"}
    assert learned == {"2", "3"}


def test_packages_are_imported_or_asked_for():
    assert import_package("timm").__name__ == "timm"
    with pytest.raises(UsageError) as caught:
        import_package("no_such_package")
    assert caught.value.next == "pip install no_such_package"
