"""The way back: what was trained in Detectron2 becomes a file that its upstream loads.

Checkpoints are written by fvcore's own Checkpointer; timm, torchvision and transformers load what comes of them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import ROOT, SMALL, files_in
from test_features import Timm as TimmConvNeXt
from test_features import TimmConvMlp, TimmNormPre, Torchvision, Transformers, randomised
from trained import HEADS, train
from zooconv_zoo.convnext import FAMILY as CONVNEXT
from zooconv_zoo.resnet import FAMILY as RESNET
from zooconv_zoo.swin import FAMILY as SWIN
from zooconv_zoo.vit import FAMILY as VIT
from zooconv_zoo.vit.members import TOY as VIT_TOY

from zooconv import CheckFailed, Files, UsageError, convert, inspect
from zooconv.card import make_card
from zooconv.hub import Hub
from zooconv.mapping.expr import evaluate
from zooconv.mapping.family import Layout
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.names import local
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.plugins import families
from zooconv.registry import Registry
from zooconv.subject import subjects
from zooconv.tensor import TensorSpec
from zooconv.testing.back import returns
from zooconv.testing.checkpoints import dtype_of, lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.testing.roads import toy
from zooconv.upstream import import_package
from zooconv.verify import verify

QUIET = {"load_check": False, "report": False}
PAIRS = [pytest.param(f, d, layout, id=f"{f.name}-{d.name}-{layout.name}")
         for f in families() for d in f.dialects if f.layout(d.name) is None for layout in f.layouts]


def dialect(family, name):
    return next(d for d in family.dialects if d.name == name)


def torch_state(path, key="model"):
    """A .pth as torch reads it: the tensors under `key`, or at the top."""
    loaded = torch.load(path, weights_only=True)
    return loaded[key] if key else loaded


def trained(source, layout, **more):
    """A training checkpoint of a Detectron2 model that has started from `source`: its path, and its state dict."""
    start = convert(source, layout=layout, **QUIET)
    path = Path("model_final.pth").resolve()
    return path, train(path, torch_state(start.path), **more)


# -- what upstreams load ----------------------------------------------------------------------------------------------


def loads_strictly(upstream, path):
    """The state dict of the upstream's own module once it has loaded a file, with nothing missing or unexpected."""
    model = upstream.build()
    if upstream is Transformers:
        folder = path.parent / "hub"
        folder.mkdir()
        model.config.save_pretrained(folder)
        (folder / "model.safetensors").write_bytes(path.read_bytes())
        model, told = type(model).from_pretrained(folder, output_loading_info=True)
        assert not any(told.values()), told
    else:
        model.load_state_dict(torch_state(path, "") if path.suffix == ".pth" else load_file(path), strict=True)
    return model.state_dict()


@pytest.mark.parametrize("upstream", [TimmConvNeXt, TimmConvMlp, TimmNormPre, Torchvision, Transformers],
                         ids=lambda u: u.__name__)
def test_filled_from_the_original_it_is_a_file_that_the_upstream_loads_strictly(upstream, work):
    """With the shapes and names that this member has there: 1x1 convolutions, or a norm before pooling."""
    model = randomised(upstream)
    original = upstream.save(model, work)
    path, state = trained(original, "mask2former")
    done = convert(path, to=upstream.dialect, fill_from=str(original), drop_trained=True, **QUIET)
    loaded = loads_strictly(upstream, done.path)
    before = model.state_dict()
    assert {name: t.shape for name, t in loaded.items()} == {name: t.shape for name, t in before.items()}
    kept = {name.removeprefix("fill-from:") for name in done.preview.plan.filled}
    assert len(kept) == 4
    same = {name for name in loaded if torch.equal(loaded[name], before[name])}
    assert {name.split(".", 1)[-1] for name in same} == {name.split(".", 1)[-1] for name in kept}
    stem = next(t for t in loaded.values() if t.shape == (4, 3, 4, 4))
    assert torch.equal(stem, state["backbone.downsample_layers.0.0.weight"])


def test_without_the_original_just_that_is_missing_which_is_told(work):
    model = randomised(TimmConvNeXt)
    path, _ = trained(TimmConvNeXt.save(model, work), "mask2former")
    done = convert(path, to="timm", drop_trained=True, load_check=False)
    loaded = TimmConvNeXt.build().load_state_dict(load_file(done.path), strict=False)
    told = {*done.data["missing"], *(name for name in loaded.missing_keys if name.startswith("head.fc."))}
    assert (set(loaded.missing_keys), loaded.unexpected_keys) == (told, [])
    assert done.data["missing"] == dict.fromkeys(["head.norm.weight", "head.norm.bias"],
                                                 "mask2former: this layout has no final norm")
    assert done.data["never"]["head.fc.{wb}"] == "classifier"


