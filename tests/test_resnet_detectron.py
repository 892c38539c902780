"""ResNets of Detectron's own model zoo, with Caffe2's names; group norms, deep stems, and what self-supervision leaves.

Weights are random. Names, shapes and pickles are those of the published files: zooconv_zoo/resnet/caffe2.py.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_plain_pickle import python2
from zooconv_zoo.resnet import FAMILY
from zooconv_zoo.resnet.backbone import Conv, ResNet
from zooconv_zoo.resnet.caffe2 import CAFFE2, CAFFE2_FOLDED, CAFFE2_GN, CAFFE2_SPATIAL
from zooconv_zoo.resnet.dialects import OPENMMLAB_DEEP_STEM, TIMM_DEEP_STEM, TORCHVISION
from zooconv_zoo.resnet.family import EPSILON, TOY, VARIANTS, ResNetConfig

from zooconv import CheckFailed, UsageError, constants, convert
from zooconv.certificate import certificate_path, check_certificate, read_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.d2config.goal import wanted_for
from zooconv.d2config.text import config_of
from zooconv.mapping.expr import Leaf, leaves
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import lively_weights, save_pth, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import upstream

WEIGHTS = lively_weights(FAMILY, TOY)
GROUPED = ResNetConfig((1, 1, 1, 3), groups=2, width_per_group=4, out_channels=16)
GROUP_NORM = ResNetConfig((1, 1, 1, 1), width_per_group=32, out_channels=32, group_norm=True)
DEEP = replace(TOY, deep_stem=True)


def headers(config, dialect, prefix=""):
    """The header of a member's file in a dialect."""
    known = {s.name: Leaf(s.shape, s.dtype, s.name) for s in FAMILY.tensors(config)}
    return {prefix + n: TensorSpec(prefix + n, e.shape) for n, e in dialect.from_canonical(known).made.items()}


def write(path, dialect, weights=WEIGHTS, protocol=2, **more):
    path.write_bytes(pickle.dumps(spelled(dialect, weights) | more, protocol))
    return path


def loaded(path):
    return torch.load(path)["model"]


# -- names -------------------------------------------------------------------------------------------------------------

# as Detectron2 tells them while it loads a file
TOLD = {
    "caffe2": {"stem.conv1.weight": "conv1_w", "stem.conv1.norm.bias": "res_conv1_bn_beta",
             "stem.conv1.norm.running_var": "res_conv1_bn_running_var",
             "res5.0.conv1.norm.bias": "res5_0_branch2a_bn_beta",
             "res4.5.conv2.weight": "res4_5_branch2b_w", "res4.5.conv3.norm.weight": "res4_5_branch2c_bn_gamma",
             "res4.5.conv3.norm.running_mean": "res4_5_branch2c_bn_running_mean",
             "res5.0.shortcut.weight": "res5_0_branch1_w", "res2.0.shortcut.norm.bias": "res2_0_branch1_bn_beta"},
    "caffe2-spatialbn": {"res4.21.conv2.norm.running_mean": "res4_21_branch2b_bn_rm",
                         "res5.0.conv1.norm.running_var": "res5_0_branch2a_bn_riv",
                         "stem.conv1.norm.weight": "res_conv1_bn_s"},
    "caffe2-folded": {"stem.conv1.norm.bias": "res_conv1_bn_b", "res2.0.shortcut.norm.bias": "res2_0_branch1_bn_b"},
    "caffe2-gn": {"stem.conv1.norm.weight": "conv1_gn_s", "res2.0.conv1.norm.bias": "res2_0_branch2a_gn_b"},
}


@pytest.mark.parametrize("name", TOLD)
def test_names_are_those_that_detectron2_reads(name):
    dialect = next(d for d in FAMILY.dialects if d.name == name)
    known = {s.name: Leaf(s.shape, s.dtype, s.name) for s in FAMILY.tensors(VARIANTS["101"])}
    made = {str(value): theirs for theirs, value in dialect.from_canonical(known).made.items()}
    assert TOLD[name].items() <= made.items()


@pytest.mark.parametrize(("dialect", "variant", "number"), [
    (CAFFE2, "50", 265), (CAFFE2, "101", 520), (CAFFE2, "101_32x8d", 520), (CAFFE2_SPATIAL, "101_64x4d", 520),
    (CAFFE2_FOLDED, "50", 159), (CAFFE2_FOLDED, "152_32x8d", 465), (CAFFE2_GN, "50_gn", 159),
    (CAFFE2_GN, "101_gn", 312),
])
def test_the_published_sizes_are_recognised_and_planned(dialect, variant, number):
    tensors = headers(VARIANTS[variant], dialect)
    assert len(tensors) == number
    found = recognise(tensors, families(), what="x")
    assert (found.dialect.name, found.variant) == (dialect.name, variant)
    for layout in FAMILY.layouts:
        if layout.refusal(found.config) is None:
            plan = make_plan(found, layout)
            assert {t.name for t in plan.targets} >= {layout.mount + n for n in FAMILY.table(found.config)} or (
                layout.name == "c4")


