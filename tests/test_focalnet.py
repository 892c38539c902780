"""FocalNet: the real modules are recognised, every layout is its manifest, and what cannot be held is refused.

The toy of the test kit has its norms before their layers; larger members have them behind, and much else that is
theirs alone. These are proved here.
"""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from support import DATA, read, specs
from zooconv_zoo.focalnet import FAMILY
from zooconv_zoo.focalnet.backbone import FocalNet
from zooconv_zoo.focalnet.dialects import OFFICIAL
from zooconv_zoo.focalnet.family import TOY, VARIANTS, FocalNetConfig

from zooconv import CheckFailed, UsageError, convert
from zooconv.d2config.keys import wanted_of
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import import_package
from zooconv.zoo import zoo

DIALECTS = {d.name: d for d in FAMILY.dialects}
# the large members in small: overlapping embeddings, layer scales, norms behind, and one in the modulation
LARGE = FocalNetConfig((1, 2, 1, 1), 4, (2, 1, 3, 2), (3, 5, 3, 7), conv_embed=True, layer_scale=True,
                       modulation_norm=True)
EXACT = 1e-12  # relative; a sum in another order costs about 1e-15


@pytest.fixture(scope="module")
def weights():
    return lively_weights(FAMILY, TOY)


@pytest.fixture(scope="module")
def large():
    return lively_weights(FAMILY, LARGE)


# -- layouts ---------------------------------------------------------------------------------------------------------


def planned(layout, variant, *, fresh=True):
    table = FAMILY.table(VARIANTS[variant])
    return make_plan(fit(FAMILY, OFFICIAL, table), chosen_layout(FAMILY, layout), fresh=fresh)


@pytest.fixture(scope="module")
def wanted():
    path = DATA / "manifests" / "focalnet" / "detrex-focalnet_tiny_lrf.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))


def test_the_layout_of_detrex_is_what_its_class_holds(wanted):
    keys = {name: {"shape": k["shape"], "dtype": k["dtype"]} for name, k in wanted["keys"].items()}
    plan = planned("detrex", "tiny_lrf")
    made = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in plan.targets}
    assert made == keys
    assert sorted(plan.fresh) == sorted(wanted["init_only"])
    without = {t.name for t in planned("detrex", "tiny_lrf", fresh=False).targets}
    assert without == keys.keys() - set(wanted["init_only"])
    assert made != {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch}
                    for t in planned("detrex", "tiny_srf").targets}  # the control: the comparison can fail


def test_maskdinos_class_has_a_norm_more(wanted):
    names = {t.name for t in planned("maskdino", "tiny_lrf").targets}
    assert names - wanted["keys"].keys() == {"backbone.norm0.weight", "backbone.norm0.bias"}


@pytest.mark.parametrize(("variant", "modelname"), [
    ("large_fl3", "focalnet_L_384_22k"), ("large_fl4", "focalnet_L_384_22k_fl4"), ("tiny_srf", None)])
def test_the_config_of_maskdino_names_the_member(variant, modelname):
    config = wanted_of(planned("maskdino", variant), "x.pth").keys
    assert config["MODEL"]["BACKBONE"]["NAME"] == "D2FocalNet"
    assert config["MODEL"]["FOCAL"].get("modelname") == modelname


# -- the packages' own modules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_timms_own_models_are_recognised(variant, timm):
    with torch.device("meta"):
        state = timm.create_model(f"focalnet_{variant}").state_dict()
    dialect = "timm" if variant.endswith("rf") else "timm-post-norm"
    assert read(state) == ("focalnet", dialect, variant)


def options(config):
    return {"embed_dim": config.embed_dim, "depths": [*config.depths], "focal_levels": [*config.levels],
            "focal_windows": [*config.windows], "use_conv_embed": config.conv_embed,
            "use_layerscale": config.layer_scale, "use_post_layernorm": config.layer_scale,
            "use_post_layernorm_in_modulation": config.modulation_norm}


