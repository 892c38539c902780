"""Any architecture of timm becomes what a Detectron2 project with a timm backbone holds; the oracle is timm."""

from __future__ import annotations

import gzip
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import DATA
from toy import PLAIN, TOY
from zooconv_zoo.timm import FAMILY, member
from zooconv_zoo.timm.architectures import by_name
from zooconv_zoo.timm.backbone import TimmBackbone, names
from zooconv_zoo.timm.catalogue import MODELS, full, stale
from zooconv_zoo.timm.tree import CLASSIFIER, COUNTER, FLOAT, KEPT, UNUSED, WHOLE, Row, read, write

from zooconv import CheckFailed, Dialect, UsageError, convert, fetch_convert, open_checkpoint, rename
from zooconv.certificate import certificate_path, check_certificate, read_certificate
from zooconv.d2config.goal import wanted_for
from zooconv.mapping.plan import make_plan
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import random_tensor, save_safetensors
from zooconv.testing.prove import prove
from zooconv.testing.prove_members import prove_all, prove_member, strictly
from zooconv.upstream import code
from zooconv.zoo import zoo

SMALL = "mobilenetv3_small_050"
MANIFESTS = sorted((DATA / "manifests" / "timm").glob("*.json.gz"))
# One of each way in which timm names features, and of each kind of tensor that is rare.
KINDS = ["resnet18", "convnext_atto", "densenet121", "efficientnet_b0", "mobilenetv3_small_050", "hrnet_w18_small",
         "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "pit_ti_224", "coat_lite_tiny", "efficientformer_l1",
         "levit_128s", "vgg11", "crossvit_9_240", "xcit_nano_12_p8_224", "cait_xxs24_224"]


def whole(architecture):
    """The tensors of the whole model."""
    return {row.name: TensorSpec(row.name, row.shape, "F32" if row.kind == FLOAT else "I64")
            for row in by_name()[architecture].rows}


def recognised(architecture, **asked):
    return recognise(whole(architecture), families(), what=architecture, **asked)


def planned(architecture, layout):
    found = recognised(architecture, layout=layout)
    return make_plan(found, chosen_layout(found.family, layout))


# -- the proof -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_an_architecture_becomes_what_timms_features_load_strictly(name, timm):
    assert prove_member(FAMILY, name) == (name, len(planned(name, "timm").moves), False, "")


def test_a_random_sample_of_architectures_does(timm):
    quick = [name for name, entry in by_name().items() if len(entry.text) < 450]
    outcomes = list(prove_all(random.Random(7).sample(quick, 24)))
    assert [outcome for outcome in outcomes if outcome.wrong] == []
    assert len(outcomes) == 24


@pytest.mark.slow
def test_every_sixth_architecture_does():
    """`make prove` tries them all."""
    every = list(FAMILY.variants)
    assert len(every) == 1151
    outcomes = list(prove_all(every[::6]))
    assert [outcome for outcome in outcomes if outcome.wrong] == []
    assert len(outcomes) == 192


@pytest.mark.parametrize("name", [SMALL, *(pytest.param(name, marks=pytest.mark.slow)
                                         for name in ("coat_lite_tiny", "vit_tiny_patch16_224", "efficientformer_l1"))])
def test_as_a_file_on_the_whole_road_too(name, timm):
    assert prove_member(FAMILY, name, road=60_000_000) == (name, len(planned(name, "timm").moves), True, "")


@pytest.mark.parametrize(("of", "what"), [("resnet34", "Unexpected key"), ("resnet18d", "Missing key"),
                                          ("seresnext26d_32x4d", "size mismatch|key")])
def test_another_architectures_plan_is_not_loaded(of, what, timm):
    """The control: the proof can fail."""
    with torch.device("meta"):
        backbone = code(FAMILY.backbone)(FAMILY.variants["resnet18"])
    assert re.search(what, strictly(backbone, planned(of, "timm")))
    assert strictly(backbone, planned("resnet18", "timm")) == ""


@pytest.mark.parametrize("name", [SMALL, "pit_ti_224"])
def test_features_are_those_of_the_whole_model_and_wrong_conversions_are_caught(name, tmp_path, timm):
    one = member(by_name()[name])
    parity, faults, score = prove(one, FAMILY.variants[name], "timm", tmp_path, most=3)
    assert parity.passed
    assert faults == []
    assert (score.total, score.survivors) == (3, [])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_a_layout_is_what_the_projects_class_holds(path):
    wanted = json.loads(gzip.decompress(path.read_bytes()))
    targets = planned(wanted["variant"], wanted["layout"]).targets
    made = {t.name: (list(t.shape), DTYPES[t.dtype].torch) for t in targets}
    assert made == {name: (key["shape"], key["dtype"]) for name, key in wanted["keys"].items()}