# -- the road ----------------------------------------------------------------------------------------------------------


def test_the_published_file_of_msra_becomes_what_detectron2_loads(work):
    """As R-50.pkl is: a pickle of Python 2, names alone, with a bias that nobody loads, and a classifier."""
    arrays = spelled(CAFFE2, WEIGHTS) | {"conv1_b": np.ones(64, "f4"), "fc1000_w": np.ones((10, 128), "f4"),
                                         "fc1000_b": np.ones(10, "f4")}
    (work / "R-50.pkl").write_bytes(python2(arrays))
    done = convert("R-50.pkl", layout="fpn", load_check=False)
    made = loaded(done.path)
    assert made.keys() == {f"backbone.bottom_up.{n}" for n in WEIGHTS}
    assert all(np.array_equal(made[f"backbone.bottom_up.{n}"], a) for n, a in WEIGHTS.items())
    assert {n: why.split(",")[0] for n, why in done.data["dropped"].items()} == {
        "conv1_b": "bias before a norm", "fc1000_w": "classifier", "fc1000_b": "classifier"}
    assert done.data["fresh"] == []
    wanted = done.data["detectron2"]
    assert wanted["MODEL"]["RESNETS"]["STRIDE_IN_1X1"] is True
    assert wanted["MODEL"]["RESNETS"]["OUT_FEATURES"] == ["res2", "res3", "res4", "res5"]  # the layout's word stays
    assert (wanted["INPUT"]["FORMAT"], wanted["MODEL"]["PIXEL_MEAN"], wanted["MODEL"]["PIXEL_STD"]) == (
        "BGR", [103.53, 116.28, 123.675], [1.0, 1.0, 1.0])
    assert any("BGR" in note for note in done.data["mind"])


def test_the_same_weights_give_the_same_file_in_whichever_names_and_pickle(work):
    digests = {convert(save_pth(work / "tv.pth", spelled(TORCHVISION, WEIGHTS)), load_check=False).written.file.sha256}
    for dialect in (CAFFE2, CAFFE2_SPATIAL):
        for protocol in (2, 5):
            path = write(work / "c2.pkl", dialect, protocol=protocol)
            digests.add(convert(path, load_check=False, force=True).written.file.sha256)
    assert len(digests) == 1


@pytest.mark.parametrize(("dialect", "config", "stride", "deviations"), [
    (CAFFE2, TOY, True, [1, 1, 1]), (CAFFE2, GROUPED, False, [57.375, 57.12, 58.395]),
    (CAFFE2_SPATIAL, GROUPED, False, [1, 1, 1]), (CAFFE2_FOLDED, TOY, True, [1, 1, 1]),
    (CAFFE2_GN, GROUP_NORM, False, [1, 1, 1]),
])
def test_each_file_says_where_its_stride_is_and_what_its_pixels_were(work, dialect, config, stride, deviations):
    done = convert(write(work / "c2.pkl", dialect, lively_weights(FAMILY, config)), load_check=False)
    model = done.data["detectron2"]["MODEL"]
    assert (model["RESNETS"]["STRIDE_IN_1X1"], model["PIXEL_STD"]) == (stride, deviations)
    assert wanted_for(str(done.path)).keys == done.data["detectron2"]  # by its certificate, which knows the names
    assert f"stride_in_1x1={stride}" in config_of(wanted_for(str(done.path)), "lazy")
    assert model["RESNETS"]["NORM"] == ("GN" if config.group_norm else "FrozenBN")


# -- folded norms ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folded(work):
    return convert(write(work / "folded.pkl", CAFFE2_FOLDED), load_check=False)


def test_folded_norms_get_the_statistics_that_they_mean_and_these_are_told(folded):
    made = loaded(folded.path)
    norms = [n.removesuffix("weight") for n in made if n.endswith("norm.weight")]
    for norm in norms:
        assert np.array_equal(made[f"{norm}weight"], WEIGHTS[f"{norm.removeprefix('backbone.')}weight"])
        assert not made[f"{norm}running_mean"].any()
        assert (made[f"{norm}running_var"] == np.float32(1 - EPSILON)).all()
    assert sorted(folded.data["fresh"]) == sorted(f"{n}running_{part}" for n in norms for part in ("mean", "var"))
    certificate = read_certificate(certificate_path(folded.path))
    assert certificate.targets["backbone.stem.conv1.norm.running_var"].made == {"fill": 0.99999, "shape": [64]}
    with open_checkpoint("folded.pkl") as source, open_checkpoint(folded.path) as artifact:
        assert check_certificate(certificate, source, artifact) == []
    assert any("frozen" in note for note in folded.data["mind"])