def test_a_bare_file_is_what_transformers_loads_into_a_model_without_a_head(work):
    """Files on the hub have the names under "convnext."; transformers takes those that have not."""
    package = import_package("transformers")
    original = Transformers.save(randomised(Transformers), work)
    done = convert(convert(original, layout="d2", **QUIET).path, to="transformers", **QUIET)
    done.path.rename(work / "model.safetensors")
    _, told = package.ConvNextModel.from_pretrained(work, output_loading_info=True)
    assert not any(told.values()), told


def test_timms_swin_has_no_index_of_positions_and_so_none_is_written(work):
    """Older files of timm have it, and are read."""
    timm = import_package("timm")
    sizes = {"img_size": 64, "patch_size": 4, "embed_dim": 6, "depths": SWIN.toy.depths, "num_heads": SWIN.toy.heads,
             "window_size": 2, "num_classes": 5}
    model = timm.models.swin_transformer.SwinTransformer(**sizes)
    save_file(model.state_dict(), work / "swin.safetensors")
    path, state = trained(work / "swin.safetensors", "mask2former")
    assert any(name.endswith("relative_position_index") for name in state)
    bare = convert(path, to="timm", drop_trained=True, **QUIET)
    filled = convert(path, to="timm", drop_trained=True, fill_from="swin.safetensors", output=work / "whole.pth",
                     **QUIET)
    told = timm.models.swin_transformer.SwinTransformer(**sizes).load_state_dict(load_file(bare.path), strict=False)
    assert told.unexpected_keys == []
    assert set(told.missing_keys) == {"norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias"}
    timm.models.swin_transformer.SwinTransformer(**sizes).load_state_dict(torch_state(filled.path, ""), strict=True)


# -- every family, every dialect, every layout ------------------------------------------------------------------------


def arrays_of(plan, arrays):
    opaque = {name: array.view(f"<u{array.itemsize}") for name, array in arrays.items()}
    return {m.target.name: np.ascontiguousarray(evaluate(m.value, opaque.__getitem__)) for m in plan.moves}


@pytest.mark.parametrize(("family", "spelling", "layout"), PAIRS)
def test_every_dialect_comes_back_from_every_layout(family, spelling, layout):
    """In memory: names, shapes, dtypes and bytes, but for what the plan tells of."""
    source = spelled(spelling, lively_weights(family, toy(family, spelling)))
    found = fit(family, spelling, {n: TensorSpec(n, a.shape, dtype_of(a)) for n, a in source.items()})
    try:
        there = make_plan(found, layout)
    except CheckFailed:
        assert layout.refusal(layout.after(found.config)) or spelling.lacks
        return
    if there.computed:
        assert there.changes
        return
    placed = arrays_of(there, source)
    read = fit(family, layout.body, {spec.name: spec for spec in there.targets}, layout.mount, layout)
    assert read.exact, read.problems[:5]
    back = make_plan(read, Layout.of(spelling))
    came = arrays_of(back, placed)
    assert {n: (a.shape, a.tobytes()) for n, a in came.items() if n in source} == {
        n: (a.shape, a.tobytes()) for n, a in source.items() if n in came}
    left = {n for n, why in there.dropped.items() if why != "follows from the config"} if there.changes else set()
    assert came.keys() | back.missing.keys() | left >= source.keys()
    assert all("index" in name for name in came.keys() - source.keys())


@pytest.mark.slow
@pytest.mark.parametrize(("family", "spelling"), {p.id.rsplit("-", 1)[0]: p.values[:2] for p in PAIRS}.values(),
                         ids=lambda x: x.name)
def test_every_dialect_comes_back_from_every_layout_on_files(family, spelling, work):
    """Alone, and filled from the original: then the file is the original's, tensor for tensor."""
    for one in returns(family, spelling, work):
        assert one.faults == [], one.layout


def test_a_file_that_came_back_changed_is_noticed(work):
    """The control."""
    one = next(returns(CONVNEXT, dialect(CONVNEXT, "timm"), work))
    assert one.faults == []
    digest = one.bare.written.target[0]
    spoiled = replace(one.bare.written, target=(digest._replace(sha256="0" * 64), *one.bare.written.target[2:]))
    assert [fault.split(": ")[1] for fault in replace(one, bare=replace(one.bare, written=spoiled)).faults] == [
        "came back changed", "did not come back, and is not told as missing"]


