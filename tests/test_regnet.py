"""RegNet: Detectron2's names, every upstream's real modules, what is refused, and a backbone as users expect it."""

from __future__ import annotations

import gzip
import json
import re
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from support import DATA
from zooconv_zoo.regnet import FAMILY
from zooconv_zoo.regnet.backbone import STAGES, RegNet, build
from zooconv_zoo.regnet.dialects import PYCLS
from zooconv_zoo.regnet.family import TOY, VARIANTS

from zooconv import convert
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_weights, save_pth, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.upstream import import_package
from zooconv.zoo import zoo

DIALECTS = {d.name: d for d in FAMILY.dialects}
MANIFESTS = sorted((DATA / "manifests" / "regnet").glob("*.json.gz"))

# The sizes as each upstream calls them: timm, torchvision, and our variant.
SIZES = [("002", "", "200mf"), ("004", "400mf", "400mf"), ("006", "", "600mf"), ("008", "800mf", "800mf"),
         ("016", "1_6gf", "1_6gf"), ("032", "3_2gf", "3_2gf"), ("040", "", "4gf"), ("064", "", "6_4gf"),
         ("080", "8gf", "8gf"), ("120", "", "12gf"), ("160", "16gf", "16gf"), ("320", "32gf", "32gf")]
HUGE = [("640", "", "64gf"), ("1280", "128gf", "128gf"), ("2560", "", "256gf")]
ALL = [(kind, *size) for kind in "xy" for size in SIZES + (HUGE if kind == "y" else [])]
OTHERWISE_ROUNDED = {"x_400mf", "y_800mf", "y_8gf"}  # by torchvision
TIMM = {f"regnet{kind}_{number}": f"{kind}_{size}" for kind, number, _, size in ALL} | {
    "regnetx_004_tv": "x_400mf_tv", "regnety_008_tv": "y_800mf_tv", "regnety_080_tv": "y_8gf_tv"}
TORCHVISION = {f"regnet_{kind}_{name}": f"{kind}_{size}" + "_tv" * (f"{kind}_{size}" in OTHERWISE_ROUNDED)
               for kind, _, name, size in ALL if name}


def recognised(module, what="x", **options):
    tensors = {n: TensorSpec(n, tuple(t.shape), "I64" if t.dtype == torch.int64 else "F32")
               for n, t in module.state_dict().items()}
    return recognise(tensors, families(), what=what, **options)


def on_meta(build, *arguments, **options):
    with torch.device("meta"):
        return build(*arguments, **options)


# -- Detectron2's names ------------------------------------------------------------------------------------------------


def planned(layout, variant):
    return make_plan(fit(FAMILY, PYCLS, FAMILY.table(VARIANTS[variant])), chosen_layout(FAMILY, layout), fresh=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_the_layout_is_what_detectron2s_class_holds(path):
    wanted = json.loads(gzip.decompress(path.read_bytes()))
    variant = {"regnetx_4gf_dds": "x_4gf", "regnety_4gf_dds": "y_4gf"}[wanted["variant"]]
    made = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in planned("d2", variant).targets}
    keys = {name: {"shape": key["shape"], "dtype": key["dtype"]} for name, key in wanted["keys"].items()}
    assert made == keys
    assert {f"backbone.bottom_up.{t.name.removeprefix('backbone.')}" for t in planned("plain", variant).targets
            } == keys.keys()
    other = {"x_4gf": "x_6_4gf", "y_4gf": "y_3_2gf"}[variant]  # the control: another size is not it
    assert {t.name: list(t.shape) for t in planned("d2", other).targets} != {n: k["shape"] for n, k in keys.items()}


def test_there_are_manifests():
    assert len(MANIFESTS) == 2


# -- the upstreams' own modules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMM)
def test_timms_models_are_recognised_in_every_size(name, timm):
    found = recognised(on_meta(timm.create_model, name, num_classes=7))
    assert (found.family, found.dialect.name, found.variant) == (FAMILY, "timm", TIMM[name])
    rows = [model for model in zoo().models if model.repo.startswith(f"timm/{name}.")]
    assert {model.variant for model in rows} == {TIMM[name]}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_models_are_recognised_in_every_size(name, monkeypatch):
    regnet = import_package("torchvision").models.regnet
    monkeypatch.setattr(regnet, "_regnet", lambda parameters, *rest, **options: parameters)  # computed, so not on meta
    found = recognised(on_meta(regnet.RegNet, getattr(regnet, name)()))
    assert (found.family, found.dialect.name, found.variant) == (FAMILY, "torchvision", TORCHVISION[name])


