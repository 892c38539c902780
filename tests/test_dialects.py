"""Every ConvNeXt dialect: the same model gives the same canonical tensors, and the same file, whoever spelled it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import DATA, SMALL
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.family import VARIANTS

from zooconv import Refusal, convert
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import Leaf, evaluate
from zooconv.mapping.template import Template
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import random_array, random_weights, save_pth, save_safetensors, spelled

DIALECTS = {d.name: d for d in FAMILY.dialects}
PREFIX = {"openmmlab": "backbone."}


def specs(arrays):
    return {name: TensorSpec(name, array.shape) for name, array in arrays.items()}


def upstream(name, canonical):
    """Canonical weights as this upstream publishes them: its names, its prefix, its head."""
    arrays = spelled(DIALECTS[name], canonical, PREFIX.get(name, ""))
    width = len(canonical["norm.weight"])
    head = {"official": "head", "timm": "head.fc", "torchvision": "classifier.2", "openmmlab": "head.fc",
            "transformers": "classifier"}.get(name)
    if name == "dinov3":
        arrays |= {f"norms.3.{kind}": arrays[f"norm.{kind}"] for kind in ("weight", "bias")}
    if name == "transformers":
        arrays = {f"convnext.{n}": a for n, a in arrays.items()}
    heads = {f"{head}.weight": (10, width), f"{head}.bias": (10,)} if head else {}
    return arrays | {n: random_array(n, shape) for n, shape in heads.items()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_is_recognised_and_only_as_itself(dialect, weights):
    found = recognise(specs(upstream(dialect, weights)), families(), what="x")
    assert (found.family.name, found.dialect.name, found.config) == ("convnext", dialect, SMALL)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_gives_the_canonical_tensors_back_byte_for_byte(dialect, weights):
    arrays = upstream(dialect, weights)
    found = recognise(specs(arrays), families(), what="x")
    opaque = {name: np.ascontiguousarray(array).view("<u4") for name, array in arrays.items()}
    made = {name: evaluate(value, opaque.__getitem__) for name, value in found.canonical.items()}
    assert made.keys() == weights.keys()
    for name, array in made.items():
        assert array.tobytes() == weights[name].tobytes()


@pytest.mark.parametrize("variant", ["atto", "tiny", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("small", "base", "large", "xlarge"))])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_every_size_becomes_the_same_file(dialect, variant, work, golden):
    canonical = random_weights(FAMILY, VARIANTS[variant])
    arrays = upstream(dialect, canonical)
    source = (save_safetensors(work / "x.safetensors", arrays) if dialect in ("timm", "transformers")
              else save_pth(work / "x.pth", arrays, "state_dict" if dialect == "openmmlab" else "model"))
    result = convert(source, load_check=False)
    assert result.preview.found.variant == variant
    assert result.written.file.sha256 == golden(variant)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The digest of the official file's conversion, per variant: what every other dialect must give."""
    known = {}

    def digest(variant):
        if variant not in known:
            folder = tmp_path_factory.mktemp(variant)
            source = save_pth(folder / "o.pth", upstream("official", random_weights(FAMILY, VARIANTS[variant])))
            known[variant] = convert(source, output=folder, load_check=False).written.file.sha256
            source.unlink()
        return known[variant]

    return digest


@pytest.mark.parametrize("table", json.loads((DATA / "convnext_dialects.json").read_text()), ids=lambda t: t["dialect"])
def test_a_table_says_what_was_proved_by_comparing_features(table, weights):
    """The rule tables in data/ were proved elsewhere, by forward features; ours give the same names."""
    name = {"mmpretrain": "openmmlab", "dinov3_hf": "transformers-dinov3"}.get(table["dialect"], table["dialect"])
    ours = spelled(DIALECTS[name], weights)
    for source, array in ours.items():
        told = DIALECTS[name].to_canonical({source: Leaf(array.shape, "F32", source)})
        assert list(told.made) == [_proved(table, source if name != "transformers" else f"convnext.{source}")]


def _proved(table, name):
    for rule in table["rules"]:
        source, target = Template(rule["src"][0]), Template(rule["dst"][0])
        if (bound := source.match(name)) is not None:
            return target.render(bound)
    return None