def test_what_a_naming_takes_for_granted_must_be_so(work):
    """Detectron's folded norms have no statistics; a norm that has some cannot be one of them."""
    weights = lively_weights(RESNET, RESNET.toy)
    path = save_pth(work / "resnet.pth", {f"backbone.{name}": array for name, array in weights.items()})
    with pytest.raises(CheckFailed, match="tensors would be lost") as caught:
        convert(path, to="caffe2-folded", **QUIET)
    assert "backbone.stem.conv1.norm.running_mean is not 0 everywhere" in caught.value.why
    assert files_in(work) == ["resnet.pth"]


# -- whole models -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(work, weights):
    """The small ConvNeXt in timm's file, with a classifier."""
    heads = {"head.fc.weight": random_array("w", (10, 16)), "head.fc.bias": random_array("b", (10,))}
    return save_safetensors(work / "small.safetensors", spelled(dialect(CONVNEXT, "timm"), weights) | heads)


def test_all_that_is_no_backbone_is_named_and_left(small):
    path, state = trained(small, "mask2former")
    seen = inspect(path)
    assert seen.data["prefix"] == "backbone."
    assert {beside.split(" ")[0] for beside in seen.data["beside"]} == {"optimizer", "scheduler", "iteration"}
    done = convert(path, to="timm", drop_trained=True, **QUIET)
    assert {name for name, why in done.data["dropped"].items() if why.startswith("outside the backbone")} == set(HEADS)
    assert done.data["source"]["wrapper"] == ["model"]
    assert len(state) == len(done.data["dropped"]) + done.data["artifact"]["tensors"]


@pytest.mark.parametrize(("layout", "beside"), [
    ("fpn", ["backbone.fpn_lateral2.weight", "backbone.fpn_output5.bias", "backbone.top_block.p6.weight"]),
    ("mask2former", ["sem_seg_head.layers.0.norm1.weight"]),
    ("uninext", ["detr.detr.class_embed.0.weight", "detr.detr.backbone.0.body.weight"]),
])
def test_a_backbone_is_found_under_its_mount(small, layout, beside):
    path, state = trained(small, layout, heads={**HEADS, **dict.fromkeys(beside, (3, 2))})
    done = convert(path, to="official", drop_trained=True, **QUIET)
    stem = next(name for name in state if name.endswith("stages.0.0.dwconv.weight"))
    assert torch.equal(torch_state(done.path)["stages.0.0.dwconv.weight"], state[stem])
    assert set(beside) <= done.data["dropped"].keys()