@pytest.mark.parametrize("head", ["FocalNetForImageClassification", "FocalNetForMaskedImageModeling"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_own_models_are_recognised(variant, head):
    package = import_package("transformers")
    with torch.device("meta"):
        state = getattr(package, head)(package.FocalNetConfig(**options(VARIANTS[variant]))).state_dict()
    found = recognise(specs(state), families(), what="x")
    assert (found.family.name, found.dialect.name, found.variant) == ("focalnet", "transformers", variant)
    assert found.prefix == "focalnet."
    assert ("focalnet.embeddings.mask_token" in found.dropped) == ("Masked" in head)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_official_names_are_recognised(variant):
    heads = {"head.weight": TensorSpec("head.weight", (1000, 8)), "head.bias": TensorSpec("head.bias", (1000,))}
    assert read({**FAMILY.table(VARIANTS[variant]), **heads}) == ("focalnet", "official", variant)


# -- the large members -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("against", ["timm", "transformers"])
def test_norms_behind_their_layers_compute_what_each_upstream_computes(work, against):
    parity, faults, score = prove(FAMILY, LARGE, against, work, most=200)
    assert (parity.passed, faults, score.survivors, score.unreached) == (True, [], [], [])
    assert parity.spelled == {"timm": "timm-post-norm names", "transformers": "transformers names"}[against]
    assert parity.skipped == {}
    assert score.total > 180


def built_without_it(config):
    module = FocalNet(config)
    for part in module.modules():
        if hasattr(part, "divisor"):
            part.divisor = 1
    return module


@pytest.mark.parametrize("against", ["timm", "transformers"])
def test_a_normalised_modulator_computes_what_each_upstream_computes(work, against, monkeypatch):
    """No file says which members have it: the config does, of large_fl4. Here the small one takes its place."""
    assert [name for name, config in VARIANTS.items() if config.normalize_modulator] == ["large_fl4"]
    monkeypatch.setitem(VARIANTS, "large_fl4", LARGE)
    parity, _, score = prove(FAMILY, LARGE, against, work, most=20)
    assert (parity.passed, score.survivors) == (True, [])
    monkeypatch.setattr("zooconv_zoo.focalnet.backbone.build", built_without_it)
    parity, _, _ = prove(FAMILY, LARGE, against, work, most=1)
    assert not parity.passed  # the control: it is felt


@pytest.mark.parametrize("config", [TOY, LARGE], ids=["small", "large"])
@torch.no_grad()
def test_stage_features_are_timms(config, work, timm):
    """The real file of the real module on the whole road, compared by no code of the tool's own proof."""
    torch.manual_seed(0)
    theirs = timm.models.focalnet.FocalNet(
        num_classes=5, embed_dim=4, depths=config.depths, focal_levels=config.levels, focal_windows=config.windows,
        use_overlap_down=config.conv_embed, use_post_norm=config.layer_scale,
        use_post_norm_in_modulation=config.modulation_norm, layerscale_value=0.5 if config.layer_scale else None).eval()
    for name, tensor in theirs.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape) * 0.2 + name.endswith(("norm.weight", "norm1.weight", "norm2.weight")))
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    done = convert(save_safetensors(work / "model.safetensors", arrays), layout="maskdino", load_check=False)
    state = {n.removeprefix("backbone."): t for n, t in torch.load(done.path)["model"].items()}
    ours = FocalNet(config).eval()
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert missing == ["norm.weight", "norm.bias"]
    assert unexpected == [f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")]
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features = theirs.double().forward_intermediates(images, intermediates_only=True)
    assert len(features) == 4
    for a, b in zip(ours.double()(images).values(), features, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < EXACT


# -- dialects --------------------------------------------------------------------------------------------------------

HEADS = {"official": "head", "timm": "head.fc", "timm-post-norm": "head.fc", "transformers": "classifier"}


def upstream(name, canonical):
    """Canonical weights as this upstream publishes them: its names, its prefix, its head."""
    arrays = spelled(DIALECTS[name], canonical, "focalnet." if name == "transformers" else "")
    heads = {f"{HEADS[name]}.weight": (10, 32), f"{HEADS[name]}.bias": (10,)}
    return arrays | {n: random_array(n, shape) for n, shape in heads.items()}


@pytest.mark.parametrize(("dialect", "size"), [
    ("official", "weights"), ("timm", "weights"), ("transformers", "weights"),
    ("official", "large"), ("timm-post-norm", "large"), ("transformers", "large")])
@pytest.mark.parametrize("layout", ["d2", "detrex", "maskdino"])
def test_a_dialect_is_recognised_only_as_itself_and_becomes_the_same_file(dialect, size, layout, request, work):
    canonical = request.getfixturevalue(size)
    arrays = upstream(dialect, canonical)
    assert read(arrays)[:2] == ("focalnet", dialect)
    first = convert(save_pth(work / "first.pth", canonical), layout=layout, load_check=False)
    other = convert(save_pth(work / "other.pth", arrays), layout=layout, load_check=False)
    assert other.written.file.sha256 == first.written.file.sha256


def test_timms_two_spellings_are_not_mixed(large):
    """Norms before their layers, beside layer scales: no layout's names could tell that from norms behind them."""
    arrays = {name.replace("_post", ""): array for name, array in upstream("timm-post-norm", large).items()}
    with pytest.raises(CheckFailed, match="nearly a FocalNet in timm"):
        read(arrays)


# -- relatives -------------------------------------------------------------------------------------------------------


def test_an_isotropic_member_is_refused_by_name_and_by_its_shapes():
    with pytest.raises(UsageError, match="isotropic"):
        resolve("focalnet_tiny_iso_16", zoo())
    table = FAMILY.table(FocalNetConfig((12,), 192, (3,), (3,)))
    stem = TensorSpec("patch_embed.proj.weight", (192, 3, 16, 16))
    with pytest.raises(CheckFailed) as caught:
        read({**table, stem.name: stem})
    assert caught.value.why == ("shape       patch_embed.proj.weight  (is 192x3x16x16, must be 192x3x4x4)",)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "focalnet_tiny_srf"])
