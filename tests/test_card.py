"""The card says what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from support import ROOT, SMALL
from zooconv_zoo.convnext import FAMILY

from zooconv import convert, fetch_convert
from zooconv.card import make_card
from zooconv.registry import Registry
from zooconv.subject import subjects
from zooconv.testing.checkpoints import lively_weights, save_pth, save_safetensors, spelled

SCHEMA = json.loads((ROOT / "docs" / "card.schema.json").read_text())
TIMM = next(d for d in FAMILY.dialects if d.name == "timm")


@pytest.fixture
def artifact(work):
    source = save_safetensors(work / "model.safetensors", spelled(TIMM, lively_weights(FAMILY, SMALL)))
    return convert(source, load_check=False, layout="maskdino").path


def test_a_card_says_all_that_can_be_said(artifact, zooconv):
    ran = zooconv("card", "model", "--json")
    assert ran.code == 0
    written = json.loads(Path(f"{artifact}.card.json").read_text())
    jsonschema.validate(written, SCHEMA)
    assert ran.json == [written]
    record = Registry.read(Path("registry.json")).records["model/maskdino"]
    assert written["output"]["sha256"] == record.output.files[0].sha256
    assert written["certificate"] == record.output.certificate
    assert written["dropped"] == {f"head.norm.{part}": "this layout has no final norm" for part in ("weight", "bias")}
    assert written["fresh"] == [f"backbone.norm{i}.{part}" for i in range(4) for part in ("weight", "bias")]
    assert {check["status"] for check in [*written["checks"].values(), *written["parity"].values()]} == {"verified"}
    assert set(written["parity"]) == set(FAMILY.upstreams)
    assert written["environment"].keys() >= {"python", "torch", "timm", "zooconv"}
    assert record.checks["parity"].against.keys() == set(FAMILY.upstreams)


def test_the_page_has_every_stage(artifact, zooconv):
    page = zooconv("card", "model", "--against", "timm").out
    assert page == Path(f"{artifact}.card.md").read_text() + "\n" or page == Path(f"{artifact}.card.md").read_text()
    for stage in ("res2", "res3", "res4", "res5"):
        assert f"| {stage} | 1x" in page
    assert "pooled not compared: layout mask2former has no norm.weight" in page


@pytest.mark.parametrize(("spoil", "check", "told"), [
    (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"), "file", "changed"),
    (lambda path: edit(Path(f"{path}.cert.json")), "certificate", "not the one that was recorded"),
])
def test_what_does_not_hold_is_said_and_exits_with_1(artifact, zooconv, spoil, check, told):
    spoil(artifact)
    ran = zooconv("card", "model", "--against", "timm", "--json")
    assert ran.code == 1
    assert ran.json[0]["checks"][check]["status"] == "failed"
    assert told in ran.json[0]["checks"][check]["why"][0]


def test_a_parity_that_fails_is_said(work, zooconv):
    weights = lively_weights(FAMILY, SMALL)
    convert(save_pth(work / "right.pth", weights), load_check=False)
    bent = weights | {"norm.bias": weights["norm.bias"] * 2}
    convert(save_pth(work / "wrong.pth", bent), load_check=False).path.replace("right_d2.pth")
    ran = zooconv("card", "right", "--against", "timm", "--json")
    assert (ran.code, ran.json[0]["parity"]["timm"]["status"]) == (1, "failed")


def test_what_cannot_be_run_here_is_not_verified_and_says_why(artifact):
    with subjects("model")[0] as subject:
        card = make_card(subject, ["timm"], memory=1000)
    assert card.parity["timm"].status == "not verified"
    assert "needs 0.6 GB of memory" in card.parity["timm"].why[0]
    assert card.passed


def test_a_source_of_the_hub_is_named_by_its_commit(work, local_hub, hub_client, monkeypatch):
    file = save_safetensors(work / "model.safetensors", spelled(TIMM, lively_weights(FAMILY, SMALL)))
    commit = local_hub.add("timm/convnext_tiny.fb_in22k", {"model.safetensors": file})
    fetch_convert("convnext_tiny_22k", hub=hub_client, load_check=False)
    with subjects("convnext_tiny_22k", hub=hub_client)[0] as subject:
        card = make_card(subject, ["timm"])
    assert (card.source.repo, card.source.revision) == ("timm/convnext_tiny.fb_in22k", commit)
    assert card.model.license == "apache-2.0"
    assert card.parity["timm"].status == "verified"


def test_a_file_without_a_record_has_no_card(work, zooconv):
    save_pth(work / "plain.pth", lively_weights(FAMILY, SMALL))
    ran = zooconv("card", "plain.pth")
    assert ran.code == 2
    assert "zooconv convert plain.pth" in ran.err


def edit(path):
    path.write_text(path.read_text().replace('"timm"', '"official"', 1))
