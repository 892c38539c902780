"""ConvNeXt V2: the real modules are recognised, every layout is its manifest, and what cannot be held is refused.

That its dialects compute what their packages compute is proved in test_conformance.py; here stands what a toy does not
show: all sizes, 1x1 convolutions, files of masked pretraining, and the border to the first version.
"""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from support import DATA, read, specs
from zooconv_zoo.convnext import FAMILY as FIRST
from zooconv_zoo.convnextv2 import FAMILY
from zooconv_zoo.convnextv2.backbone import ConvNeXtV2
from zooconv_zoo.convnextv2.dialects import OFFICIAL
from zooconv_zoo.convnextv2.family import TOY, VARIANTS

from zooconv import CheckFailed, UsageError, convert
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.upstream import import_package
from zooconv.zoo import zoo

DIALECTS = {d.name: d for d in FAMILY.dialects}
MANIFESTS = sorted((DATA / "manifests" / "convnextv2").glob("*.json.gz"))
EXACT = 1e-12  # relative; a sum in another order costs about 1e-15


@pytest.fixture(scope="module")
def weights():
    return lively_weights(FAMILY, TOY)


# -- layouts ---------------------------------------------------------------------------------------------------------


def planned(wanted):
    table = FAMILY.table(VARIANTS[wanted["variant"].removeprefix("convnextv2_")])
    plan = make_plan(fit(FAMILY, OFFICIAL, table), chosen_layout(FAMILY, wanted["layout"].removesuffix("-convnextv2")))
    return {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in plan.targets}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_a_layout_is_what_the_real_class_holds(path):
    wanted = json.loads(gzip.decompress(path.read_bytes()))
    keys = {name: {"shape": k["shape"], "dtype": k["dtype"]} for name, k in wanted["keys"].items()}
    made = planned(wanted)
    assert made == keys
    assert wanted["init_only"] == []
    changed = {name.replace("stages.3.1.grn.gamma", "stages.3.1.gamma"): k for name, k in keys.items()}
    assert made != changed  # the control: the comparison can fail


def test_there_are_manifests():
    assert len(MANIFESTS) == 2