def test_no_fresh_does_not_leave_them_out(work, folded):
    """They are part of what the file means: Detectron2's own start values would be others."""
    again = convert("folded.pkl", fresh=False, load_check=False, force=True)
    assert again.written.file.sha256 == folded.written.file.sha256


def test_a_folded_norm_computes_its_affine_layer(folded):
    class Affine(torch.nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.weight, self.bias = norm.weight, norm.bias

        def forward(self, x):
            return x * self.weight[:, None, None] + self.bias[:, None, None]

    def outputs(var=None, affine=False):
        module = ResNet(TOY, stride_in_1x1=True).double().eval()
        state = {n.removeprefix("backbone."): t.double() for n, t in loaded(folded.path).items()}
        if var is not None:
            state = {n: torch.full_like(t, var) if n.endswith("var") else t for n, t in state.items()}
        module.load_state_dict(state, strict=False)
        for conv in [m for m in module.modules() if isinstance(m, Conv)] if affine else ():
            conv.norm = Affine(conv.norm)
        with torch.no_grad():
            return module(torch.randn(1, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))

    wanted = outputs(affine=True)

    def apart(found):
        return max(float((found[n] - f).abs().max() / f.abs().max()) for n, f in wanted.items())

    assert apart(outputs()) < 1e-7  # what float32 leaves of 1 - 1e-5
    assert apart(outputs(var=1.0)) > 1e-5  # the control: what Detectron2 starts with


def test_other_constants_are_other_rules(folded):
    wrong = replace(CAFFE2_FOLDED, rules=[replace(r, op=constants(0, 1)) if "constants" in str(r) else r
                                          for r in CAFFE2_FOLDED.rules])
    plans = [make_plan(fit(FAMILY, d, headers(TOY, d)), chosen_layout(FAMILY, "d2")) for d in (CAFFE2_FOLDED, wrong)]
    assert plans[0].rules != plans[1].rules
    assert all(not any(leaves(m.value)) for m in plans[0].moves if "running" in m.target.name)


@pytest.mark.parametrize("change", [
    lambda t: t.pop("res3_0_branch2b_bn_b"), lambda t: t.update(res3_0_branch2b_bn_rm=TensorSpec("x", (8,))),
    lambda t: t.update(res9_0_branch2a_w=TensorSpec("x", (8,))), lambda t: t.pop("conv1_w"),
    lambda t: t.update(res3_0_branch2b_bn_s=TensorSpec("x", (9,))),
])
def test_a_file_of_detectron_that_is_not_whole_is_refused(change):
    tensors = headers(TOY, CAFFE2_FOLDED)
    change(tensors)
    with pytest.raises(CheckFailed):
        recognise(tensors, families(), what="x")


# -- group norms and deep stems ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "against"), [(GROUP_NORM, "timm"), (GROUP_NORM, "torchvision"), (DEEP, "timm"),
                                                 (replace(GROUPED, deep_stem=True, stem_channels=32), "timm")], ids=str)
def test_they_compute_what_the_upstream_computes(config, against, tmp_path):
    parity, faults, score = prove(FAMILY, config, against, tmp_path, most=40)
    assert (parity.passed, faults, score.survivors, parity.unseen) == (True, [], [], ())


@pytest.mark.parametrize(("config", "against", "word"), [
    (DEEP, "torchvision", "one convolution"), (DEEP, "transformers", "neither"),
    (GROUP_NORM, "transformers", "neither"),
])
def test_a_package_that_has_none_says_so(config, against, word):
    with pytest.raises(ValueError, match=word):
        upstream(FAMILY, against).build(config, {})


def test_a_norm_has_no_statistics_and_the_config_says_gn():
    found = fit(FAMILY, TORCHVISION, headers(VARIANTS["50_gn"], TORCHVISION))
    plan = make_plan(found, chosen_layout(FAMILY, "fpn"))
    assert len(plan.targets) == 159
    assert {t.name.rsplit(".", 1)[1] for t in plan.targets} == {"weight", "bias"}
    with pytest.raises(CheckFailed, match="layout bn cannot hold"):
        make_plan(found, chosen_layout(FAMILY, "bn"))


def test_one_norm_without_statistics_makes_no_group_norms():
    tensors = headers(TOY, TORCHVISION)
    for name in ("bn1.running_mean", "bn1.running_var"):
        del tensors[name]
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, families(), what="x")
    assert [line.split()[:2] for line in caught.value.why] == [["missing", "bn1.running_mean"],
                                                               ["missing", "bn1.running_var"]]