def in_transformers(variant, kind, **options):
    package, config = import_package("transformers"), VARIANTS[variant]
    return on_meta(getattr(package, kind), package.RegNetConfig(
        depths=[*config.depths], hidden_sizes=[*config.widths], groups_width=max(config.group_widths),
        layer_type=variant[0], **options))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.endswith("_tv")])
def test_transformers_models_are_recognised_in_every_size(variant):
    bare = recognised(in_transformers(variant, "RegNetModel"))
    headed = recognised(in_transformers(variant, "RegNetForImageClassification", num_labels=7))
    for found, prefix in ((bare, ""), (headed, "regnet.")):
        assert (found.family, found.dialect.name, found.variant, found.prefix) == (
            FAMILY, f"transformers-{variant[0]}", variant, prefix)
    assert {n for n, why in headed.dropped.items() if why == "classifier"} == {"classifier.1.weight",
                                                                               "classifier.1.bias"}


@pytest.mark.parametrize("dialect", ["vissl", "torchvision"])
@pytest.mark.parametrize("variant", ["toy", "x_200mf"])
def test_timm_itself_reads_these_names_as_we_do(dialect, variant, timm):
    """timm's filter of foreign checkpoints is the other opinion on the names of SEER and torchvision."""
    weights = random_weights(FAMILY, VARIANTS.get(variant, TOY))
    foreign = spelled(DIALECTS[dialect], weights)
    wrapped = {"vissl": {"classy_state_dict": {"base_model": {"model": {"trunk": foreign, "heads": {}}}}}}
    read = timm.models.regnet._filter_fn(wrapped.get(dialect, foreign))
    ours = spelled(DIALECTS["timm"], weights)
    assert read.keys() == ours.keys()
    assert all(read[name] is array or np.array_equal(read[name], array) for name, array in ours.items())


def test_counters_are_dropped_and_the_reason_is_told(timm):
    found = recognised(on_meta(timm.create_model, "regnetx_002"))
    counters = {name: why for name, why in found.dropped.items() if name.endswith("num_batches_tracked")}
    assert len(counters) == 1 + 3 * 13 + 4  # stem, three a block, one a shortcut
    assert set(counters.values()) == {"how many batches a norm has seen: it takes no part in what it computes"}


# -- relatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "reason"), [
    ("regnetv_040", "normalise before they convolve"), ("regnetv_064", "normalise before they convolve"),
    ("regnetz_005", "inverted bottlenecks"), ("regnetz_040", "inverted bottlenecks"),
    ("regnetz_040_h", "inverted bottlenecks"), ("regnety_040_sgn", "without running statistics"),
])
def test_what_detectron2s_regnet_cannot_hold_is_refused_with_the_reason(name, reason, timm):
    with pytest.raises(CheckFailed, match="not a RegNet that its Detectron2 layouts can hold") as caught:
        recognised(on_meta(timm.create_model, name), name, layout="fpn")
    assert reason in caught.value.why[0]


@pytest.mark.parametrize("name", ["regnetz_b16", "regnetz_c16_evos", "nf_regnet_b1"])
def test_a_namesake_is_no_relative(name, timm):
    found = recognised(on_meta(timm.create_model, name), name)
    assert (found.family.name, found.variant) == ("timm", name)


def test_a_stem_alone_is_no_regnet():
    tensors = {n: s for n, s in FAMILY.table(TOY).items() if n.startswith("stem.")}
    with pytest.raises(CheckFailed):
        recognise(tensors, [FAMILY], what="x")


@pytest.mark.parametrize(("change", "told"), [
    (lambda t: t.pop("s2.b1.proj.weight"), "missing     s2.b1.proj.weight"),
    (lambda t: t.pop("s3.b1.f.se.f_ex.2.bias"), "missing     s3.b1.f.se.f_ex.2.bias"),
    (lambda t: t.update({"s1.b1.f.se.f_ex.0.weight": TensorSpec("s1.b1.f.se.f_ex.0.weight", (4, 8, 1, 1))}), "shape"),
    (lambda t: t.update({"stem.conv.weight": TensorSpec("stem.conv.weight", (12, 3, 7, 7))}),
     "shape       stem.conv.weight  (is 12x3x7x7, must be 12x3x3x3)"),
    (lambda t: t.pop("s4.b1.f.c_bn.running_var"), "missing     s4.b1.f.c_bn.running_var"),
])
def test_a_file_that_nearly_fits_is_refused_with_the_offender(change, told):
    tensors = dict(FAMILY.table(TOY))
    change(tensors)
    with pytest.raises(CheckFailed, match="is nearly a RegNet") as caught:
        recognise(tensors, families(), what="x")
    assert any(line.startswith(told) for line in caught.value.why)