def test_a_vitdets_relative_positions_are_known_and_never_lost_in_silence(work):
    """Their shape depends on windows and image alone, so that the layout does not write them."""
    source = save_safetensors(work / "vit.safetensors", spelled(dialect(VIT, "timm"), lively_weights(VIT, VIT_TOY)))
    rows = (27, VIT_TOY.dim // VIT_TOY.heads)
    axis = dict.fromkeys([f"backbone.net.blocks.{b}.attn.rel_pos_{a}" for b in (0, 1) for a in "hw"], rows)
    path, state = trained(source, "vitdet", heads={"backbone.simfp_2.0.weight": (4, 2, 2, 2), **axis})
    with pytest.raises(CheckFailed, match="4 tensors would be lost: a file in timm names has no place for them"):
        convert(path, to="timm", **QUIET)
    done = convert(path, to="timm", drop_trained=True, fill_from="vit.safetensors", **QUIET)
    assert done.data["dropped"]["backbone.simfp_2.0.weight"] == "outside the backbone, which stands under backbone.net."
    assert {name for name, why in done.data["dropped"].items() if "--drop-trained" in why} == set(axis)
    assert load_file(done.path).keys() == load_file(source).keys()
    assert {name.removeprefix("fill-from:") for name in done.preview.plan.filled} == {"cls_token", "norm.weight",
                                                                                      "norm.bias"}
    extracted = convert(path, extract=True, **QUIET)
    assert axis.keys() <= torch_state(extracted.path).keys() == {n for n in state if n.startswith("backbone.net.")}


def test_a_backbone_that_stands_in_two_places_is_found_in_a_whole_model(work):
    """Detectron2's C4: res5 is a part of the heads."""
    from zooconv_zoo.resnet.family import ResNetConfig

    config = ResNetConfig(**{**vars(RESNET.toy), "depths": (1, 1, 1, 3)})
    weights = lively_weights(RESNET, config)
    source = save_pth(work / "r.pth", spelled(dialect(RESNET, "torchvision"), weights), None)
    path, state = trained(source, "c4")
    done = convert(path, to="torchvision", **QUIET)
    assert torch.equal(torch_state(done.path, "")["layer4.2.conv3.weight"], state["roi_heads.res5.2.conv3.weight"])
    assert done.data["dropped"].keys() == HEADS.keys()


def test_of_a_student_and_its_teacher_somebody_must_say_which(small):
    start = torch_state(convert(small, layout="kmax", **QUIET).path)
    path = Path("model_final.pth").resolve()
    state = train(path, {f"{who}.{name}": t for who in ("student", "teacher") for name, t in start.items()})
    with pytest.raises(UsageError, match="can be read in 2 ways") as caught:
        convert(path, to="timm", **QUIET)
    assert caught.value.next == "say which: --prefix teacher.backbone."
    done = convert(path, to="timm", prefix="teacher.backbone.", **QUIET)
    assert torch.equal(load_file(done.path)["stem.0.weight"], state["teacher.backbone.downsample_layers.0.0.weight"])


# -- what only Detectron2 has -----------------------------------------------------------------------------------------


def test_norms_that_were_trained_are_not_lost_without_a_word(small, zooconv):
    path, _ = trained(small, "mask2former")
    before = files_in(path.parent)
    done = zooconv("convert", path, "--to", "timm", "--no-load-check")
    assert done.code == 1
    assert "error: 8 tensors would be lost: a file in timm names has no place for them" in done.err
    assert "backbone.norm0.weight is not 1 everywhere, as it was before training" in done.err
    assert "next: --drop-trained" in done.err
    assert files_in(path.parent) == before
    done = zooconv("convert", path, "--to", "timm", "--drop-trained", "--no-load-check", "--json")
    assert (done.code, [why for why in done.json["dropped"].values() if "--drop-trained" in why]) == (
        0, ["added by another layout, trained or not: --drop-trained"] * 8)
    (record,) = [r for n, r in json.loads(Path("registry.json").read_text())["artifacts"].items() if n.endswith("timm")]
    assert record["converter"]["options"] == {"drop_trained": True}


def test_norms_that_nobody_trained_go_without_a_flag(small):
    path, _ = trained(small, "mask2former", still=tuple(f"norm{i}.{p}" for i in range(4) for p in ("weight", "bias")))
    done = convert(path, to="timm", **QUIET)
    assert "added by another layout, still at its start value" in done.data["dropped"].values()


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spelling", "name", "key"), [
    ("official", "model_official.pth", "model"), ("dinov3", "model_dinov3.pth", ""),
    ("torchvision", "model_torchvision.pth", ""), ("openmmlab", "model_openmmlab.pth", "state_dict"),
    ("timm", "model_timm.safetensors", None), ("transformers", "model_transformers.safetensors", None),
])
def test_each_upstream_gets_the_file_that_it_loads(small, spelling, name, key):
    start = convert(small, layout="d2", output=small.with_name("model.pth"), **QUIET)
    done = convert(start.path, to=spelling, load_check=spelling == "openmmlab", report=False)
    assert done.path.name == name
    state = load_file(done.path) if key is None else torch_state(done.path, key)
    assert all(type(t) is torch.Tensor for t in state.values())
    assert len(state) == 81 + 2 * (spelling == "dinov3")
    record = json.loads(Path("registry.json").read_text())["artifacts"][f"model/{spelling}"]
    assert (record["layout"], record["output"]["format"]) == (spelling, done.path.suffix[1:])


def test_a_plain_state_dict_says_nothing_of_itself(small):
    """Whatever stood beside its tensors would be an unexpected key."""
    done = convert(small, to="torchvision", report=False)
    assert done.data["checks"]["load"] == {"status": "pass"}
    assert all(isinstance(value, torch.Tensor) for value in torch.load(done.path, weights_only=True).values())


def test_format_and_output_say_otherwise(small):
    start = convert(small, layout="d2", output=small.with_name("model.pth"), **QUIET)
    assert torch_state(convert(start.path, to="timm", format="pth", **QUIET).path, "").keys() >= {"stem.0.weight"}
    done = convert(start.path, to="official", output=small.with_name("mine.safetensors"), **QUIET)
    assert load_file(done.path).keys() >= {"stages.0.0.gamma"}