def test_detic_is_refused_what_its_class_does_not_take():
    with pytest.raises(CheckFailed, match="layout detic-timm cannot hold this timm architecture"):
        planned("densenet121", "detic-timm")


# -- who is asked when -----------------------------------------------------------------------------------------------


def test_a_family_with_rules_of_its_own_is_asked_first():
    assert recognised("convnext_tiny").family.name == "convnext"
    assert recognised("convnext_tiny", layout="maskdino").family.name == "convnext"
    assert recognised("convnext_tiny", layout="timm").family.name == "timm"
    assert recognised("densenet121").family.name == "timm"


def test_a_layout_that_nobody_has_for_a_file_is_refused_by_the_family_that_has_the_file():
    assert recognised("convnext_tiny", layout="nothing").family.name == "convnext"


def test_what_an_artifact_is_read_as():
    targets = {t.name: t for t in planned("densenet121", "detrex-timm").targets}
    found = recognise(targets, families(), what="x")
    assert (found.prefix, found.variant) == ("backbone.timm_model.", "densenet121")


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "visual.trunk."])
def test_any_prefix_is_found(prefix):
    found = recognise({prefix + n: s for n, s in whole("ghostnet_100").items()}, families(), what="x")
    assert (found.prefix, found.variant) == (prefix, "ghostnet_100")


def test_an_architecture_that_holds_another_whole_is_itself():
    assert recognised("deepseek_vit_412m").prefix == ""


def test_one_tensor_too_few_is_told_by_name():
    tensors = whole("ghostnet_100")
    del tensors["blocks.1.0.ghost1.primary_conv.0.weight"]
    with pytest.raises(CheckFailed, match="nearly a timm architecture") as caught:
        recognise(tensors, families(), what="x")
    assert "blocks.1.0.ghost1.primary_conv.0.weight" in caught.value.why[0]


def test_another_shape_is_another_file():
    tensors = whole("ghostnet_100")
    tensors["conv_stem.weight"] = TensorSpec("conv_stem.weight", (16, 4, 3, 3))
    with pytest.raises(CheckFailed, match="nearly a timm architecture"):
        recognise(tensors, families(), what="x")


def test_the_same_tensors_name_all_architectures_that_keep_them():
    found = recognised("deit_tiny_patch16_224", layout="timm")
    assert found.config.architectures == ("deit_tiny_patch16_224", "vit_tiny_patch16_224")


def test_a_stranger_may_stand_for_many_architectures():
    """Not timm alone: any plugin's family may have members."""
    shouting = Dialect("shouting", [rename(f"LOUD.{rule.targets[0]}", str(rule.targets[0])) for rule in PLAIN.rules])
    loud = replace(TOY, name="many", dialects=[shouting])
    many = replace(loud, dialects=[], layouts=[replace(PLAIN, rules=[])],
                   members=lambda tensors: [loud] if any(n.startswith("LOUD.") for n in tensors) else [])
    canonical = TOY.table(TOY.toy)
    found = recognise({f"LOUD.{n}": s._replace(name=n) if hasattr(s, "_replace") else s for n, s in canonical.items()},
                      [many], what="x")
    assert (found.family.name, found.dialect.name) == ("many", "shouting")
    with pytest.raises(CheckFailed):
        recognise(canonical, [many], what="x")


def test_a_model_that_others_refuse_by_name_is_not_read_by_them(work, local_hub, hub_client):
    """A resnetaa50 has a ResNet-50's tensors, and pools where that one has strides."""
    file = save_safetensors(work / "x.safetensors", {n: random_tensor(s) for n, s in whole("resnetaa50").items()})
    local_hub.add("timm/resnetaa50.a1h_in1k", {"model.safetensors": file})
    done = fetch_convert("resnetaa50.a1h_in1k", hub=hub_client, load_check=False)
    assert (done.data["family"], done.data["layout"]) == ("timm", "d2")
    assert "other layouts do not hold it: " in done.data["mind"][1]
    with pytest.raises(UsageError, match="has no layout 'maskdino'"):
        fetch_convert("resnetaa50.a1h_in1k", hub=hub_client, layout="maskdino")
    assert recognised("resnetaa50").family.name == "resnet"


def _converted(hub, layout):
    return fetch_convert("convnext_atto.d2_in1k", hub=hub, layout=layout, load_check=False).data


