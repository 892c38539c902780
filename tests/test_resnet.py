"""ResNet: layouts against manifests of the real classes, dialects against the real modules, and what must be refused.

Weights are random. The generic kit (test_conformance.py) makes all wrong conversions of the toy; here stands what is
special to the family: groups and basic blocks, the place of the stride, counters, and relatives that look the same.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from support import DATA
from zooconv_zoo.resnet import FAMILY
from zooconv_zoo.resnet.backbone import STAGES, BatchNorm, OutputShape, ResNet, build
from zooconv_zoo.resnet.dialects import TIMM_DEEP_STEM, TORCHVISION, TRANSFORMERS
from zooconv_zoo.resnet.family import TOY, VARIANTS, ResNetConfig, basic

from zooconv import CheckFailed, UsageError, convert
from zooconv.d2config.keys import wanted_of
from zooconv.mapping.expr import Leaf
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.mapping.template import Template
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import import_package
from zooconv.zoo import zoo

LAYOUTS = ["d2", "fpn", "bn", "c4"]
BASIC = ResNetConfig((1, 2, 1, 1), bottleneck=False, width_per_group=8, out_channels=8)
GROUPED = ResNetConfig((1, 2, 1, 3), groups=2, width_per_group=4, out_channels=16)
WIDE = ResNetConfig((1, 1, 1, 3), width_per_group=8, out_channels=16)


def specs(tensors):
    """Arrays, or torch tensors, as the header of a file tells of them."""
    return {name: TensorSpec(name, tuple(t.shape), "I64" if "tracked" in name else "F32")
            for name, t in tensors.items()}


def spelling(dialect, config, prefix=""):
    """The header of a member's file in a dialect."""
    leaves = {s.name: Leaf(s.shape, s.dtype, s.name) for s in FAMILY.tensors(config)}
    return {prefix + n: TensorSpec(prefix + n, e.shape) for n, e in dialect.from_canonical(leaves).made.items()}


def planned(layout, config, *, fresh=True):
    dialect = TIMM_DEEP_STEM if config.deep_stem else TORCHVISION
    found = fit(FAMILY, dialect, spelling(dialect, config))
    return make_plan(found, chosen_layout(FAMILY, layout), fresh=fresh)


def recognised(tensors, **options):
    return recognise(specs(tensors), families(), what="x", **options)


def on_meta(function, *arguments, **options):
    with torch.device("meta"):
        return function(*arguments, **options).state_dict()


# -- layouts -----------------------------------------------------------------------------------------------------------

# read off the real classes of Detectron2, which they name
MANIFESTS = {path.name.removesuffix(".json.gz"): json.loads(gzip.decompress(path.read_bytes()))
             for path in sorted((DATA / "manifests" / "resnet").glob("*.json.gz"))}
OURS = {"d2-resnet": "d2", "d2-resnet-fpn": "fpn", "d2-resnet-bn": "bn", "d2-resnet-c4": "c4"}


def variant_of(name):
    return name.replace("wide_resnet", "wide").replace("resnext", "").replace("resnet", "")


def forms(tensors):
    return {t.name: (list(t.shape), DTYPES[t.dtype].torch) for t in tensors}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_layout_is_its_manifest(name):
    wanted = MANIFESTS[name]
    made = forms(planned(OURS[wanted["layout"]], VARIANTS[variant_of(wanted["variant"])]).targets)
    if wanted["layout"] == "d2-resnet-c4":  # the manifest is of the backbone; the head has the rest
        made = {n: form for n, form in made.items() if n.startswith("backbone.")}
    assert made == {n: (key["shape"], key["dtype"]) for n, key in wanted["keys"].items()}


def test_the_c4_head_has_what_the_whole_backbone_has_in_res5():
    whole = forms(planned("d2", VARIANTS["50"]).targets)
    head = {n: form for n, form in forms(planned("c4", VARIANTS["50"]).targets).items() if n.startswith("roi_heads.")}
    assert head == {n.replace("backbone.", "roi_heads."): form for n, form in whole.items() if ".res5." in n}
    assert len(head) == 50


