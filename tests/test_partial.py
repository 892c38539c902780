"""Artifacts of sources that were fetched in part: what every verb makes of them, and what refuses a part."""

from __future__ import annotations

import json
import re
from functools import partialmethod
from pathlib import Path

import pytest
from support import SMALL, files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM

from zooconv import AuthRequired, CheckFailed, UsageError, fetch_convert, inspect
from zooconv.batch.plan import Batch
from zooconv.batch.run import run_batch
from zooconv.batch.select import select
from zooconv.card import make_card, page
from zooconv.diff import diff
from zooconv.hub import Hub
from zooconv.names import resolve
from zooconv.options import Options
from zooconv.pipeline import looking_ahead
from zooconv.registry import Registry
from zooconv.registry.check import check
from zooconv.registry.export import export
from zooconv.sources.cache import kept
from zooconv.subject import subjects
from zooconv.testing.checkpoints import random_array, random_weights, save_pth, save_safetensors, spelled
from zooconv.zoo import zoo

NAME, REPO = "convnext_tiny_22k", "timm/convnext_tiny.fb_in22k"
QUIET = {"load_check": False, "report": False}


@pytest.fixture(scope="module")
def arrays():
    """Random weights, and 4 MB that no layout keeps."""
    head = {"head.fc.weight": (60_000, 16), "head.fc.bias": (60_000,)}
    return spelled(TIMM, random_weights(FAMILY, SMALL)) | {n: random_array(n, s) for n, s in head.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory, arrays):
    return save_safetensors(tmp_path_factory.mktemp("partial") / "model.safetensors", arrays)


@pytest.fixture
def served(local_hub, weights, work, monkeypatch):
    """A hub that is everybody's in this process."""
    monkeypatch.setattr(Hub, "__init__", partialmethod(Hub.__init__, local_hub.url, work / "hub"))
    monkeypatch.setenv("ZOOCONV_CACHE", str(work / "cache"))
    local_hub.add(REPO, {"model.safetensors": weights})
    return local_hub


@pytest.fixture
def part(served):
    """An artifact that was made of a part."""
    return fetch_convert(NAME, partial=True, **QUIET)


def in_cache(work):
    return [p.name for folder in ("hub", "cache") for p in (work / folder).rglob("*") if p.is_file()]


# -- what is said of such an artifact ----------------------------------------------------------------------------------


def test_nothing_of_a_part_is_kept_and_the_registry_is_sound(part, work):
    book = part.preview.place.registry
    assert in_cache(work) == []
    assert kept() == []
    assert check(book) == []
    assert "source fetched in part" in export(Registry.read(book), "csv")


def test_a_card_proves_the_certificate_against_the_whole_source_and_says_what_was_not_checked(part):
    (opening,) = subjects(NAME)
    with opening as subject:
        card = make_card(subject, against=["none"])
    assert {name: found.status for name, found in card.checks.items()} == dict.fromkeys(("file", "certificate"),
                                                                                        "verified")
    assert "as stated; fetched in part" in page(card)


def test_a_card_of_an_artifact_whose_source_is_another_than_was_stated_fails(part, served, weights, tmp_path, arrays):
    changed = arrays | {"head.norm.bias": arrays["head.norm.bias"] + 1}
    commit = served.repos[REPO].commits[part.record.source.revision]
    commit["model.safetensors"] = type(commit["model.safetensors"]).of(
        "model.safetensors", save_safetensors(tmp_path / "x", changed))
    (opening,) = subjects(NAME)
    with pytest.raises(CheckFailed, match="is not what"), opening:
        pass


def test_it_differs_in_nothing_from_the_artifact_of_the_whole(part):
    whole = fetch_convert(NAME, output=Path("whole.pth"), **QUIET)
    assert part.path.read_bytes() == whole.path.read_bytes()
    assert diff(part.path, whole.path).changes == ()


def test_the_way_back_and_a_backbone_alone_are_fetched_in_part_too(part, served, work):
    for options in ({"to": "official"}, {"extract": True}):
        before = len(served.ranges)
        made = fetch_convert(NAME, partial=True, **options, **QUIET)
        assert made.record.source.verified == "partial"
        sent = [found for line in served.ranges[before:] if (found := re.fullmatch(r"bytes=(\d+)-(\d+)", line))]
        assert sum(int(found[2]) - int(found[1]) for found in sent) < 2_000_000
        assert in_cache(work) == []


def test_an_original_is_looked_at_by_its_headers_in_a_dry_run(part, served, work):
    before = len(served.ranges)
    with looking_ahead(resolve(str(part.path), zoo()), Options(to="timm", fill_from=NAME), headers=True) as preview:
        assert preview.plan.filled
    assert all(line.startswith("bytes=") for line in served.ranges[before:])
    assert in_cache(work) == []