def check_certificate_of(work, layout):
    artifact = work / "weights" / f"convnext_atto.d2_in1k_{layout}.pth"
    with open_checkpoint(work / "x.safetensors") as source, open_checkpoint(artifact) as made:
        return check_certificate(read_certificate(certificate_path(artifact)), source, made)


def test_a_model_by_name_becomes_a_layout_of_either_family(work, local_hub, hub_client):
    file = save_safetensors(work / "x.safetensors", {n: random_tensor(s) for n, s in whole("convnext_atto").items()})
    local_hub.add("timm/convnext_atto.d2_in1k", {"model.safetensors": file})
    for layout, family in (("maskdino", "convnext"), ("detrex-timm", "timm")):
        assert _converted(hub_client, layout)["family"] == family
        wanted = wanted_for("convnext_atto.d2_in1k", layout)
        assert (wanted.family.name, wanted.weights) == (family, f"weights/convnext_atto.d2_in1k_{layout}.pth")
    assert [check_certificate_of(work, name) for name in ("maskdino", "detrex-timm")] == [[], []]


def test_a_config_means_the_architecture_that_the_model_is_named_after():
    """Some of those that hold the same tensors compute something else; the first of them was meant before."""
    alike = 0
    for model in zoo().models:
        variant = next((one.variant for one in model.known if one.family == "timm"), "")
        if variant and (model.repo or model.url) and len(by_name()[variant].config.architectures) > 1:
            wanted = wanted_for(model.name, "timm")
            assert wanted.keys["MODEL"]["ZOOCONV"]["VARIANT"] == variant
            assert wanted.config == by_name()[variant].config
            alike += wanted.config.architectures != by_name()[variant].config.architectures
    assert alike > 100


def test_so_does_the_config_of_its_artifact(work, local_hub, hub_client):
    name = "vit_tiny_patch16_224.augreg_in21k"
    assert by_name()["vit_tiny_patch16_224"].config.architectures[0] == "deit_tiny_patch16_224"
    tensors = {n: random_tensor(s) for n, s in whole("vit_tiny_patch16_224").items()}
    local_hub.add(f"timm/{name}", {"model.safetensors": save_safetensors(work / "x.safetensors", tensors)})
    done = fetch_convert(name, hub=hub_client, layout="timm", load_check=False)
    assert "vit_tiny_patch16_224" in Path(f"{done.path}.md").read_text().partition("VARIANT")[2].splitlines()[0]
    recorded = wanted_for(name, "timm")
    assert recorded.weights == str(done.path)
    assert recorded.keys["MODEL"]["ZOOCONV"]["VARIANT"] == "vit_tiny_patch16_224"
    read = wanted_for(str(done.path), "timm")  # a recorded file is no other than its record
    assert read.keys == recorded.keys


# -- the tables ------------------------------------------------------------------------------------------------------


NAME = st.sampled_from(["0", "1", "2", "3", "conv", "norm", "weight", "bias", "running_mean", "attn", "a_b", "x1"])
SHAPE = st.lists(st.integers(1, 99), max_size=4).map(tuple)


@st.composite
def modules(draw, depth=3):
    """Rows in the order of a walk through a tree of modules."""
    rows = []
    for name in draw(st.lists(NAME, min_size=1, max_size=5, unique=True)):
        if depth and draw(st.booleans()):
            rows += [row._replace(name=f"{name}.{row.name}") for row in draw(modules(depth - 1))]
        else:
            kind = draw(st.sampled_from([FLOAT, FLOAT, WHOLE, COUNTER]))
            rows.append(Row(name, () if kind == COUNTER else draw(SHAPE), kind,
                            draw(st.sampled_from([KEPT, KEPT, UNUSED, CLASSIFIER]))))
    return rows


@given(modules())
def test_any_tree_of_modules_is_read_back_from_its_line(rows):
    assert read(write(rows)) == rows


@given(st.text("(). -^=~*:#i0123abc,", max_size=30))
def test_a_line_that_is_none_is_refused_plainly(text):
    try:
        read(text)
    except ValueError:
        return


@pytest.mark.parametrize("tag", ["resnet50.a1_in1k", "convnext_tiny.fb_in22k", "vit_base_patch16_siglip_224.webli"])
def test_every_tensor_of_a_tag_is_in_the_table(tag, timm):
    rows = {row.name: row for row in by_name()[tag.partition(".")[0]].rows}
    for name, row in full(timm, tag).items():
        assert rows[name].kind == row.kind
        assert rows[name].shape == row.shape or rows[name].fate == CLASSIFIER


def test_the_table_of_models_is_that_of_the_timm_that_is_installed(timm):
    assert stale(timm) == []