def test_a_manifest_with_one_name_changed_is_not_the_layout():
    """The control: the comparison above can fail."""
    changed = {n.replace("res5.2.conv3.weight", "res5.2.conv3.wait") for n in MANIFESTS["d2-resnet-resnet50"]["keys"]}
    assert {t.name for t in planned("d2", VARIANTS["50"]).targets} != changed


def test_counters_are_all_that_bn_adds_and_no_fresh_leaves_them_out():
    wanted = MANIFESTS["d2-resnet-bn-resnet50"]
    assert sorted(planned("bn", VARIANTS["50"]).fresh) == sorted(wanted["constant_buffers"])
    without = {t.name for t in planned("bn", VARIANTS["50"], fresh=False).targets}
    assert without == {t.name for t in planned("d2", VARIANTS["50"]).targets}


@pytest.mark.parametrize(("variant", "told"), [("18", "2 blocks of two 3x3"), ("34", "3 blocks of two"),
                                               ("26", "2 bottlenecks")])
def test_c4_refuses_what_its_head_cannot_hold(variant, told):
    with pytest.raises(CheckFailed, match="layout c4 cannot hold this ResNet") as caught:
        planned("c4", VARIANTS[variant])
    assert told in caught.value.why[0]


def test_a_layout_that_refuses_a_model_is_not_shown_for_it(zooconv):
    shown = {name: zooconv("show", name, "--json").json["layouts"] for name in ("resnet18_tv", "resnet50_tv")}
    assert set(shown["resnet50_tv"]) - set(shown["resnet18_tv"]) == {"c4"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layout_of_every_size_is_planned_or_refused_with_a_reason(layout, variant):
    config = VARIANTS[variant]
    cannot = {"c4": variant in ("18", "26", "34") or config.deep_stem, "fpn": config.deep_stem, "bn": config.group_norm}
    if cannot.get(layout):
        with pytest.raises(CheckFailed, match=f"layout {layout} cannot hold this ResNet"):
            planned(layout, config)
        return
    plan = planned(layout, config)
    assert len(plan.targets) - len(plan.fresh) == len(FAMILY.table(VARIANTS[variant]))


@pytest.fixture
def source(work):
    """A toy as torchvision would save it, with a classifier, and counters that have counted."""
    arrays = spelled(TORCHVISION, lively_weights(FAMILY, TOY))
    counters = {n.replace("running_var", "num_batches_tracked") for n in arrays if n.endswith("running_var")}
    state = {n: torch.from_numpy(a) for n, a in arrays.items()} | {n: torch.tensor(1000) for n in counters}
    torch.save(state | {"fc.weight": torch.rand(10, 128), "fc.bias": torch.rand(10)}, work / "toy.pth")
    return work / "toy.pth"


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("then", LAYOUTS)
def test_every_layout_becomes_every_other_without_a_trace_of_the_way(source, first, then):
    around = convert(convert(source, layout=first, load_check=False).path, layout=then, load_check=False)
    assert around.written.file.sha256 == convert(source, layout=then, load_check=False).written.file.sha256


def test_a_bn_file_loads_and_its_counters_are_whole_numbers_that_start_at_zero(source):
    model = torch.load(convert(source, layout="bn").path)["model"]
    counters = [t for n, t in model.items() if n.endswith("num_batches_tracked")]
    assert len(counters) == 23
    assert all(t.dtype == torch.int64 and t.shape == () and t == 0 for t in counters)


def test_what_a_detector_counted_is_kept_where_there_is_a_place_and_no_reason_to_refuse(work, source):
    trained = torch.load(convert(source, layout="bn", load_check=False).path)
    trained["model"]["backbone.stem.conv1.norm.num_batches_tracked"] += 90_000
    torch.save(trained, work / "trained.pth")
    kept = torch.load(convert("trained.pth", layout="bn", load_check=False).path)["model"]
    assert kept["backbone.stem.conv1.norm.num_batches_tracked"] == 90_000
    done = convert("trained.pth", layout="fpn", load_check=False)
    assert done.written.file.sha256 == convert(source, layout="fpn", load_check=False).written.file.sha256


def test_a_trained_detector_gives_its_backbone_whichever_norms_it_has(work):
    for layout, mount in (("d2", "backbone.bottom_up."), ("bn", "backbone.bottom_up."), ("fpn", "backbone.bottom_up.")):
        tensors = {t.name.replace(chosen_layout(FAMILY, layout).mount, mount): t for t in planned(layout, TOY).targets}
        tensors |= {n: TensorSpec(n, (4,)) for n in ("backbone.fpn_lateral2.weight", "proposal_generator.x.weight")}
        found = recognise(tensors, families(), what="x")
        assert (found.config, found.prefix) == (TOY, mount)
        assert set(found.outside) == {"backbone.fpn_lateral2.weight", "proposal_generator.x.weight"}


def test_the_config_says_what_detectron2_must_be_told():
    def resnets(layout, variant):
        return wanted_of(planned(layout, VARIANTS[variant]), "x.pth").keys["MODEL"]["RESNETS"]

    usual = {"STRIDE_IN_1X1": False, "STEM_OUT_CHANNELS": 64, "NORM": "FrozenBN",
             "OUT_FEATURES": ["res2", "res3", "res4", "res5"]}
    assert resnets("d2", "50") == usual | {
        "DEPTH": 50, "NUM_GROUPS": 1, "WIDTH_PER_GROUP": 64, "RES2_OUT_CHANNELS": 256}
    assert resnets("d2", "18") == usual | {
        "DEPTH": 18, "NUM_GROUPS": 1, "WIDTH_PER_GROUP": 64, "RES2_OUT_CHANNELS": 64}
    assert resnets("bn", "101_32x8d") == usual | {
        "DEPTH": 101, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 8, "RES2_OUT_CHANNELS": 256, "NORM": "BN"}
    assert resnets("c4", "wide50_2") == usual | {
        "DEPTH": 50, "NUM_GROUPS": 1, "WIDTH_PER_GROUP": 128, "RES2_OUT_CHANNELS": 256, "OUT_FEATURES": ["res4"]}
    config = wanted_of(planned("fpn", VARIANTS["152"]), "x.pth").keys
    assert config["MODEL"]["BACKBONE"]["NAME"] == "build_resnet_fpn_backbone"
    assert config["MODEL"]["RESNETS"]["DEPTH"] == 152
    assert (config["INPUT"]["FORMAT"], config["MODEL"]["PIXEL_MEAN"]) == ("RGB", [123.675, 116.28, 103.53])
    assert config["MODEL"]["PIXEL_STD"] == [58.395, 57.12, 57.375]


# -- dialects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"])
def test_torchvisions_own_models_are_recognised(name):
    found = recognised(on_meta(getattr(import_package("torchvision").models, name)))
    assert (found.family.name, found.dialect.name, found.variant) == ("resnet", "torchvision", variant_of(name))
    assert {n for n in found.dropped if "tracked" not in n} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("name", [
    "resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x4d",
    "resnext101_32x8d", "resnext101_32x16d", "resnext101_32x32d", "resnext101_64x4d", "wide_resnet50_2",
    "wide_resnet101_2", "resnet50_gn", "resnet50c", "resnet101c", "resnet152c", "resnet50s", "resnet101s",
    "resnet152s"])
def test_timms_own_models_are_recognised(name, timm):
    found = recognised(on_meta(timm.create_model, name))
    dialect = "timm-deep-stem" if name[-1] in "cs" else "torchvision"
    assert (found.family.name, found.dialect.name, found.variant) == ("resnet", dialect, variant_of(name))


@pytest.mark.parametrize("variant", ["18", "26", "34", "50", "101", "152"])
def test_transformers_own_models_are_recognised(variant):
    package, config = import_package("transformers"), VARIANTS[variant]
    options = package.ResNetConfig(depths=[*config.depths], hidden_sizes=[config.out_channels << s for s in range(4)],
                                   layer_type="bottleneck" if config.bottleneck else "basic")
    for kind, prefix in (("ResNetModel", ""), ("ResNetForImageClassification", "resnet."), ("ResNetBackbone", "")):
        found = recognised(on_meta(getattr(package, kind), options))
        assert (found.dialect.name, found.variant, found.prefix) == ("transformers", variant, prefix)


@pytest.mark.parametrize("table", json.loads((DATA / "resnet_dialects.json").read_text()), ids=lambda t: t["dialect"])
def test_a_table_says_what_was_proved_by_comparing_features(table):
    """The rule tables in data/ were proved elsewhere, by forward features; ours give the same names."""
    dialect = TORCHVISION if table["dialect"] == "->d2" else TRANSFORMERS
    names = spelling(dialect, VARIANTS["50"]).keys() | {"bn1.num_batches_tracked", "fc.weight", "fc.bias"}
    for name in names:
        told = dialect.to_canonical({name: Leaf((1,), "F32", name)})
        if dialect is TORCHVISION:
            assert [*told.made] == proved(table, name)
        elif told.made:
            there = proved(table, f"resnet.{name}")[0]
            assert [*told.made] == [*TORCHVISION.to_canonical({there: Leaf((1,), "F32", there)}).made]


def proved(table, name):
    for rule in table["rules"]:
        if (bound := Template(rule["src"][0]).match(name)) is not None:
            return [Template(target).render(bound) for target in rule.get("dst", [])]
    raise AssertionError(f"no rule for {name}")


def test_an_openmmlab_file_is_found_under_its_prefix():
    tensors = spelling(TORCHVISION, TOY, "backbone.") | {"head.fc.weight": TensorSpec("head.fc.weight", (10, 128))}
    found = recognise(tensors, families(), what="x")
    assert (found.dialect.name, found.prefix, [*found.outside]) == ("torchvision", "backbone.", ["head.fc.weight"])


def test_the_backbone_of_a_torchvision_detector_is_found():
    detection = import_package("torchvision").models.detection
    state = on_meta(detection.fasterrcnn_resnet50_fpn, weights=None, weights_backbone=None)
    found = recognised(state)
    assert (found.variant, found.prefix) == ("50", "backbone.body.")


def test_the_two_encoders_of_moco_are_a_question_and_prefix_is_its_answer():
    tensors = {n: t for who in ("q", "k") for n, t in spelling(TORCHVISION, TOY, f"module.encoder_{who}.").items()}
    tensors |= {n: TensorSpec(n, shape) for n, shape in {
        "module.queue": (128, 65536), "module.queue_ptr": (1,), "module.encoder_q.fc.0.weight": (128, 128),
        "module.encoder_q.fc.0.bias": (128,), "module.encoder_k.fc.2.weight": (128, 128)}.items()}
    with pytest.raises(UsageError, match="2 ways") as caught:
        recognise(tensors, families(), what="x")
    assert "--prefix module.encoder_q." in caught.value.next
    found = recognise(tensors, families(), what="x", prefix="module.encoder_q.")
    assert found.config == TOY
    assert found.dropped["module.encoder_q.fc.0.weight"] == "projection head of self-supervised training"


@pytest.mark.parametrize("head", [
    ["module.fc.0.weight", "module.fc.1.running_mean", "module.fc.1.num_batches_tracked", "module.fc.6.bias"],
    ["module.projection_head.0.weight", "module.projection_head.1.running_var",
     "module.projection_head.1.num_batches_tracked", "module.prototypes.weight"],
])
def test_heads_of_self_supervised_training_are_dropped(head):
    tensors = spelling(TORCHVISION, TOY, "module.") | {n: TensorSpec(n, (8,)) for n in head}
    found = recognise(tensors, families(), what="x")
    assert {found.dropped[n] for n in head} == {"projection head of self-supervised training"}


# -- relatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "word"), [
    ("resnet50d", "pool before"), ("resnet26t", "pool before"), ("resnet10t", "pool before"),
    ("resnext50d_32x4d", "pool before"), ("resnetaa50d", "pool before"),
    ("seresnet50", "squeeze"), ("ecaresnetlight", "squeeze"), ("ecaresnet26t", "squeeze"), ("resnetrs50", "squeeze"),
    ("senet154", "squeeze"), ("legacy_seresnet18", "squeeze"),
    ("resnest14d", "split"), ("res2net50_26w_4s", "split"),
])
def test_what_a_detectron2_resnet_cannot_hold_is_refused_with_the_reason(name, word, timm):
    with pytest.raises(CheckFailed, match="not a ResNet that its Detectron2 layouts can hold") as caught:
        recognised(on_meta(timm.create_model, name), layout="fpn")
    assert word in caught.value.why[0]