# -- the packages' own modules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_timms_own_models_are_recognised(variant, timm):
    with torch.device("meta"):
        state = timm.create_model(f"convnextv2_{variant}").state_dict()
    assert read(state) == ("convnextv2", "timm", variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_own_models_are_recognised(variant):
    package, config = import_package("transformers"), VARIANTS[variant]
    options = package.ConvNextV2Config(depths=[*config.depths], hidden_sizes=[*config.dims], num_labels=1000)
    with torch.device("meta"):
        state = package.ConvNextV2ForImageClassification(options).state_dict()
    assert read(state) == ("convnextv2", "transformers", variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_official_names_are_recognised(variant):
    state = FAMILY.table(VARIANTS[variant])
    heads = {"head.weight": TensorSpec("head.weight", (1000, 8)), "head.bias": TensorSpec("head.bias", (1000,))}
    assert read({**state, **heads}) == ("convnextv2", "official", variant)


@pytest.mark.parametrize("conv_mlp", [False, True])
@torch.no_grad()
def test_stage_features_are_timms_with_linear_layers_and_with_1x1_convolutions(conv_mlp, work, timm):
    """The real file of the real module on the whole road, compared by no code of the tool's own proof."""
    torch.manual_seed(0)
    theirs = timm.models.convnext.ConvNeXt(depths=TOY.depths, dims=TOY.dims, num_classes=5, use_grn=True,
                                           ls_init_value=None, conv_mlp=conv_mlp).eval()
    for name, tensor in theirs.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape) * 0.2 + name.endswith(("norm.weight", "grn.weight")))
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    done = convert(save_safetensors(work / "model.safetensors", arrays), layout="gabrysse", load_check=False)
    state = {n.removeprefix("backbone."): t for n, t in torch.load(done.path)["model"].items()}
    ours = ConvNeXtV2(TOY.depths, TOY.dims).eval()
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["norm.weight", "norm.bias"], [])
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = theirs.double().forward_intermediates(images, intermediates_only=True)
    for a, b in zip(ours.double()(images).values(), wanted, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < EXACT
    ours.stages[2][0].grn.gamma.mul_(-1)  # the control
    assert float((ours(images)["res4"] - wanted[2]).abs().max()) > 1e-3


# -- dialects --------------------------------------------------------------------------------------------------------


def upstream(name, canonical):
    """Canonical weights as this upstream publishes them: its names, its prefix, its head."""
    arrays = spelled(DIALECTS[name], canonical, {"openmmlab": "backbone.", "transformers": "convnextv2."}.get(name, ""))
    head = {"official": "head", "timm": "head.fc", "openmmlab": "head.fc", "transformers": "classifier"}.get(name)
    width = len(canonical["norm.weight"])
    heads = {f"{head}.weight": (10, width), f"{head}.bias": (10,)} if head else {}
    return arrays | {n: random_array(n, shape) for n, shape in heads.items()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_is_recognised_only_as_itself_and_becomes_the_same_file(dialect, weights, work):
    arrays = upstream(dialect, weights)
    assert read(arrays)[:2] == ("convnextv2", dialect)
    first = convert(save_pth(work / "first.pth", weights), layout="gabrysse", load_check=False)
    other = convert(save_pth(work / "other.pth", arrays), layout="gabrysse", load_check=False)
    assert other.written.file.sha256 == first.written.file.sha256


@pytest.mark.parametrize("dialect", ["official-body", "timm-body", "openmmlab-body"])
def test_a_file_of_masked_pretraining_has_no_final_norm_and_d2_says_that_it_needs_one(dialect, weights, work):
    source = save_pth(work / "fcmae.pth", upstream(dialect, weights))
    with pytest.raises(CheckFailed, match="layout d2 cannot be made") as caught:
        convert(source, load_check=False)
    assert "norm.weight" in str(caught.value)


@pytest.mark.parametrize("dialect", ["official", "timm", "openmmlab", "transformers"])
def test_a_whole_file_that_lost_its_final_norm_is_no_file_of_masked_pretraining(dialect, weights):
    arrays = upstream(dialect, weights)
    lost = next(name for name in spelled(DIALECTS[dialect], {"norm.bias": weights["norm.bias"]}))
    arrays = {name: array for name, array in arrays.items() if not name.endswith(lost)}
    with pytest.raises(CheckFailed, match=rf"nearly a ConvNeXt V2 in {dialect} names") as caught:
        read(arrays)
    assert lost in caught.value.why[0]


# -- relatives -------------------------------------------------------------------------------------------------------


def sparse(canonical):
    """The names and shapes of FCMAE's training: models/convnextv2_sparse.py, models/fcmae.py."""
    for name, array in canonical.items():
        shape, layer = array.shape, name.rsplit(".", 1)[0]
        stem = name.startswith("downsample_layers.0.")
        if not stem and len(shape) == 4 and name.endswith("weight"):
            kernel = (shape[2] * shape[3], *(() if layer.endswith("dwconv") else (shape[1],)), shape[0])
            yield f"encoder.{layer}.kernel", kernel
        elif layer.endswith("grn"):
            yield f"encoder.{name}", shape[2:]
        elif "pwconv" in layer or (layer.endswith("norm") and layer != "norm"):
            yield f"encoder.{layer}.{'ln' if 'norm' in layer else 'linear'}.{name.rsplit('.', 1)[1]}", shape
        elif layer != "norm":
            yield f"encoder.{name}", shape
    yield from {"mask_token": (1, 8, 1, 1), "proj.weight": (8, 16, 1, 1), "decoder.0.grn.gamma": (1, 1, 1, 32)}.items()


def test_a_file_of_sparse_training_is_refused_with_the_reason_and_the_way_out(weights):
    tensors = {name: TensorSpec(name, shape) for name, shape in sparse(weights)}
    assert "encoder.stages.2.1.dwconv.kernel" in tensors
    with pytest.raises(CheckFailed, match="is not a ConvNeXt V2 that its Detectron2 layouts can hold") as caught:
        recognise(tensors, families(), what="checkpoint-799.pth")
    assert "MinkowskiEngine" in caught.value.why[0]
    assert "remap_checkpoint_keys" in caught.value.why[0]


def test_the_first_version_and_the_second_are_not_taken_for_each_other(weights):
    first = lively_weights(FIRST, FIRST.toy)
    assert read(first)[0] == "convnext"
    assert read(weights)[0] == "convnextv2"
    for dialect in FIRST.dialects:
        assert not fit(FIRST, dialect, specs(weights)).exact
    with pytest.raises(CheckFailed) as caught:
        read(weights | {name: array for name, array in first.items() if name.endswith("gamma")})
    assert any(told.startswith("unexpected") and "gamma" in told for told in caught.value.why)


def test_a_file_that_nearly_fits_is_told_what_is_missing_and_not_that_it_is_a_relative(weights):
    arrays = {name: array for name, array in weights.items() if name != "stages.2.1.grn.beta"}
    with pytest.raises(CheckFailed, match="nearly a ConvNeXt V2 in official names") as caught:
        read(arrays)
    assert caught.value.why == ("missing     stages.2.1.grn.beta",)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "repo"), [
    ("convnextv2_tiny_1k_224", "timm/convnextv2_tiny.fcmae_ft_in1k"),
    ("convnextv2_tiny_1k_224_ema", "timm/convnextv2_tiny.fcmae_ft_in1k"),
    ("convnextv2-tiny-1k-224", "timm/convnextv2_tiny.fcmae_ft_in1k"),
    ("convnextv2_tiny_1k_224_fcmae", "timm/convnextv2_tiny.fcmae"),
    ("convnextv2_tiny_22k", "timm/convnextv2_tiny.fcmae_ft_in22k_in1k"),
    ("convnextv2_base_22k_384_ema", "timm/convnextv2_base.fcmae_ft_in22k_in1k_384"),
    ("convnextv2_huge_22k_512", "timm/convnextv2_huge.fcmae_ft_in22k_in1k_512"),
])
def test_a_name_that_people_type_means_the_repository_that_it_should(typed, repo):
    assert resolve(typed, zoo()).repo == repo