# -- the road ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["x_200mf", "y_200mf"])
def test_every_dialect_becomes_the_same_file(variant, work):
    weights = random_weights(FAMILY, VARIANTS[variant])
    other = {"x_200mf": "transformers-y", "y_200mf": "transformers-x"}[variant]
    digests = set()
    for dialect in DIALECTS.values():
        if dialect.name != other:
            source = save_safetensors(work / f"{dialect.name}.safetensors", spelled(dialect, weights))
            done = convert(source, load_check=False)
            assert (done.data["dialect"], done.preview.found.variant) == (dialect.name, variant)
            digests.add(done.written.file.sha256)
    assert len(digests) == 1


def test_the_releases_own_containers_are_opened(work):
    weights = random_weights(FAMILY, TOY)
    momentum = {"state": {0: {"momentum_buffer": torch.ones(1)}}, "param_groups": []}
    plain = convert(save_pth(work / "plain.pth", weights), load_check=False)
    pycls = convert(save_pth(work / "RegNetY_dds_8gpu.pyth", weights, "model_state", epoch=99, optimizer_state=momentum,
                             cfg="MODEL: {}"), load_check=False)
    trunk = {name: torch.from_numpy(a) for name, a in spelled(DIALECTS["vissl"], weights).items()}
    model = {"trunk": trunk, "heads": {"0.clf.0.bias": torch.ones(1)}}
    torch.save({"classy_state_dict": {"base_model": {"model": model}}, "iteration": 1}, work / "seer.torch")
    seer = convert(work / "seer.torch", key="classy_state_dict.base_model.model.trunk", load_check=False)
    assert seer.data["dialect"] == "vissl"
    assert plain.written.file.sha256 == pycls.written.file.sha256 == seer.written.file.sha256
    assert "INPUT.FORMAT is BGR" in str(pycls.data)


def test_the_copies_of_transformers_are_of_the_size_that_their_names_say():
    rows = [model for model in zoo().models if model.repo.startswith("facebook/regnet-")]
    assert len(rows) == 30
    for model in rows:
        _, kind, number, *_ = model.name.split("-")
        assert (model.variant, model.repo) == (TIMM[f"regnet{kind}_{number}"], f"facebook/{model.name}")
        assert ("SEER" in model.note) == ("seer" in model.name) == (model.input == 384)


def test_a_name_that_each_of_them_uses_is_understood():
    typed = {"RegNetY-4.0GF": "timm/regnety_040.pycls_in1k",
             "RegNetX-1.6GF_dds_8gpu": "timm/regnetx_016.pycls_in1k",
             "regnet_y_400mf-e6988f5f": "timm/regnety_004.tv2_in1k",
             "regnet_y_16gf_imagenet1k_swag_e2e_v1": "timm/regnety_160.swag_ft_in1k",
             "regnet-y-040": "facebook/regnet-y-040",
             "timm/regnety_320.seer": "timm/regnety_320.seer"}
    assert {name: resolve(name, zoo()).repo for name in typed} == typed
    with pytest.raises(UsageError, match="could be any of"):
        resolve("regnety_040", zoo())
    with pytest.raises(UsageError, match="normalise before they convolve"):
        resolve("timm/regnetv_040.ra3_in1k", zoo())


def test_a_name_of_torchvisions_is_refused_because_its_first_weights_are_nowhere_and_others_are_named():
    models = import_package("torchvision").models
    for name in TORCHVISION:
        with pytest.raises(UsageError, match="is refused") as caught:
            resolve(name, zoo())
        weights = models.get_model_weights(name).__members__
        assert "IMAGENET1K_V1" not in weights or zoo().find(Path(weights["IMAGENET1K_V1"].url).stem) is None
        others = re.findall(r"_imagenet1k_\w+", str(caught.value))
        assert others
        assert all(zoo().find(f"{name}{other}") for other in others), name


# -- what it computes --------------------------------------------------------------------------------------------------


def features_of_timm(module, images):
    return module.forward_intermediates(images, intermediates_only=True)


def features_of_torchvision(module, images):
    found = [module.stem(images)]
    for stage in module.trunk_output:
        found.append(stage(found[-1]))
    return found


def features_of_transformers(module, images):
    return module(images, output_hidden_states=True).hidden_states