@pytest.mark.parametrize("dialect", [TIMM_DEEP_STEM, OPENMMLAB_DEEP_STEM], ids=lambda d: d.name)
def test_a_deep_stem_needs_the_builder_that_has_one(work, dialect):
    tensors = headers(VARIANTS["50s"], dialect)
    found = recognise(tensors, families(), what="x")
    assert (found.dialect.name, found.variant) == (dialect.name, "50s")
    plan = make_plan(found, chosen_layout(FAMILY, "d2"))
    assert {t.name for t in plan.targets} >= {f"backbone.stem.conv{j}.norm.running_var" for j in (1, 2, 3)}
    model = plan.layout.requires.model(plan.config)
    assert model["BACKBONE"]["NAME"] == "build_resnet_deeplab_backbone"
    assert {"STEM_TYPE": "deeplab", "STEM_OUT_CHANNELS": 128, "RES5_MULTI_GRID": [1, 1, 1]}.items() <= (
        model["RESNETS"].items())
    with pytest.raises(CheckFailed) as caught:
        make_plan(found, chosen_layout(FAMILY, "fpn"))
    assert "three convolutions" in caught.value.why[0]


def test_the_two_spellings_of_a_deep_stem_become_the_same_file(work):
    weights = lively_weights(FAMILY, DEEP)
    digests = {convert(save_pth(work / "x.pth", spelled(d, weights)), load_check=False, force=True).written.file.sha256
               for d in (TIMM_DEEP_STEM, OPENMMLAB_DEEP_STEM)}
    assert len(digests) == 1


def test_a_tiered_stem_is_no_deep_stem_of_detectron2():
    tensors = headers(DEEP, TIMM_DEEP_STEM)
    tensors["conv1.0.weight"] = TensorSpec("conv1.0.weight", (24, 3, 3, 3))
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, families(), what="x")
    assert "must be 32x3x3x3" in caught.value.why[0]


# -- self-supervised training ------------------------------------------------------------------------------------------


def saved(path, tree):
    torch.save(tree, path)
    return path


def state(prefix, *more):
    arrays = spelled(TORCHVISION, WEIGHTS, prefix) | {prefix + n: np.ones(4, "f4") for n in more}
    return {n: torch.from_numpy(a) for n, a in arrays.items()}


def test_moco_v3_is_read_from_either_encoder_and_its_heads_are_dropped(work):
    tree = (state("module.base_encoder.", "fc.0.weight", "fc.1.bias", "fc.1.running_mean", "fc.4.running_var")
            | state("module.momentum_encoder.", "fc.0.weight")
            | {"module.predictor.0.weight": torch.ones(4), "module.predictor.4.running_var": torch.ones(4)})
    path = saved(work / "moco.pth", {"epoch": 100, "arch": "resnet50", "state_dict": tree,
                                     "optimizer": {}, "scaler": {"scale": 1.0}})
    with pytest.raises(UsageError, match="2 ways"):
        convert(path, load_check=False)
    done = convert(path, prefix="module.base_encoder.", load_check=False)
    assert all(np.array_equal(t, WEIGHTS[n.removeprefix("backbone.")]) for n, t in loaded(done.path).items())
    dropped = done.data["dropped"]
    assert dropped["module.base_encoder.fc.4.running_var"] == "projection head of self-supervised training"
    assert "outside the backbone" in dropped["module.predictor.0.weight"]
    assert "outside the backbone" in dropped["module.momentum_encoder.conv1.weight"]


def test_the_published_file_of_moco_v2_has_one_encoder_and_needs_no_word(work):
    path = saved(work / "moco_v2_800ep.pth.tar", {"epoch": 800, "state_dict": state(
        "module.encoder_q.", "fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")
        | {"module.queue": torch.ones(8, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}})
    done = convert(path, load_check=False)
    assert done.data["source"]["prefix"] == "module.encoder_q."
    assert {n for n in done.data["dropped"] if "fc" not in n} == {"module.queue", "module.queue_ptr"}


def test_dino_is_read_from_the_teacher_that_was_asked_for(work):
    head = {"module.head.mlp.0.weight": torch.ones(4), "module.head.last_layer.weight_g": torch.ones(4)}
    other = {n: t + 1 for n, t in state("module.backbone.").items()}
    path = saved(work / "dino.pth", {"student": other | head, "teacher": state("backbone.") | {
        n.removeprefix("module."): t for n, t in head.items()}, "epoch": 3, "dino_loss": {"center": torch.ones(1, 4)}})
    with pytest.raises(UsageError, match="weights under"):
        convert(path, load_check=False)
    done = convert(path, key="teacher", load_check=False)
    assert all(np.array_equal(t, WEIGHTS[n.removeprefix("backbone.")]) for n, t in loaded(done.path).items())
    assert set(done.data["dropped"]) == {"head.mlp.0.weight", "head.last_layer.weight_g"}