def test_a_dialect_says_how_its_files_are_kept_or_its_project_does():
    assert dialect(VIT, "timm-swiglu").kept == Files("safetensors", "")
    assert dialect(VIT, "dinov2-chunks").kept == Files("pth", "teacher")
    assert dialect(CONVNEXT, "official").kept == Files()


# -- the original -----------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(small):
    """A trained checkpoint as timm's file again, on the command line's road."""
    path, _ = trained(small, "mask2former")
    return convert(path, to="timm", fill_from=str(small), drop_trained=True, name="again", load_check=False)


def test_what_came_from_the_original_is_told_and_recorded(filled, small):
    import hashlib

    import jsonschema

    book = json.loads(Path("registry.json").read_text())
    record = book["artifacts"]["again/timm"]
    sha256 = hashlib.sha256(small.read_bytes()).hexdigest()
    assert record["filled"]["files"] == [{"file": "small.safetensors", "sha256": sha256, "size": small.stat().st_size}]
    jsonschema.validate(book, json.loads((ROOT / "docs/registry.schema.json").read_text()))
    assert record["source"]["content"]["tensors"] == 87 + len(HEADS)
    text = filled.path.with_name(f"{filled.path.name}.md").read_text()
    assert "2: head.norm.weight, head.norm.bias  (this layout has no final norm)" in text
    assert "2: head.fc.bias, head.fc.weight  (classifier)<br>from" in text
    assert "Detectron2 config" not in text


def test_its_certificate_holds_for_all_three_files(filled):
    (outcome,) = verify(Registry.read(Path("registry.json")), ["again/timm"], certificate=True)
    assert outcome.status == "ok", outcome.why
    certificate = json.loads(filled.path.with_name(f"{filled.path.name}.cert.json").read_text())
    assert certificate["sources"]["fill-from:head.fc.bias"]["back"] == "head.fc.bias"
    assert certificate["targets"]["head.fc.bias"]["made"] == "fill-from:head.fc.bias"


def test_another_original_is_noticed(filled, small):
    """The control."""
    tensors = load_file(small)
    tensors["head.fc.bias"] = tensors["head.fc.bias"] + 1
    save_file(tensors, small)
    (outcome,) = verify(Registry.read(Path("registry.json")), ["again/timm"], certificate=True)
    assert (outcome.status, "small.safetensors is not what" in outcome.why) == ("changed", True)


def test_its_card_and_its_parity_are_had_as_of_any_artifact(filled):
    (opening,) = subjects("again/timm")
    with opening as subject:
        card = make_card(subject, ["timm"])
    assert card.passed
    assert (card.checks["certificate"].status, card.parity["timm"].status) == ("verified", "verified")


def test_the_original_may_be_on_the_hub(small, local_hub, work):
    path, _ = trained(small, "mask2former")
    local_hub.add("timm/convnext_tiny.fb_in22k", {"model.safetensors": small})
    options = Options(to="timm", fill_from="convnext_tiny_22k", drop_trained=True, **QUIET)
    done = run(local(path), options, hub=Hub(local_hub.url, work / "cache"))
    assert done.record.filled.repo == "timm/convnext_tiny.fb_in22k"
    assert load_file(done.path).keys() == load_file(small).keys()


@pytest.mark.parametrize(("what", "told"), [
    ("another variant", "cannot have come from the file to fill from"),
    ("another dialect", "is no ConvNeXt in timm names"),
    ("more than a model", "has 1 tensors that no rule of timm knows"),
])
def test_nothing_else_is_taken_of_an_original(small, weights, what, told):
    path, _ = trained(small, "mask2former")
    wider = lively_weights(CONVNEXT, replace(SMALL, dims=(4, 8, 12, 20)))
    timm = spelled(dialect(CONVNEXT, "timm"), weights, "visual.")
    tensors = {"another variant": spelled(dialect(CONVNEXT, "timm"), wider), "another dialect": weights,
               "more than a model": timm | {"text.weight": random_array("t", (4,))}}[what]
    other = save_safetensors(small.with_name("other.safetensors"), tensors)
    before = files_in(small.parent)
    with pytest.raises(CheckFailed, match=told):
        convert(path, to="timm", fill_from=str(other), drop_trained=True, **QUIET)
    assert files_in(small.parent) == before


def test_what_was_folded_away_is_not_filled_in_again(work):
    """The layer scales went into other weights: with them, they would be felt twice."""
    config = replace(VIT_TOY, layerscale=True)
    source = save_safetensors(work / "vit.safetensors", spelled(dialect(VIT, "timm"), lively_weights(VIT, config)))
    path, _ = trained(source, "vitdet", heads={})
    with pytest.raises(CheckFailed, match="cannot have come from") as caught:
        convert(path, to="timm", fill_from=str(source), **QUIET)
    assert "ls1.gamma" in caught.value.why[-1]