def in_timm(name):
    return import_package("timm").create_model(name)


def in_torchvision(name):
    return import_package("torchvision").models.get_model(name)


def with_a_head(variant):
    return in_transformers(variant, "RegNetForImageClassification").to_empty(device="cpu")


REAL = {
    "timm X": (partial(in_timm, "regnetx_002"), features_of_timm),
    "timm Y": (partial(in_timm, "regnety_002"), features_of_timm),
    "torchvision X": (partial(in_torchvision, "regnet_x_400mf"), features_of_torchvision),
    "torchvision Y": (partial(in_torchvision, "regnet_y_400mf"), features_of_torchvision),
    "transformers X": (partial(with_a_head, "x_200mf"), features_of_transformers),
    "transformers Y": (partial(with_a_head, "y_200mf"), features_of_transformers),
}


@pytest.mark.parametrize("name", REAL)
def test_stage_features_are_those_of_a_published_size(name, work):
    """The upstream's module, its own widths, saved as it is, converted, and compared by no code of the tool's proof."""
    make, features = REAL[name]
    torch.manual_seed(0)
    module = make().eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                spread = (3 / max(tensor[0].numel(), 1)) ** 0.5 if tensor.ndim > 1 else 0.2
                tensor.uniform_(-spread, spread).add_(float(tensor.ndim == 1 and not key.endswith(("bias", "mean"))))
            else:
                tensor.zero_()
    torch.save(module.state_dict(), work / "upstream.pth")
    done = convert(work / "upstream.pth", load_check=False)
    state = {n.removeprefix("backbone.bottom_up."): t for n, t in torch.load(done.path)["model"].items()}
    ours, theirs = build(done.preview.found.config), module.double()
    assert not ours.load_state_dict(state, strict=False).unexpected_keys
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine = ours.double().eval().outputs(images)
        pairs = [*zip_longest(mine.values(), features(getattr(theirs, "regnet", theirs), images))]
        assert len(pairs) == 5
        assert max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs) < 1e-12
        ours.s3.b2, ours.s3.b3 = ours.s3.b3, ours.s3.b2  # what it must catch: blocks in another order
        wrong = ours.outputs(images)["s4"]
    assert float((wrong - pairs[-1][1]).abs().max() / pairs[-1][1].abs().max()) > 1e-3


def test_a_member_that_an_upstreams_names_cannot_tell_is_not_proved_against_it(work):
    with pytest.raises(UsageError, match="transformers-x names cannot tell this RegNet") as caught:
        prove(FAMILY, TOY, "transformers-x", work)
    assert "se_ratio 0.25" in caught.value.why[0]


# -- the backbone as a Detectron2 user has it --------------------------------------------------------------------------


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def toy(**options):
    torch.manual_seed(0)
    return RegNet(TOY.depths, TOY.widths, TOY.group_widths, stem_width=TOY.stem_width, se_ratio=TOY.se_ratio, **options)


@pytest.mark.parametrize("names", [STAGES, ("stem", "s4"), ("s3",)])
def test_it_gives_the_features_that_were_asked_for_in_the_shapes_that_it_promises(names, images):
    module = toy(out_features=names)
    found, promised = module(images), module.output_shape()
    assert [*found] == [*promised] == [*names]
    for name, feature in found.items():
        shape = promised[name]
        assert feature.shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)


@pytest.mark.parametrize("freeze_at", range(6))
def test_frozen_parts_learn_nothing_not_even_statistics(freeze_at, images):
    module = toy().freeze(freeze_at).train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad] or [torch.zeros(1)], lr=0.1)
    if freeze_at < 5:
        sum(f.square().mean() for f in module(images).values()).backward()
    optimizer.step()
    changed = {n.split(".")[0] for n, t in module.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == set(("stem", *STAGES)[freeze_at:])


def test_checkpointing_changes_nothing_but_memory(images):
    plain, thrifty = toy().train(), toy(checkpointing=True).train()
    for a, b in zip(plain(images).values(), thrifty(images).values(), strict=True):
        assert torch.equal(a, b)


def test_lively_weights_reach_every_output(images):
    """The control of the kit's weights: no stage is dead, or a comparison of it would prove nothing."""
    module = build(TOY).eval()
    module.load_state_dict({n: torch.from_numpy(a) for n, a in lively_weights(FAMILY, TOY).items()}, strict=False)
    with torch.no_grad():
        assert all(0.1 < float(f.std()) < 10 for f in module.outputs(images).values())
