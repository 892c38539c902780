"""All families together: every file is read by one of them, or by none, and never by two in different ways."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import torch
from support import DATA

from zooconv import CheckFailed, UsageError
from zooconv.mapping.expr import Leaf
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import dtype_of, lively_weights, spelled
from zooconv.upstream import import_package

FAMILIES = [family for family in families() if not family.members]
DTYPE = {dtype.torch: name for name, dtype in DTYPES.items()}


def spellings(family, table):
    """The dialects that have names for all of a member, each with its tensors.

    Some spell a part of their family: the members without squeeze-excitation, or without layer scale.
    """
    leaves = {name: Leaf(spec.shape, spec.dtype, name) for name, spec in table.items()}
    for dialect in family.dialects:
        told = dialect.from_canonical(leaves)
        if not told.unmatched and not told.incomplete:
            yield dialect, told.made


def one_for_each_set_of_names(family):
    """A variant for each set of names. Of those that differ in shapes alone, the kit reads the config back."""
    seen = {}
    for variant, config in family.variants.items():
        seen.setdefault(frozenset(family.table(config)), variant)
    return seen.values()


def every_member():
    """The default suite takes one for each set of names, the slow one all."""
    for family in FAMILIES:
        few = set(one_for_each_set_of_names(family))
        for name in family.variants:
            yield pytest.param(family, name, marks=[] if name in few else pytest.mark.slow)


# How timm's architectures are called that a family may have; whatever else it takes for its own is a mistake.
TIMM = {"convnext": ("convnext_", "test_convnext"), "convnextv2": ("convnextv2_",), "swin": ("swin_",),
        "swinv2": ("swinv2_",), "eva02": ("eva02_",), "internimage": (), "mvit": ("mvitv2_",),
        "focalnet": ("focalnet_", "focalnet"), "regnet": ("regnetx_", "regnety_"),
        "resnet": ("resnet", "resnext", "wide_resnet", "tv_resnet", "gluon_res", "ssl_res", "swsl_res", "ig_resnext",
                   "seresnet", "legacy", "test_resnet"),
        "vit": ("vit_", "deit", "flexivit_", "eva_large_"), "dinov3": ("vit_",)}


def headers(module):
    return {n: TensorSpec(n, tuple(t.shape), DTYPE[str(t.dtype).removeprefix("torch.")])
            for n, t in module.state_dict().items()}


def recognised(specs, what):
    """The family and dialect of a file; None where it is told that there is none."""
    try:
        found = recognise(specs, FAMILIES, what=what)
    except CheckFailed:
        return None
    return found.family.name, found.dialect.name


@pytest.mark.parametrize(("family", "variant"), [*every_member()], ids=lambda x: getattr(x, "name", x))
def test_every_member_in_every_dialect_is_recognised_as_itself(family, variant):
    """At full size, from headers alone."""
    told = list(spellings(family, family.table(family.variants[variant])))
    assert told
    for dialect, made in told:
        specs = {n: TensorSpec(n, value.shape, value.dtype) for n, value in made.items()}
        specs |= {second: TensorSpec(second, specs[first].shape, specs[first].dtype)
                  for second, first in dialect.second_names(specs).items()}
        found = recognise(specs, FAMILIES, what=f"{dialect.name} {variant}")
        assert (found.family.name, found.variant) == (family.name, variant)
        assert found.dialect.name == dialect.name or fit(family, dialect, specs).canonical == found.canonical


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "encoder.backbone.", "model.module.visual.trunk."])
def test_any_prefix_is_found(family, prefix):
    for dialect in family.dialects:
        weights = lively_weights(family, dialect.toy or family.toy)
        specs = {n: TensorSpec(n, a.shape, dtype_of(a)) for n, a in spelled(dialect, weights, prefix).items()}
        assert recognise(specs, FAMILIES, what="x").prefix == prefix


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_an_index_that_no_file_could_count_up_to_is_refused_at_once(family):
    """A header costs nothing, so a hostile one may say anything; no table is ever built of it."""
    for dialect in family.dialects:
        config = dialect.toy or family.toy
        leaves = {n: Leaf(s.shape, s.dtype, n) for n, s in family.table(config).items()}
        names = dialect.from_canonical(leaves).made
        tensors = {n: TensorSpec(n, e.shape, e.dtype) for n, e in names.items()}
        kinds = {re.sub(r"\d+", "#", name): name for name in names}.values()
        for huge in {n[:at.start()] + str(10 ** 12) + n[at.end():] for n in kinds for at in re.finditer(r"\d+", n)}:
            read = fit(family, dialect, tensors | {huge: TensorSpec(huge, (4,))})
            assert not read.exact or huge in read.dropped


@pytest.mark.parametrize("family", [f for f in FAMILIES if "bgr" in f.choices], ids=lambda f: f.name)
def test_colours_are_turned_round_in_one_convolution_and_nowhere_else(family):
    layout = family.layouts[0]
    read = fit(family, layout.body, family.table(family.toy), "", layout)
    plain, turned = (make_plan(read, layout, choices=choices).moves for choices in ({}, {"bgr": True}))
    (move,) = set(turned) - set(plain)
    assert move.target.shape[1] == 3
    assert (move.value.axis, move.value.order) == (1, (2, 1, 0))


@pytest.mark.parametrize("name", ["mobilenet_v2", "mnasnet1_3", "densenet121", "efficientnet_b0", "shufflenet_v2_x0_5",
                                  "squeezenet1_0", "maxvit_t", "googlenet", "mnasnet0_5"])
def test_no_family_stumbles_over_the_names_of_another(name):
    """Files that no family here has, some with names that one of its dialects half knows."""
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        module = getattr(import_package("torchvision").models, name)(**options)
    assert recognised(headers(module), name) is None


# What timm 1.0.31 has of our families, of 1,371 architectures. resnetaa50 and resnetblur have a ResNet's very names and
# shapes, so that no file tells them apart; the zoo refuses their names.
KNOWN = json.loads((DATA / "timm_architectures.json").read_text())
PARTS = 16  # so that they can be tried side by side


def refused_in_plain_words(error):
    """Nobody's, nearly somebody's with what stands in the way, or a relative that is known and cannot be held."""
    return bool(error.next) and any(words in error.what for words in (
        "holds no backbone that any family here knows", "is nearly a ", "that its Detectron2 layouts can hold")) and (
        all(error.why) and len(error.why) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_architecture_of_timm_is_one_familys_or_plainly_nobodys_and_never_two(part, timm):
    """At full size, from headers alone. Where two families read a file, `recognise` raises UsageError."""
    found, wrong = {}, []
    names = timm.list_models()[part::PARTS]
    for name in names:
        with torch.device("meta"):
            specs = headers(timm.create_model(name))
        try:
            read = recognise(specs, FAMILIES, what=name)
        except CheckFailed as error:
            wrong += [] if refused_in_plain_words(error) else [(name, error.what)]
            continue
        except UsageError as error:
            wrong.append((name, error.what))
            continue
        found[name] = f"{read.family.name} {read.variant}" if read.variant else read.family.name
        if not name.startswith(TIMM[read.family.name]):
            wrong.append((name, read.family.name))
    assert wrong == []
    assert {name: found.get(name) for name in names if name in KNOWN} == {
        name: means for name, means in KNOWN.items() if name in names}
    if timm.__version__ == "1.0.31":
        assert found.keys() <= KNOWN.keys()
    assert len(names) > 60


def test_what_is_known_of_timm_is_of_every_family_that_it_has():
    count = Counter(means.split()[0] for means in KNOWN.values())
    assert count == {"vit": 125, "regnet": 30, "resnet": 25, "dinov3": 16, "convnext": 14, "focalnet": 12, "swinv2": 12,
                     "eva02": 11, "convnextv2": 9, "mvit": 8, "swin": 6}
    assert count.keys() == {name for name, prefixes in TIMM.items() if prefixes}