@pytest.mark.parametrize(("extra", "word"), [
    ({"attnpool.c_proj.weight": (4, 4), "conv2.weight": (4, 4, 3, 3)}, "CLIP"),
    ({"maxpool.1.filt": (64, 1, 4, 4)}, "anti-aliased"),
    ({"layer2.0.downsample.2.weight": (32,)}, "pool before"),
])
def test_relatives_from_elsewhere_are_refused_by_their_names(extra, word):
    tensors = spelling(TORCHVISION, TOY, "backbone.")
    tensors |= {f"backbone.{n}": TensorSpec(f"backbone.{n}", shape) for n, shape in extra.items()}
    with pytest.raises(CheckFailed, match="not a ResNet") as caught:
        recognise(tensors, families(), what="x")
    assert word in caught.value.why[0]


@pytest.mark.parametrize("kind", ["x", "y"])
def test_a_regnet_of_transformers_is_not_taken_for_a_resnet(kind):
    """Both have `embedder.embedder.convolution` and `encoder.stages.{s}.layers.{b}.layer.{j}.convolution`."""
    package = import_package("transformers")
    state = on_meta(package.RegNetModel, package.RegNetConfig(layer_type=kind))
    assert recognised(state).family.name == "regnet"


@pytest.mark.parametrize("name", ["resnetaa50", "resnetblur50"])
def test_what_only_its_name_tells_apart_is_no_resnet_by_name(name, timm):
    """Pooled or blurred strides hold no tensors: the file is a ResNet-50's, and only the zoo knows better."""
    assert recognised(on_meta(timm.create_model, name)).variant == "50"
    tag = next(iter(timm.list_pretrained(f"{name}.*")))
    for typed in (tag, f"timm/{tag}"):
        model = resolve(typed, zoo()).model
        assert (model.family, model.alone) == ("timm", True)
        assert "maskdino" not in model.layouts
    with pytest.raises(UsageError, match="is refused"):
        resolve(f"timm/{tag}@main", zoo())