def test_a_swin_whose_names_are_so_alike_is_no_focalnet(name, timm):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    tensors = {f"backbone.{n}": t for n, t in specs(state).items()}
    if name.startswith("swin"):
        assert not any(fit(FAMILY, d, tensors, "backbone.").exact for d in FAMILY.dialects)
        try:
            assert read(state)[0] != "focalnet"
        except CheckFailed as refused:
            assert "FocalNet" not in refused.what  # noqa: PT017 - either way, it is not taken for one
    else:
        assert read(tensors) == ("focalnet", "timm", "tiny_srf")


def test_a_file_that_nearly_fits_is_told_what_is_missing_in_its_own_spelling(large):
    arrays = upstream("timm-post-norm", large)
    del arrays["layers.1.blocks.1.norm2_post.bias"]
    with pytest.raises(CheckFailed, match="nearly a FocalNet in timm-post-norm names") as caught:
        read(arrays)
    assert caught.value.why == ("missing     layers.1.blocks.1.norm2_post.bias",)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "repo"), [
    ("focalnet_tiny_lrf", "timm/focalnet_tiny_lrf.ms_in1k"), ("focalnet-tiny", "timm/focalnet_tiny_srf.ms_in1k"),
    ("focalnet_large_lrf_384", "timm/focalnet_large_fl3.ms_in22k"),
    ("focalnet_L_384_22k_fl4", "timm/focalnet_large_fl4.ms_in22k"),
])
def test_a_name_that_people_type_means_the_repository_that_it_should(typed, repo):
    assert resolve(typed, zoo()).repo == repo


def test_a_name_that_could_be_several_is_a_question():
    with pytest.raises(UsageError, match="could be any of 2 models"):
        resolve("focalnet_tiny", zoo())


# -- as a Detectron2 backbone ----------------------------------------------------------------------------------------


def test_the_reference_backbone_is_configured_as_others_are():
    module = FocalNet(LARGE, out_features=("res3", "res5"), drop_path=0.1, checkpointing=True).freeze(3)
    shapes = {name: (shape.channels, shape.stride) for name, shape in module.output_shape().items()}
    assert shapes == {"res3": (8, 8), "res5": (32, 32)}
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert not [n for n in learning if n.startswith(("patch_embed", "layers.0", "layers.1.blocks"))]
    assert {"layers.1.downsample.proj.weight", "layers.2.blocks.0.gamma_1"} <= learning
    found = module.train()(torch.zeros(1, 3, 62, 94))  # a border that is not a multiple of 32 is padded
    assert {n: tuple(f.shape) for n, f in found.items()} == {"res3": (1, 8, 8, 12), "res5": (1, 32, 2, 3)}
    found["res5"].sum().backward()
    assert module.layers[3].blocks[0].gamma_2.grad is not None