def test_second_names_are_those_of_the_trained_tensor(work, weights):
    """DINOv3's files have the final norm twice; the original's own second name is old by then."""
    source = save_pth(work / "dinov3.pth", spelled(dialect(CONVNEXT, "dinov3"), weights), None)
    path, state = trained(source, "d2")
    for more in ({}, {"fill_from": str(source)}):
        done = convert(path, to="dinov3", output=work / f"back{len(more)}.pth", **more, **QUIET)
        back = torch_state(done.path, "")
        assert back.keys() == torch_state(source, "").keys()
        assert torch.equal(back["norms.3.weight"], state["backbone.norm.weight"])
        assert torch.equal(back["norm.weight"], state["backbone.norm.weight"])


# -- the backbone alone -----------------------------------------------------------------------------------------------


def test_extract_keeps_the_backbone_as_it_is(small, zooconv):
    path, state = trained(small, "mask2former")
    done = zooconv("convert", path, "--extract", "--no-load-check")
    assert (done.code, done.out) == (0, "model_final_backbone.pth\n")
    assert "(layout mask2former, 87 tensors" in done.err
    assert "5: sem_seg_head." in done.err
    found = torch_state(path.with_name("model_final_backbone.pth"))
    assert found.keys() == {name for name in state if name.startswith("backbone.")}
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())
    assert next(verify(Registry.read(Path("registry.json")), ["model_final/backbone"], certificate=True)).status == "ok"
    assert path.stat().st_size > 2 * path.with_name("model_final_backbone.pth").stat().st_size


def test_extract_keeps_a_prefix_that_is_no_layouts(small):
    start = torch_state(convert(small, layout="d2", **QUIET).path)
    path = Path("ema.pth").resolve()
    train(path, {f"teacher.{name}": t for name, t in start.items()})
    done = convert(path, extract=True, **QUIET)
    assert all(name.startswith("teacher.backbone.") for name in torch_state(done.path))
    (opening,) = subjects("ema/backbone")
    with opening as subject:
        assert (subject.ours.prefix, subject.ours.exact) == ("teacher.backbone.", True)


def test_extract_of_a_layout_without_what_it_adds_adds_nothing(small):
    start = convert(small, layout="mask2former", fresh=False, **QUIET)
    done = convert(start.path, extract=True, **QUIET)
    assert torch_state(done.path).keys() == torch_state(start.path).keys()


@pytest.mark.parametrize("more", [{"layout": "timm"}, {"bgr": True}, {"fill_from": "x.pth"}])
def test_extract_contradicts_whatever_would_change_the_backbone(small, more):
    with pytest.raises(UsageError, match="--extract keeps the backbone as it is"):
        convert(small, extract=True, **more)


# -- what does not go -------------------------------------------------------------------------------------------------


def test_a_config_is_not_told_of_a_file_that_detectron2_does_not_load(small):
    Path("my.yaml").write_text("MODEL: {}\n")
    with pytest.raises(UsageError, match="--config are for what a Detectron2 project loads"):
        convert(small, to="torchvision", config=Path("my.yaml"), **QUIET)
    assert Path("my.yaml").read_text() == "MODEL: {}\n"


def test_a_layout_is_not_filled(small):
    with pytest.raises(UsageError, match="--fill-from completes a file in the names of an upstream"):
        convert(small, layout="d2", fill_from=str(small), **QUIET)


def test_a_member_that_a_naming_has_no_words_for_is_refused(work):
    """RegNet Y has squeeze-excitation; transformers' names of RegNet X have none for it, and it is not left out."""
    family = next(f for f in families() if f.name == "regnet")
    source = save_pth(work / "y.pth", spelled(dialect(family, "pycls"), lively_weights(family, family.toy)))
    with pytest.raises(CheckFailed, match="a file in transformers-x names cannot be made of this file") as caught:
        convert(source, to="transformers-x", **QUIET)
    assert "unplaced" in caught.value.why[0]


def test_inspect_says_what_a_trained_checkpoint_can_become(small, zooconv):
    path, _ = trained(small, "mask2former")
    done = zooconv("inspect", path)
    assert "can become     mask2former, maskdino" in done.out
    assert "with --to, a file in the names of official, dinov3, timm" in done.out
    assert zooconv("inspect", path, "--json").json["upstreams"][2] == "timm"