def test_three_stages_are_no_resnet():
    tensors = {n: t for n, t in spelling(TORCHVISION, TOY).items() if not n.startswith("layer4.")}
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, families(), what="x")
    assert "a ResNet has four stages, and this file 3" in str(caught.value)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "repo"), [
    ("resnet50_tv", "timm/resnet50.tv_in1k"), ("resnet50_tv2", "timm/resnet50.tv2_in1k"),
    ("resnet50.d_in1k", "timm/resnet50.d_in1k"),
    ("resnet101_tv", "timm/resnet101.tv_in1k"), ("resnext101_32x8d_tv", "timm/resnext101_32x8d.tv_in1k"),
    ("swsl_resnet50", "timm/resnet50.fb_swsl_ig1b_ft_in1k"), ("gluon_resnet152_v1b", "timm/resnet152.gluon_in1k"),
    ("ig_resnext101_32x8d", "timm/resnext101_32x8d.fb_wsl_ig1b_ft_in1k"),
    ("wide_resnet50_2_tv", "timm/wide_resnet50_2.tv_in1k"), ("microsoft/resnet-50", "microsoft/resnet-50"),
])
def test_a_name_that_people_type_means_the_repository_that_it_should(typed, repo):
    assert resolve(typed, zoo()).repo == repo


