"""Every ConvNeXt layout is what the Detectron2 class holds: names, shapes and dtypes, nothing missing, nothing extra.

The manifests in data/ were read off the real classes of the projects that they name.
"""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from support import DATA
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import OFFICIAL
from zooconv_zoo.convnext.family import VARIANTS

from zooconv import convert
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.plugins import chosen_layout
from zooconv.tensor import DTYPES
from zooconv.testing.checkpoints import save_pth

MANIFESTS = sorted((DATA / "manifests").glob("*.json.gz"))


def manifest(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def planned(layout, variant, *, fresh=True):
    table = FAMILY.table(VARIANTS[variant])
    return make_plan(fit(FAMILY, OFFICIAL, table), chosen_layout(FAMILY, layout), fresh=fresh)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_a_layout_is_its_manifest(path):
    wanted = manifest(path)
    plan = planned(wanted["layout"].removesuffix("-convnext"), wanted["variant"].removeprefix("convnext_"))
    made = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch} for t in plan.targets}
    assert made == {name: {"shape": k["shape"], "dtype": k["dtype"]} for name, k in wanted["keys"].items()}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name.removesuffix(".json.gz"))
def test_fresh_tensors_are_those_that_the_class_initialises_and_no_fresh_leaves_out_just_them(path):
    wanted = manifest(path)
    layout, variant = wanted["layout"].removesuffix("-convnext"), wanted["variant"].removeprefix("convnext_")
    assert sorted(planned(layout, variant).fresh) == sorted(wanted["init_only"])
    without = {t.name for t in planned(layout, variant, fresh=False).targets}
    assert without == wanted["keys"].keys() - set(wanted["init_only"])


def test_a_manifest_with_one_name_changed_is_not_the_layout():
    """The control: the comparison above can fail."""
    wanted = manifest(next(p for p in MANIFESTS if p.name.startswith("kmax")))
    changed = {name.replace("stages.3.2.gamma", "stages.3.2.gama") for name in wanted["keys"]}
    assert {t.name for t in planned("kmax", "tiny").targets} != changed


@pytest.mark.parametrize("name", ["mask2former", "maskdino", "dimaskdino", "oneformer"])
def test_the_projects_of_one_layout_give_the_same_bytes(source, name):
    digests = {convert(source, layout=n, load_check=False).written.file.sha256 for n in (name, "mask2former")}
    assert len(digests) == 1


def test_fresh_norms_start_as_the_identity(source):
    model = torch.load(convert(source, layout="maskdino").path)["model"]
    for i in range(4):
        assert torch.equal(model[f"backbone.norm{i}.weight"], torch.ones_like(model[f"backbone.norm{i}.weight"]))
        assert torch.equal(model[f"backbone.norm{i}.bias"], torch.zeros_like(model[f"backbone.norm{i}.bias"]))


@pytest.mark.parametrize("layout", FAMILY.layouts, ids=lambda layout: layout.name)
def test_every_layout_becomes_every_other_without_a_trace_of_the_way(source, layout):
    """D2 to D2: what a file came from cannot be seen in what it became, unless a layout lacks what another needs."""
    first = convert(source, layout=layout.name, load_check=False)
    for other in FAMILY.layouts:
        if other.name == "d2" and layout.name != "d2":
            continue  # d2 has the final norm, which no other layout holds
        direct = convert(source, layout=other.name, load_check=False)
        around = convert(first.path, layout=other.name, load_check=False)
        assert around.written.file.sha256 == direct.written.file.sha256


@pytest.mark.parametrize("name", [name for layout in FAMILY.layouts for name in layout.names])
def test_every_name_of_a_layout_is_understood(name):
    assert name in chosen_layout(FAMILY, name).names


def test_trained_tensors_of_a_layout_are_carried_where_they_fit_and_never_lost(work, source):
    from zooconv import CheckFailed

    trained = torch.load(convert(source, layout="maskdino", load_check=False).path)
    trained["model"]["backbone.norm0.weight"][1] = 0.5
    torch.save(trained, work / "trained.pth")
    kept = torch.load(convert("trained.pth", layout="fpn", load_check=False).path)["model"]
    assert kept["backbone.bottom_up.norm0.weight"].tolist() == [1, 0.5, 1, 1]
    with pytest.raises(CheckFailed, match="would be lost") as caught:
        convert("trained.pth", layout="detrex", load_check=False)
    assert "backbone.norm0.weight is not 1 everywhere" in str(caught.value)


def test_the_full_size_of_every_variant_is_planned():
    for variant in VARIANTS:
        assert len(planned("d2", variant).targets) == len(list(FAMILY.tensors(VARIANTS[variant])))


def test_a_layout_that_needs_what_the_file_has_not_says_so(work, weights):
    from zooconv import CheckFailed

    file = convert(save_pth(work / "s.pth", weights), layout="kmax", load_check=False).path
    with pytest.raises(CheckFailed, match="layout d2 cannot be made") as caught:
        convert(file, load_check=False)
    assert "norm.weight" in str(caught.value)