# -- relatives and strangers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convnext_atto_ols", "convnext_zepto_rms"])
def test_what_a_d2convnext_cannot_hold_is_refused_with_the_reason(name, timm):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    reason = {"convnext_atto_ols": "stem", "convnext_zepto_rms": "RMS"}[name]
    with pytest.raises(CheckFailed) as caught:
        recognise(specs(state), families(), what=name, layout="maskdino")
    assert reason in caught.value.why[0]


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_tiny", "convnext_tiny_hnf", "convnext_large_mlp",
                                  "convnext_xxlarge"])
def test_timms_own_models_are_recognised(name, timm):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    found = recognise({n: TensorSpec(n, tuple(t.shape)) for n, t in state.items()}, families(), what=name)
    assert (found.dialect.name, found.variant) == ("timm", name.split("_")[1])


def test_an_open_clip_tower_is_found_under_its_prefix_and_the_rest_is_named(weights):
    arrays = spelled(DIALECTS["timm"], weights, "visual.trunk.")
    arrays |= {"visual.head.proj.weight": random_array("p", (8, 16)), "logit_scale": random_array("l", ())}
    found = recognise(specs(arrays), families(), what="open_clip.bin")
    assert (found.dialect.name, found.prefix) == ("timm", "visual.trunk.")
    assert found.dropped.keys() == {"visual.head.proj.weight", "logit_scale"}


def test_two_backbones_are_a_question_and_prefix_is_its_answer(weights):
    tensors = specs({f"{who}.{name}": array for who in ("student", "teacher") for name, array in weights.items()})
    with pytest.raises(UsageError, match="2 ways"):
        recognise(tensors, families(), what="x")
    assert recognise(tensors, families(), what="x", prefix="teacher.").prefix == "teacher."


BROKEN = {
    "missing": (lambda t: t.pop("stages.2.1.gamma"), ["missing     stages.2.1.gamma"]),
    "extra": (lambda t: t.update(extra=TensorSpec("extra", (1,))), ["unexpected  extra"]),
    "misspelled": (lambda t: t.update({"stages.2.1.gama": t.pop("stages.2.1.gamma")}),
                   ["missing     stages.2.1.gamma  (nearest: stages.2.1.gama)",
                    "unexpected  stages.2.1.gama  (nearest: stages.2.1.gamma)"]),
    "misshapen": (lambda t: t.update({"norm.bias": TensorSpec("norm.bias", (17,))}),
                  ["shape       norm.bias  (is 17, must be 16)"]),
    "wrong dtype": (lambda t: t.update({"norm.bias": TensorSpec("norm.bias", (16,), "I64")}),
                    ["dtype       norm.bias  (is I64, must be a floating-point type)"]),
    "a block too many": (lambda t: t.update({"stages.0.1.gamma": TensorSpec("stages.0.1.gamma", (4,))}),
                         ["unexpected  stages.0.1.gamma"]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_nearly_fits_is_refused_with_every_offender(kind, weights):
    tensors = specs(weights)
    change, expected = BROKEN[kind]
    change(tensors)
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, families(), what="x.pth")
    assert "nearly a ConvNeXt in official names" in caught.value.what
    for line in expected:
        assert any(told.startswith(line) for told in caught.value.why)


def test_all_offenders_are_told_at_once_in_the_files_own_spelling(weights):
    tensors = specs(spelled(DIALECTS["timm"], weights))
    for name in ("stages.1.blocks.0.norm.bias", "stages.3.blocks.0.mlp.fc2.weight"):
        del tensors[name]
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, families(), what="x")
    assert [line.split()[1] for line in caught.value.why] == ["stages.1.blocks.0.norm.bias",
                                                              "stages.3.blocks.0.mlp.fc2.weight"]


def test_a_relative_without_an_anchor_is_known_by_a_name_of_its_own():
    tensors = {"net.odd.3.scale": TensorSpec("net.odd.3.scale", (4,))}
    refusals = [Refusal("its scales are odd", has="odd.{i}.scale")]
    with pytest.raises(CheckFailed, match="no backbone that any family here knows"):
        recognise(tensors, [replace(FAMILY, refusals=refusals)], what="x")
    with pytest.raises(CheckFailed) as caught:
        recognise(tensors, [replace(FAMILY, refusals=[replace(refusals[0], anywhere=True)])], what="x")
    assert caught.value.why == ("its scales are odd",)


def test_a_stranger_is_told_so():
    with pytest.raises(CheckFailed, match="no backbone that any family here knows"):
        recognise({"tower.weight": TensorSpec("tower.weight", (64, 64, 3, 3))}, families(), what="x")