def test_a_bare_architecture_of_timms_is_refused_with_the_choices():
    for name in ("resnext101_32x4d", "resnext101_32x16d"):
        with pytest.raises(UsageError, match="could be any of"):
            resolve(name, zoo())


def test_a_name_of_torchvisions_means_its_first_weights_and_says_so():
    models = import_package("torchvision").models
    names = [name for name in models.list_models(models) if name.startswith(("resnet", "resnext", "wide_resnet"))]
    assert len(names) == 10
    for name in names:
        found = resolve(name, zoo()).model
        assert resolve(f"torchvision://{name}", zoo()).model == found
        first = models.get_model_weights(name)["IMAGENET1K_V1"]
        assert zoo().find(Path(first.url).stem).url == first.url
        assert f"IMAGENET1K_V1), which a plain {name} means; zooconv list '{name}*' shows the others" in found.note
        assert len(zoo().matching(f"{name}*")) > 1


def test_every_tag_of_timms_resnets_has_a_row_or_a_reason(timm):
    archs = set(timm.list_models(module="resnet"))
    tags = [tag for tag in timm.list_pretrained() if tag.split(".")[0] in archs]
    assert len(tags) > 140
    tags.remove("resnet50.bamboo")  # states no licence
    assert [tag for tag in tags if not zoo().find(tag) and not zoo().refusal(tag)] == []
    assert [m.name for m in zoo().models if m.family == "resnet" and zoo().refusal(m.name)] == []