@pytest.mark.parametrize("typed", ["convnextv2_tiny", "convnextv2_huge_22k", "convnextv2"])
def test_a_name_that_could_be_several_is_a_question(typed):
    with pytest.raises(UsageError, match="could be any of"):
        resolve(typed, zoo())


def test_what_is_called_22k_says_that_it_was_fine_tuned_on_1k_and_every_licence_is_non_commercial():
    mine = [m for m in zoo().models if m.family == "convnextv2"]
    assert len(mine) == 26
    assert {m.license for m in mine} == {"cc-by-nc-4.0"}
    assert all(("1000 classes" in m.note) == ("in22k_in1k" in m.repo) for m in mine)


# -- as a Detectron2 backbone ----------------------------------------------------------------------------------------


def test_the_reference_backbone_is_configured_as_the_first_one_is():
    module = ConvNeXtV2(TOY.depths, TOY.dims, out_features=("res3", "res5")).freeze(3)
    shapes = {name: (shape.channels, shape.stride) for name, shape in module.output_shape().items()}
    assert shapes == {"res3": (8, 8), "res5": (16, 32)}
    assert [name for name, p in module.named_parameters() if p.requires_grad and name.startswith("stages.1")] == []
    assert module.stages[2][0].grn.gamma.requires_grad
    assert {n: tuple(f.shape) for n, f in module(torch.zeros(1, 3, 64, 96)).items()} == {
        "res3": (1, 8, 8, 12), "res5": (1, 16, 2, 3)}