def test_what_was_made_of_a_part_is_made_of_the_whole_in_its_place(part):
    whole = fetch_convert(NAME, **QUIET)
    assert whole.path == part.path
    assert Registry.read(part.preview.place.registry).records[f"{NAME}/d2"].source.verified is None


# -- what goes together ------------------------------------------------------------------------------------------------


def test_locked_and_a_part_are_refused_together(served):
    with pytest.raises(UsageError, match="--locked holds a source to its digest"):
        fetch_convert(NAME, partial=True, locked=True)
    assert served.requests == []


def test_a_record_of_a_part_pins_nothing_until_it_is_made_of_the_whole(part, served, work):
    before, asked = (files_in(work), part.preview.place.registry.read_bytes()), len(served.requests)
    with pytest.raises(CheckFailed, match="its source was fetched in part") as refused:
        fetch_convert(NAME, locked=True, **QUIET)
    assert refused.value.next == f"zooconv fetch-convert {NAME} --layout d2"
    assert (files_in(work), part.preview.place.registry.read_bytes()) == before
    assert len(served.requests) == asked
    fetch_convert(NAME, **QUIET)
    assert fetch_convert(NAME, locked=True, **QUIET).path == part.path


def test_a_pickle_and_a_local_file_are_refused_with_the_reason(served, weights, work, arrays):
    served.add("a/zip", {"pytorch_model.bin": save_pth(work / "x.bin", arrays, None)})
    with pytest.raises(UsageError, match="is not fetched in part") as refused:
        fetch_convert("a/zip", partial=True)
    assert "only the digest of the whole file vouches" in refused.value.why[0]
    with pytest.raises(UsageError, match="is here already"):
        fetch_convert(str(weights), partial=True)


def test_a_pickle_that_is_in_the_cache_is_refused_just_the_same(served, work, arrays):
    served.add("a/zip", {"pytorch_model.bin": save_pth(work / "x.bin", arrays, None)})
    Hub().fetch(resolve("a/zip", zoo()))
    with pytest.raises(UsageError, match="is not fetched in part"):
        fetch_convert("a/zip", partial=True)


def test_a_gated_repository_is_refused_before_anything_comes(served, work):
    served.repos[REPO].gated = True
    for ask in (lambda: inspect(NAME), lambda: fetch_convert(NAME, partial=True)):
        with pytest.raises(AuthRequired, match="is gated") as refused:
            ask()
        assert f"https://huggingface.co/{REPO}" in refused.value.next
    assert served.ranges == []
    assert in_cache(work) == []


def test_a_hub_that_ignores_ranges_serves_a_dry_run_the_whole(served, work):
    served.fault("cdn GET", whole=True, times=9)
    with looking_ahead(resolve(NAME, zoo()), Options(), headers=True) as preview:
        assert preview.fetched.transfer is None
    assert "model.safetensors" in in_cache(work)


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(served, weights, install):
    """A function that runs a batch in this process."""
    install("thread_engine")
    for name in ("convnext_small_22k", "convnext_base_22k"):
        served.add(zoo().find(name).repo, {"model.safetensors": weights})

    def run(*names, partial=False, **more):
        options = Options(load_check=False, report=False, partial=partial)
        return run_batch(Batch(select(names), options, engine="threads", jobs=2, **more))

    return run


def recorded(work):
    records = json.loads((work / "registry.json").read_text())["artifacts"]
    return {name.partition("/")[0]: record["source"].get("verified") for name, record in records.items()}


def test_a_batch_fetches_in_part_and_prunes_nothing_of_it(batch, work):
    names = ("convnext_small_22k", "convnext_base_22k")
    result = batch(*names, partial=True, prune=True)
    assert [outcome.status for outcome in result.outcomes] == ["converted", "converted"]
    assert recorded(work) == dict.fromkeys(names, "partial")
    assert in_cache(work) == []
    assert {outcome.status for outcome in batch(*names, partial=True, resume=True).outcomes} == {"unchanged"}


def test_a_batch_that_is_resumed_without_partial_makes_anew_what_was_made_of_a_part(batch, work):
    batch("convnext_small_22k", partial=True)
    assert [outcome.status for outcome in batch("convnext_small_22k", resume=True).outcomes] == ["converted"]
    assert recorded(work) == {"convnext_small_22k": None}
    assert [o.status for o in batch("convnext_small_22k", partial=True, resume=True).outcomes] == ["unchanged"]


def test_a_batch_with_a_local_file_is_refused_at_its_start(batch, served, weights):
    with pytest.raises(UsageError, match="is here already"):
        batch("convnext_small_22k", str(weights), partial=True)
    assert served.requests == []