def test_every_row_has_the_variant_of_its_architecture(timm):
    told = {(model.name.split(".")[0], model.variant) for model in zoo().models
            if model.family == "resnet" and model.repo.startswith("timm/")}
    assert {variant for _, variant in told} == VARIANTS.keys() - {"101_gn", "152_32x8d"}  # which are Detectron's alone
    for arch, variant in told:
        assert recognised(on_meta(timm.create_model, arch)).variant == variant


# -- what it computes --------------------------------------------------------------------------------------------------

PAIRS = [(config, against) for config in (BASIC, GROUPED, WIDE) for against in ("torchvision", "timm", "transformers")
         if config is BASIC or against != "transformers"]


@pytest.mark.parametrize(("config", "against"), PAIRS, ids=lambda x: str(x) if isinstance(x, str) else None)
def test_basic_blocks_groups_and_wide_ones_compute_what_the_upstream_computes(config, against, tmp_path):
    parity, faults, score = prove(FAMILY, config, against, tmp_path, most=40)
    assert (parity.passed, faults, score.survivors, score.unreached, parity.unseen) == (True, [], [], [], ())
    assert [d.output for d in parity.differences] == ["stem", *STAGES]


@pytest.mark.parametrize("config", [GROUPED, WIDE], ids=["grouped", "wide"])
def test_transformers_says_that_it_has_no_groups_and_no_other_widths(config, tmp_path):
    with pytest.raises(UsageError, match="cannot build this ResNet"):
        prove(FAMILY, config, "transformers", tmp_path, most=0)


def test_a_stem_that_the_packages_do_not_build_is_told(tmp_path):
    for against in ("torchvision", "timm"):
        with pytest.raises(UsageError, match="cannot build this ResNet") as caught:
            prove(FAMILY, ResNetConfig((1, 1, 1, 3), stem_channels=32), against, tmp_path, most=0)
        assert "64 channels" in caught.value.why[0]


def loaded(config, state, **options):
    module = ResNet(config, **options)
    found = module.load_state_dict({n.removeprefix("backbone."): t for n, t in state.items()}, strict=False)
    assert all(n.endswith("num_batches_tracked") for n in found.missing_keys)
    assert found.unexpected_keys == []
    return module.double().eval()