def test_every_tag_is_in_the_zoo_with_what_it_can_become(timm):
    for tag in timm.list_models(pretrained=True):
        model, cfg = zoo().find(tag), timm.get_pretrained_cfg(tag)
        assert model.repo == (cfg.hf_hub_id or ""), tag
        assert (model.mean, model.std, model.input) == (cfg.mean, cfg.std, cfg.input_size[1]), tag
        assert (model.license, model.mb > 0) == (cfg.license or "unknown", True), tag
        assert {"timm", "detrex-timm"} <= set(model.layouts), tag


def test_without_the_families_that_have_some_of_them_all_models_are_timms(zooconv):
    env = {"ZOOCONV_DISABLE_PLUGINS": "vit,convnext"}
    done = zooconv("list", "vit_base_patch16_clip_quickgelu_224.openai", "--json", env=env)
    assert done.err == ""
    assert [(m["family"], m["repo"]) for m in done.json] == [("timm", "timm/vit_base_patch16_clip_224.openai")]


def test_the_tables_are_small():
    assert MODELS.stat().st_size + MODELS.with_name("architectures.txt.gz").stat().st_size < 400_000


# -- the list --------------------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_name_licence_size_family_and_layout(zooconv):
    done = zooconv("list", "vit_*dinov3*", "--license", "dinov3*", "--max-size", "100", "--layout", "detrex-timm",
                   "--family", "dinov3", "--json").json
    assert {m["name"] for m in done} == {"dinov3_vits16", "vit_small_patch16_dinov3_qkvb.lvd1689m"}
    assert done[0]["also"] == {"family": "timm", "variant": "vit_small_patch16_dinov3"}
    assert {"name", "family", "variant", "repo", "license", "mb", "input", "mean", "std", "layouts", "aliases",
            "note"} <= done[0].keys()
    everything = zooconv("list", "--family", "timm", "-q").out.split()
    assert len(everything) == sum("timm" in (m.family, m.also and m.also.family) for m in zoo().models)


@pytest.mark.parametrize(("arguments", "next_"), [(("--layout", "detrx-timm"), "--layout detrex-timm"),
                                                  (("--family", "tim"), "zooconv plugins")])
def test_a_filter_that_means_nothing_is_refused(zooconv, arguments, next_):
    done = zooconv("list", *arguments)
    assert done.code == 2
    assert f"next: {next_}" in done.err


# -- the backbone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size", "features"), [
    ("resnet18", 64, ["res2", "res3", "res4", "res5"]),
    ("swin_s3_tiny_224", 224, ["res2", "res3", "res4", "res5"]),  # channels last inside
    ("vit_tiny_patch16_224", 224, ["feat0", "feat1", "feat2"]),
    (SMALL, 64, ["res2", "res3", "res4", "res5"]),
])
def test_the_backbone_returns_what_it_says(name, size, features, timm):
    backbone = TimmBackbone(name).eval()
    with torch.no_grad():
        made = backbone(torch.randn(1, 3, size, size))
    assert list(made) == features
    assert {n: (f.shape[1], size // f.shape[2]) for n, f in made.items()} == backbone.output_shape()


def test_the_backbone_loads_what_the_layout_holds(tmp_path, timm):
    save_safetensors(tmp_path / "x.safetensors", {n: random_tensor(s) for n, s in whole(SMALL).items()})
    made = torch.load(convert(tmp_path / "x.safetensors", layout="timm", output=tmp_path / "y.pth").path)["model"]
    backbone = TimmBackbone(SMALL)
    backbone.load_state_dict({n.removeprefix("backbone."): t for n, t in made.items()}, strict=True)
    assert torch.equal(backbone.net.conv_stem.weight, made["backbone.conv_stem.weight"])


def test_frozen_parts_learn_nothing_and_keep_their_statistics(timm):
    backbone = TimmBackbone("resnet18").freeze(2).train()
    learning = {n.split(".")[0] for n, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {"layer2", "layer3", "layer4"}
    assert not backbone.net.bn1.training
    assert backbone.net.layer2[0].bn1.training


def test_asked_for_fewer_features_it_holds_less(timm):
    assert not any(n.startswith("layer4") for n in TimmBackbone("resnet18", out_indices=(1, 2, 3)).state_dict())
    with pytest.raises(ValueError, match="resnet18 has no res9; it has res1, res2"):
        TimmBackbone("resnet18", out_features=["res9"])


def test_features_are_called_after_their_strides_where_each_has_its_own():
    assert names((2, 4, 8)) == ["res1", "res2", "res3"]
    assert names((16, 16)) == ["feat0", "feat1"]
    assert names((7, 14, 28)) == ["feat0", "feat1", "feat2"]
