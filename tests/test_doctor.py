"""The doctor says in one line what Detectron2 does with a file, and what it advises mends it: shown by fvcore."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from detectron2_loader import Loader
from support import ROOT, files_in
from torch import nn
from zooconv_zoo.convnext import FAMILY as CONVNEXT
from zooconv_zoo.resnet import FAMILY as RESNET

from zooconv import convert
from zooconv.doctor.causes import causes, explain
from zooconv.doctor.diagnosis import diagnose
from zooconv.doctor.mend import mend
from zooconv.doctor.target import layout_target
from zooconv.doctor.words import data, text, verdict
from zooconv.errors import UsageError
from zooconv.repair import repair
from zooconv.testing.checkpoints import random_weights, save_pth, save_safetensors, spelled


def tensors(arrays, prefix=""):
    return {prefix + name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="session")
def plain(weights):
    """The small ConvNeXt without the final norm, which no D2ConvNeXt has."""
    return {name: array for name, array in weights.items() if not name.startswith("norm.")}


def module_of(layout, config=CONVNEXT.toy, family=CONVNEXT, **more):
    """A module with the names and shapes that a layout has; `more` are further tensors."""
    model = nn.Module()
    target = layout_target(family, config, family.layout(layout))
    for name, shape in {**target.shapes, **more}.items():
        *path, last = name.split(".")
        inner = model
        for part in path:
            if part not in dict(inner.named_children()):
                inner.add_module(part, nn.Module())
            inner = inner.get_submodule(part)
        inner.register_parameter(last, nn.Parameter(torch.full(shape, float("nan"))))
    return model


def incompatible(path, model):
    """What fvcore says of this file and this model."""
    loader = Loader(model)
    loader.load(str(path))
    return loader.incompatible


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_a_converted_file_is_loaded_whole(source, zooconv):
    made = convert(source, layout="maskdino", load_check=False)
    done = zooconv("doctor", made.path, "--layout", "maskdino", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["healthy"]
    assert done.json["mend"] == []
    assert incompatible(made.path, module_of("maskdino")).missing_keys == []


def test_the_verdict_stands_in_the_first_line_and_is_all_of_quiet(work, plain, zooconv):
    save_pth(work / "x.pth", plain, "state_dict")
    done = zooconv("doctor", "x.pth")
    told = "ValueError: Unsupported type found in checkpoint! state_dict: <class 'dict'>"
    first = f"x.pth: Detectron2 does not load it: {told}"
    assert done.code == 1
    assert done.out.splitlines()[0] == first
    assert done.out.splitlines()[-1].startswith("mend     zooconv convert x.pth --layout ")
    assert zooconv("doctor", "x.pth", "-q").out == first + "\n"


def test_names_without_a_mount_are_loaded_nowhere(work, plain):
    seen = diagnose(save_pth(work / "x.pth", plain))
    assert not seen.healthy
    assert verdict(seen) == "x.pth: Detectron2 loads nothing of it: none of its names is the model's"
    assert len(incompatible("x.pth", module_of("kmax")).missing_keys) == len(plain)


def test_what_the_project_adds_is_expected_to_be_missing(work, plain):
    path = save_pth(work / "x.pth", {f"backbone.{name}": array for name, array in plain.items()})
    seen = diagnose(path, layout="mask2former")
    assert seen.healthy
    assert seen.held.spare == [f"backbone.norm{i}.{part}" for i in range(4) for part in ("weight", "bias")]
    assert sorted(incompatible(path, module_of("mask2former")).missing_keys) == sorted(seen.held.spare)


def test_what_is_left_over_is_told(work, weights):
    """The 180 keys of scripts that only put a prefix before every name: two of them are dead weight."""
    path = save_pth(work / "x.pth", {f"backbone.{name}": array for name, array in weights.items()})
    seen = diagnose(path, layout="mask2former")
    assert seen.healthy
    assert seen.held.left == ["backbone.norm.weight", "backbone.norm.bias"]
    assert "passed over  2: backbone.norm.weight, backbone.norm.bias" in text(seen)
    assert sorted(incompatible(path, module_of("mask2former")).unexpected_keys) == sorted(seen.held.left)


def test_a_tensor_that_is_missing_is_lost_and_one_of_another_shape_is_skipped(work, plain):
    state = {f"backbone.{name}": array for name, array in plain.items()}
    gone = state.pop("backbone.stages.1.0.gamma")
    state["backbone.stages.2.0.gamma"] = gone[:3]
    path = save_pth(work / "x.pth", state)
    seen = diagnose(path, layout="kmax")
    found = incompatible(path, module_of("kmax"))
    assert not seen.healthy
    assert seen.held.lost == ["backbone.stages.1.0.gamma"]
    assert [s.name for s in seen.held.matching.skipped] == [key for key, *_ in found.incorrect_shapes]
    assert sorted([*seen.held.lost, "backbone.stages.2.0.gamma"]) == sorted(found.missing_keys)
    assert "77 of 79" in verdict(seen)


def test_a_whole_detector_is_not_judged_beyond_its_backbone(work, plain):
    state = {f"backbone.{name}": array for name, array in plain.items()}
    seen = diagnose(save_pth(work / "x.pth", {**state, "sem_seg_head.query": plain["stages.0.0.gamma"]}))
    assert seen.healthy
    assert (seen.held.left, seen.held.around) == ([], 1)


def test_leftovers_under_matching_heuristics_go_astray(work, weights):
    """As in Mask2Former: the classifier's norm ends up in the decoder, which has one of the same size."""
    path = work / "x.pkl"
    content = {"model": tensors(weights), "__author__": "third_party", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    decoder = module_of("mask2former", **{"head.decoder.norm.weight": (16,)})
    seen = diagnose(path, layout="mask2former")
    assert not seen.healthy
    assert seen.held.astray == ["norm.weight", "norm.bias"]
    loader = Loader(decoder)
    loader.load(str(path))
    assert torch.equal(decoder.get_parameter("head.decoder.norm.weight"), torch.from_numpy(weights["norm.weight"]))
    assert "zooconv convert x.pkl --layout mask2former" in text(diagnose(Path("x.pkl")))


def test_a_prefix_free_file_without_leftovers_is_loaded_under_heuristics(work, plain):
    save_pth(work / "x.pth", plain, matching_heuristics=True)
    assert diagnose(Path("x.pth"), layout="mask2former").healthy
    assert diagnose(Path("x.pth"), layout="fpn").healthy
    assert not diagnose(Path("x.pth"), layout="uninext").healthy


def test_a_query_is_taken_off_the_path_and_heeded(work, plain, zooconv):
    save_pth(work / "x.pth", plain)
    assert zooconv("doctor", "x.pth?matching_heuristics=True", "--layout", "fpn").code == 0
    assert "Unsupported query remaining" in zooconv("doctor", "x.pth?layout=fpn").out


def test_two_backbones_under_one_name_are_ambiguous(work, plain):
    path = save_pth(work / "x.pth", plain, matching_heuristics=True)
    (work / "mine.py").write_text("import torch\ndef build():\n m = torch.nn.Module()\n m.a = torch.nn.Module()\n"
                                  " m.b = torch.nn.Module()\n"
                                  " for part in (m.a, m.b): part.downsample_layers = torch.nn.Sequential("
                                  "torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4)))\n return m\n")
    seen = diagnose(path, into="mine:build")
    sys.modules.pop("mine")
    assert "Cannot match one checkpoint key to multiple keys" in verdict(seen)
    assert "two backbones" in seen.because


def test_safetensors_are_loaded_by_luck_and_said_so(work, plain):
    save_safetensors(work / "x.safetensors", {f"backbone.{n}": a for n, a in plain.items()})
    seen = diagnose(Path("x.safetensors"))
    assert not seen.healthy
    assert "only with torch" in verdict(seen)
    assert mend(seen) == ["zooconv repair x.safetensors"]


def test_arrays_that_numpy_2_pickled_need_a_numpy_that_is_not_everywhere(work, plain):
    arrays = {f"backbone.{name}": array for name, array in plain.items()}
    content = pickle.dumps({"model": arrays, "__author__": "x"}, 2)
    for module, healthy in ((b"numpy._core", False), (b"numpy.core", True)):
        Path("x.pkl").write_bytes(re.sub(rb"numpy\._?core", module, content))
        seen = diagnose(Path("x.pkl"))
        assert seen.healthy == healthy
        assert ("only with numpy 1.26 or later" in verdict(seen)) == (not healthy)
        assert mend(seen) == ([] if healthy else ["zooconv repair x.pkl"])


def test_a_pickle_that_needs_somebodys_code_is_said_to(work, plain):
    content = {"model": tensors(plain, "backbone."), "__author__": "x", "loader": Loader}
    Path("x.pkl").write_bytes(pickle.dumps(content))
    seen = diagnose(Path("x.pkl"))
    assert "the module detectron2_loader to be found" in verdict(seen)
    assert mend(seen) == ["zooconv repair x.pkl"]


# -- what it advises, done -------------------------------------------------------------------------------------------

MOUNTED = {
    "under another key": lambda t: torch.save({"state_dict": t}, "x.pth"),
    "a pickle without an author": lambda t: Path("x.pkl").write_bytes(pickle.dumps({"model": t})),
    "torch.save called .pkl": lambda t: torch.save({"model": t}, "x.pkl"),
    "a pickle called .pth": lambda t: Path("x.pth").write_bytes(pickle.dumps({"model": t})),
    "arrays called .pth": lambda t: Path("x.pth").write_bytes(pickle.dumps({k: v.numpy() for k, v in t.items()})),
    "a Namespace beside": lambda t: torch.save({"model": t, "args": argparse.Namespace(lr=1)}, "x.pth"),
    "a number inside": lambda t: torch.save({"model": {**t, "epoch": 3}}, "x.pth"),
    "protocol 4": lambda t: torch.save({"model": t}, "x.pth", pickle_protocol=4),
    "the wrong .pyth": lambda t: torch.save({"model": t}, "x.pyth"),
    "old torch.save called .pkl": lambda t: torch.save({"model": t}, "x.pkl", _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", MOUNTED)
def test_a_file_with_the_right_names_in_the_wrong_form_is_repaired(work, plain, kind):
    state = tensors(plain, "backbone.")
    MOUNTED[kind](state)
    (path,) = [Path(name) for name in files_in(work)]
    seen = diagnose(path)
    assert not seen.healthy
    assert mend(seen) == [f"zooconv repair {path}"]
    mended = repair(path, load_check=False).path
    assert diagnose(mended).healthy
    model = module_of("kmax")
    loader = Loader(model)
    loader.load(str(mended))
    assert loader.incompatible.missing_keys == loader.incompatible.unexpected_keys == []
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dialect", CONVNEXT.dialects, ids=lambda d: d.name)
def test_a_file_with_other_names_is_converted(work, weights, dialect, zooconv):
    save_pth(work / "x.pth", spelled(dialect, random_weights(CONVNEXT, CONVNEXT.toy)))
    (command,) = mend(diagnose(Path("x.pth")))
    arguments = shlex.split(command.split("  (")[0])[1:]
    assert arguments[0] == "convert"
    assert arguments[1:4] == ["x.pth", "--layout", "d2"]
    if dialect is CONVNEXT.dialects[0]:
        assert zooconv(*arguments, "--no-load-check").code == 0
        assert zooconv("doctor", "x_d2.pth").code == 0


def test_averaged_weights_beside_plain_ones_are_a_choice_that_is_told(work, plain):
    torch.save({"model": tensors(plain, "module.backbone."), "model_ema": tensors(plain), "n": argparse.Namespace()},
               "x.pth")
    seen = diagnose(Path("x.pth"))
    assert mend(seen) == ["zooconv repair x.pth --no-ema"]
    assert diagnose(repair(Path("x.pth"), ema=False, load_check=False).path).healthy


def test_of_a_family_that_nobody_knows_only_the_form_is_judged(work):
    torch.save({"state_dict": {"foo.weight": torch.ones(2)}}, "x.pth")
    assert mend(diagnose(Path("x.pth"))) == ["zooconv repair x.pth"]
    seen = diagnose(repair(Path("x.pth"), load_check=False).path)
    assert "for which model, no family here knows" in verdict(seen)
    assert not seen.healthy
    assert "--into" in mend(seen)[0]


# -- a model of the user's own, a config -----------------------------------------------------------------------------


def test_a_model_of_the_users_own_is_what_the_file_is_held_against(work):
    (work / "mine.py").write_text("import torch\ndef build():\n    return torch.nn.Sequential(torch.nn.Linear(2, 3), "
                                  "torch.nn.BatchNorm1d(3))\n")
    torch.save({"model": {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(4), "2.bias": torch.ones(1)}}, "x.pth")
    seen = diagnose(Path("x.pth"), into="mine:build")
    sys.modules.pop("mine")
    assert not seen.healthy
    names = data(seen)["names"]
    assert names["loaded"] == {"0.weight": "0.weight"}
    assert names["lost"] == [f"1.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    assert [s["name"] for s in names["skipped"]] == ["0.bias"]
    assert names["left"] == ["2.bias"]
    assert names["spare"] == ["1.num_batches_tracked"]


@pytest.mark.parametrize("into", ["nowhere:build", "json:nothing", "json:loads", "os:getcwd", "nonsense"])
def test_a_builder_that_gives_no_model_is_told_plainly(work, into):
    torch.save({"model": {"a": torch.ones(1)}}, "x.pth")
    with pytest.raises(UsageError, match="gives no model"):
        diagnose(Path("x.pth"), into=into)


CONFIG = """\
_BASE_: base.yaml
MODEL:
  BACKBONE: {{NAME: {name}}}
  RESNETS: {{DEPTH: 20, WIDTH_PER_GROUP: 4, RES2_OUT_CHANNELS: 16, STRIDE_IN_1X1: {stride}}}
INPUT: {{FORMAT: {format}}}
"""


STD = "[58.395, 57.12, 57.375]"


def resnet_and_config(work, name="build_resnet_fpn_backbone", stride="false", format="RGB", std=STD):
    save_pth(work / "r.pth", {f"backbone.bottom_up.{n}": a for n, a in random_weights(RESNET, RESNET.toy).items()})
    (work / "base.yaml").write_text(f"MODEL: {{PIXEL_MEAN: [123.68, 116.28, 103.53], PIXEL_STD: {std}}}\n")
    (work / "c.yaml").write_text(CONFIG.format(name=name, stride=stride, format=format))
    return diagnose(Path("r.pth"), config=Path("c.yaml"))


def test_a_config_that_agrees_is_healthy_also_where_its_base_says_so(work):
    assert resnet_and_config(work).healthy


@pytest.mark.parametrize(("given", "line"), [
    ({"stride": "true"}, "c.yaml:4: MODEL.RESNETS.STRIDE_IN_1X1 is True, must be False"),
    ({"format": "BGR"}, 'c.yaml:5: INPUT.FORMAT is "BGR", must be "RGB"'),
    ({"std": "[1.0, 1.0, 1.0]"}, "base.yaml:1: MODEL.PIXEL_STD is [1.0, 1.0, 1.0], must be [58.395, 57.12, 57.375]"),
])
def test_a_config_that_disagrees_is_told_key_by_key(work, given, line):
    seen = resnet_and_config(work, **given)
    assert not seen.healthy
    assert mend(seen) == [line, "zooconv config r.pth -l fpn --write c.yaml"]
    assert "the config does not go with them" in verdict(seen)


def test_the_configs_weights_are_this_file_with_their_query(work, plain):
    save_pth(work / "x.pth", plain)
    Path("c.yaml").write_text("MODEL: {WEIGHTS: '/some/where/x.pth?matching_heuristics=True'}\n")
    assert diagnose(Path("x.pth"), config=Path("c.yaml"), layout="fpn").reading.matching
    Path("c.yaml").write_text("MODEL: {WEIGHTS: other.pth}\n")
    assert 'c.yaml:1: MODEL.WEIGHTS is "other.pth", must be "x.pth"' in mend(
        diagnose(Path("x.pth"), config=Path("c.yaml")))


def test_the_configs_backbone_says_which_layout_is_meant(work):
    seen = resnet_and_config(work, name="build_resnet_backbone")
    assert {held.target.layout.name for held in seen.each} == {"d2", "bn", "c4"}
    assert not seen.healthy


def test_a_layout_that_the_family_has_not_is_told(work, plain):
    save_pth(work / "x.pth", plain)
    with pytest.raises(UsageError, match="no layout 'kmx'"):
        diagnose(Path("x.pth"), layout="kmx")


# -- files that nobody should load -----------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["x.pkl", "x.pth"])
def test_a_file_that_asks_to_run_something_is_told_and_not_run(work, name, protocol):
    Path(name).write_bytes(pickle.dumps({"model": Evil(), "__author__": "x"}, protocol))
    seen = diagnose(Path(name))
    assert not seen.healthy
    assert re.search(r"do not load it: it asks to call (posix|nt)\.system", verdict(seen))
    assert "delete the file" in text(seen)
    assert files_in(work) == [name]


@pytest.mark.parametrize(("content", "word", "next_"), [
    (b"", "EOFError", "download it again"), (b"<!DOCTYPE html>", "Weights only load failed", "download it again"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Weights only load failed", "git lfs pull"),
    (b"PK\3\4 and so on", "PytorchStreamReader", "download it again"),
])
def test_a_file_that_is_no_checkpoint_is_told_with_the_way_out(work, content, word, next_):
    Path("x.pth").write_bytes(content)
    seen = diagnose(Path("x.pth"))
    assert word in verdict(seen)
    assert mend(seen) == [next_]


def test_an_index_of_shards_is_no_file_that_detectron2_loads(work, plain):
    save_safetensors(work / "a.safetensors", {f"backbone.{n}": a for n, a in plain.items()})
    where = {f"backbone.{name}": "a.safetensors" for name in plain}
    Path("model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    seen = diagnose(Path("model.safetensors.index.json"))
    assert "Weights only load failed" in verdict(seen)
    assert mend(seen) == ["zooconv repair model.safetensors.index.json"]


def test_a_file_that_cannot_be_read_is_examined_whatever_layout_is_meant(work):
    Path("x.pth").write_bytes(b"<html>")
    assert mend(diagnose(Path("x.pth"), layout="kmax")) == ["download it again"]


def test_no_file_and_a_folder_are_told_plainly(work, zooconv):
    for path in ("nothing.pth", "."):
        done = zooconv("doctor", path)
        assert (done.code, "Traceback" in done.err) == (2, False)
    assert zooconv("doctor").code == 2


@pytest.mark.parametrize("cut", range(0, 2000, 97))
def test_a_file_that_is_cut_anywhere_is_examined_without_a_fault(work, cut):
    content = {"model": {"a": torch.ones(3)}, "x": argparse.Namespace()}
    torch.save(content, "x.pth", _use_new_zipfile_serialization=False)
    whole = Path("x.pth").read_bytes()
    for name in ("y.pth", "y.pkl"):
        Path(name).write_bytes(whole[:cut % len(whole)])
        assert data(diagnose(Path(name)))["healthy"] is False


# -- error messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", causes(), ids=lambda c: c.pattern[:30])
def test_every_message_of_the_table_is_explained_by_its_own_row(cause):
    assert explain(cause.message) is cause
    assert explain(f"Traceback (most recent call last):\n  File …\n\x1b[1m{cause.message}\x1b[0m\n") is cause


def test_an_error_message_is_explained_without_a_file(zooconv):
    message = "ValueError: Unsupported type found in checkpoint! model: <class 'dict'>"
    done = zooconv("doctor", "--error", message)
    assert done.code == 0
    assert '"__author__"' in done.out
    assert "zooconv repair FILE" in done.out
    assert zooconv("doctor", "x.pkl", "--error", message, "--json").json["mend"] == ["zooconv repair x.pkl"]


def test_an_error_message_that_nobody_knows_is_no_error_of_ours(zooconv):
    done = zooconv("doctor", "--error", "CUDA out of memory")
    assert done.code == 1
    assert "zooconv doctor FILE" in done.err


def test_every_message_of_the_troubleshooting_page_is_found_in_the_table():
    page = (ROOT / "docs" / "detectron2" / "troubleshooting.md").read_text()
    messages = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    assert len(messages) == len(causes())
    assert all(explain(message) is not None for message in messages)
    for command in re.findall(r"^    zooconv (\w+)", page, re.MULTILINE):
        assert command in ("doctor", "repair", "convert", "inspect", "fetch-convert")