@torch.no_grad()
def apart(a, b):
    """The largest relative difference of each output."""
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = a.outputs(images), b.outputs(images)
    return {n: float((ours[n] - x).abs().max() / x.abs().max()) for n, x in theirs.items()}


def test_stride_in_the_1x1_loads_without_a_warning_and_computes_something_else(source):
    """The control of STRIDE_IN_1X1, Detectron2's default, under which no name and no shape differs."""
    state = torch.load(convert(source, load_check=False).path)["model"]
    right, wrong = loaded(TOY, state), loaded(TOY, state, stride_in_1x1=True)
    assert apart(right, loaded(TOY, state)) == dict.fromkeys(["stem", *STAGES], 0.0)
    found = apart(wrong, right)
    assert (found["stem"], found["res2"]) == (0, 0)  # no stride there
    assert min(found["res3"], found["res4"], found["res5"]) > 0.2


def test_the_place_of_the_stride_fails_parity(tmp_path, monkeypatch):
    monkeypatch.setattr("zooconv_zoo.resnet.backbone.build", lambda config: ResNet(config, stride_in_1x1=True))
    parity, faults, _ = prove(FAMILY, TOY, "torchvision", tmp_path, most=0)
    assert faults == []  # the bytes are right; the function is not
    assert not parity.passed
    assert max(d.relative for d in parity.differences) > 0.2


def test_the_norms_have_the_epsilon_of_detectron2_and_of_all_three_packages():
    assert {norm.eps for norm in build(TOY).modules() if isinstance(norm, BatchNorm)} == {1e-5}


# -- as a backbone -----------------------------------------------------------------------------------------------------


def test_the_backbone_returns_what_it_says_in_the_networks_order():
    module = ResNet(GROUPED, out_features=("res4", "stem", "res2")).eval()
    features = module(torch.randn(1, 3, 64, 96))
    assert list(features) == ["stem", "res2", "res4"]
    assert module.output_shape() == {"res4": OutputShape(64, 16), "stem": OutputShape(64, 4),
                                     "res2": OutputShape(16, 4)}
    for name, (channels, stride) in module.output_shape().items():
        assert features[name].shape == (1, channels, 64 // stride, 96 // stride)


def test_what_is_frozen_learns_nothing_and_its_norms_keep_their_statistics():
    module = ResNet(BASIC).freeze(2).train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    sum(f.sum() for f in module(torch.randn(2, 3, 64, 64)).values()).backward()
    changed = {n.split(".")[0] for n, t in module.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"res3", "res4", "res5"}  # their running statistics
    assert {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None} == {"res3", "res4", "res5"}


def test_checkpointing_changes_nothing_but_memory():
    torch.manual_seed(0)
    plain = ResNet(BASIC).train()
    thrifty = ResNet(BASIC, checkpointing=True).train()
    thrifty.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(plain(images).values(), thrifty(images).values(), strict=True):
        assert torch.equal(a, b)


def test_basic_members_are_those_of_the_paper():
    assert basic(2, 2, 2, 2).layers == 18
    assert {n: c.layers for n, c in VARIANTS.items() if n.isdigit()} == {str(n): n for n in (18, 26, 34, 50, 101, 152)}


def test_a_file_in_either_spelling_becomes_the_same_bytes(work):
    weights = lively_weights(FAMILY, TOY)
    digests = set()
    for dialect, head in ((TORCHVISION, "fc.weight"), (TRANSFORMERS, "classifier.1.weight")):
        arrays = spelled(dialect, weights) | {head: random_array(head, (9, 128))}
        for path in (save_pth(work / f"{dialect.name}.pth", arrays, "state_dict"),
                     save_safetensors(work / f"{dialect.name}.safetensors", arrays)):
            digests.add(convert(path, load_check=False, force=True).written.file.sha256)
    assert len(digests) == 1
