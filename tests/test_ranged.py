"""Files on the hub read by ranges, with the real client against a local hub that has faults to order."""

from __future__ import annotations

import json
import os
import re
from itertools import pairwise
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support import ROOT, SMALL
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM, TRANSFORMERS

from zooconv import CheckFailed, SourceUnavailable, UsageError, ZooError, fetch_convert, inspect
from zooconv import hub as hub_module
from zooconv.certificate import certificate_path, read_certificate
from zooconv.hub import Hub
from zooconv.names import resolve
from zooconv.options import Options
from zooconv.pipeline import looking_ahead
from zooconv.registry import Registry
from zooconv.sources.hub_ranges import reach_hub
from zooconv.sources.ranged import BLOCK, coalesced
from zooconv.testing.checkpoints import random_array, random_weights, save_pth, save_safetensors, spelled
from zooconv.testing.hub import TOKEN
from zooconv.verify import verify
from zooconv.zoo import zoo

REPO = "a/big"
HEAD = {"head.fc.weight": (60_000, 16), "head.fc.bias": (60_000,)}  # 4 MB that no layout keeps
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def arrays():
    return spelled(TIMM, random_weights(FAMILY, SMALL)) | {n: random_array(n, s) for n, s in HEAD.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory, arrays):
    """A small model with a large classifier, in every form in which a hub may have it."""
    folder = tmp_path_factory.mktemp("ranged")
    torch.save({n: torch.from_numpy(a) for n, a in arrays.items()}, folder / "old.bin",
               _use_new_zipfile_serialization=False)
    return SimpleNamespace(whole=save_safetensors(folder / "model.safetensors", arrays), old=folder / "old.bin",
                           zip=save_pth(folder / "pytorch_model.bin", arrays, None), folder=folder)


@pytest.fixture
def served(local_hub, files):
    local_hub.add(REPO, {"model.safetensors": files.whole})
    local_hub.add("a/zip", {"pytorch_model.bin": files.zip})
    local_hub.add("a/old", {"pytorch_model.bin": files.old})
    return local_hub


@pytest.fixture
def client(served, work):
    return Hub(served.url, work / "cache")


@pytest.fixture
def pauses(monkeypatch):
    made = []
    monkeypatch.setattr(hub_module, "pause", made.append)
    return made


@pytest.fixture
def sharded(served, tmp_path):
    """The same weights in two shards, transformers' names; the classifier lies in the second."""
    arrays = spelled(TRANSFORMERS, random_weights(FAMILY, SMALL))
    arrays |= {"classifier.weight": random_array("w", (60_000, 16)), "classifier.bias": random_array("b", (60_000,))}
    names = list(arrays)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    served.add("a/shards", {INDEX: json.dumps(index).encode()} | {
        part: save_safetensors(tmp_path / part, {n: arrays[n] for n in held}) for part, held in parts.items()})
    return "a/shards"


def sent(served):
    """How many bytes of files were sent, and that all of them were asked for by ranges."""
    asked = [found for line in served.ranges if (found := re.fullmatch(r"bytes=(\d+)-(\d+)", line))]
    assert len(asked) == len(served.ranges)
    return sum(int(found[2]) - int(found[1]) + 1 for found in asked)


def left_behind(work):
    """What lies in the cache."""
    return [p for p in (work / "cache").rglob("*") if p.is_file()]


# -- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("repo", "most"), [(REPO, 1), ("a/zip", 3)])
def test_inspect_fetches_headers_alone(client, served, work, files, repo, most):
    seen = inspect(repo, hub=client)
    local = inspect(files.whole if repo == REPO else files.zip, digest=False)
    assert {k: seen.data[k] for k in local.data if k != "file"} == {k: v for k, v in local.data.items() if k != "file"}
    assert len(served.ranges) <= most
    assert sent(served) <= most * BLOCK < files.whole.stat().st_size / 8
    assert seen.data["fetched"] == {"received": sent(served), "size": seen.data["fetched"]["size"]}
    assert seen.data["revision"] == served.repos[repo].refs["main"]
    assert left_behind(work) == []


def test_inspect_reads_the_index_and_each_shards_header(client, served, work, sharded):
    seen = inspect(sharded, hub=client)
    assert (seen.data["family"], seen.data["dialect"]) == ("convnext", "transformers")
    assert len(served.ranges) == 3
    assert left_behind(work) == []


def test_a_header_longer_than_a_block_is_read_whole(client, served, work, tmp_path):
    many = {f"{'x' * 200}.{n}": np.zeros(1, np.float32) for n in range(2000)}
    served.add("a/many", {"model.safetensors": save_safetensors(tmp_path / "many.safetensors", many)})
    assert inspect("a/many", hub=client).data["tensors"] == 2000
    assert len(served.ranges) == 2


def test_what_is_cached_is_inspected_from_the_cache_with_its_digest(client, served):
    client.fetch(resolve(REPO, zoo()))
    served.ranges.clear()
    seen = inspect(REPO, hub=client)
    assert seen.data["canonical"] is not None
    assert "fetched" not in seen.data
    assert served.ranges == []


def test_a_dry_run_proves_the_plan_of_headers_alone(client, served, work, files):
    source, options = resolve(REPO, zoo()), Options(layout="maskdino")
    with looking_ahead(source, options, hub=client, headers=True) as preview:
        moves = [(move.target.name, str(move.value)) for move in preview.plan.moves]
    assert sent(served) == BLOCK
    assert left_behind(work) == []
    with looking_ahead(source, options, hub=client) as preview:
        assert moves == [(move.target.name, str(move.value)) for move in preview.plan.moves]


def test_a_container_without_headers_is_refused_by_inspect_and_fetched_whole_by_a_dry_run(client, work):
    with pytest.raises(UsageError, match="no headers apart from its tensors"):
        inspect("a/old", hub=client)
    with looking_ahead(resolve("a/old", zoo()), Options(), hub=client, headers=True) as preview:
        assert preview.found.family.name == "convnext"
    assert left_behind(work) != []


# -- a part ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repo", [REPO, "a/shards"])
def test_a_partial_fetch_gives_the_very_same_bytes(client, served, work, files, sharded, repo):
    part = fetch_convert(repo, partial=True, hub=client, output=work / "part.pth", load_check=False)
    received, size = sent(served), part.data["source"]["fetched"]["size"]
    assert left_behind(work) == []
    assert part.data["source"]["fetched"]["received"] == received < size / 4
    whole = fetch_convert(repo, hub=client, output=work / "whole.pth", load_check=False)
    assert part.path.read_bytes() == whole.path.read_bytes()
    assert part.certificate.artifact == whole.certificate.artifact
    assert part.certificate.targets == whole.certificate.targets
    assert part.record.source.content.canonical == whole.record.source.content.canonical


def test_the_classifier_is_not_fetched_and_all_that_is_kept_is(client, served, files, arrays):
    done = fetch_convert(REPO, partial=True, hub=client, load_check=False)
    with reach_hub(resolve("a/big@main", zoo()), Hub(served.url, files.folder / "none")) as remote:
        assert remote.size == files.whole.stat().st_size
    stored = load_file(files.whole)
    kept = sum(stored[n].nbytes for n, row in done.certificate.sources.items() if row.sha256)
    assert kept <= sent(served) <= kept + 4 * BLOCK


def test_the_record_and_the_certificate_say_what_was_not_checked(client, served, files):
    done = fetch_convert(REPO, partial=True, hub=client, load_check=False)
    source = Registry.read(done.preview.place.registry).records[done.preview.place.name].source
    blob = served.repos[REPO].commits[source.revision]["model.safetensors"]
    assert (source.verified, source.content.tree, source.files[0].sha256) == ("partial", None, blob.sha256)
    assert source.content.tensors == len(load_file(files.whole))
    schema = json.loads((ROOT / "docs" / "registry.schema.json").read_text())
    book = done.preview.place.registry.read_text()
    jsonschema.validate(json.loads(book), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(book.replace(',"verified":"partial"', "")), schema)
    certificate = read_certificate(certificate_path(done.path))
    assert (certificate.source.verified, certificate.source.tree) == ("partial", None)
    assert {n for n, row in certificate.sources.items() if row.sha256 is None} == set(HEAD)
    assert "as stated, not checked" in done.path.with_name(f"{done.path.name}.md").read_text()
    assert "--partial" in done.data["again"]


def test_a_record_without_a_tree_digest_is_refused_unless_it_says_why(client, work):
    path = fetch_convert(REPO, partial=True, hub=client, load_check=False).preview.place.registry
    path.write_text(path.read_text().replace(',"verified":"partial"', ""))
    with pytest.raises(UsageError, match="no registry") as refused:
        Registry.read(path)
    assert "tree digest" in refused.value.why[0]


def test_a_cached_file_is_taken_whole_and_recorded_as_such(client, served):
    client.fetch(resolve(REPO, zoo()))
    done = fetch_convert(REPO, partial=True, hub=client, load_check=False)
    assert done.record.source.verified is None
    assert done.record.source.content.tree is not None


def test_a_pickle_is_not_fetched_in_part(client, work):
    for repo in ("a/zip", "a/old"):
        with pytest.raises(UsageError):
            fetch_convert(repo, partial=True, hub=client)
    assert left_behind(work) == []
    assert not (work / "weights").exists()


def test_verify_says_what_it_cannot_check_and_the_certificate_checks_it(client, served):
    done = fetch_convert(REPO, partial=True, hub=client, load_check=False)
    registry = Registry.read(done.preview.place.registry)
    (plain,) = verify(registry)
    assert plain.status == "ok"
    assert "as the hub states it" in plain.why
    (full,) = verify(registry, certificate=True, hub=client)
    assert (full.status, full.why) == ("ok", "")


def test_wrong_bytes_of_a_kept_tensor_are_not_seen_at_first_but_by_the_certificate(client, served):
    served.fault("cdn GET", wrong=True, times=99, after=BLOCK)
    done = fetch_convert(REPO, partial=True, hub=client, load_check=False, allow_nonfinite=True)
    served.faults.clear()
    (full,) = verify(Registry.read(done.preview.place.registry), certificate=True, hub=client)
    assert full.status == "changed"


def test_wrong_bytes_are_seen_at_once_where_the_whole_file_was_known(client, served, work):
    fetch_convert(REPO, hub=client, load_check=False)
    served.fault("cdn GET", wrong=True, times=99, after=BLOCK)
    again = {"partial": True, "hub": Hub(served.url, work / "other"), "load_check": False, "layout": "maskdino"}
    with pytest.raises(CheckFailed, match="not those of the file"):
        fetch_convert(REPO, allow_nonfinite=True, **again)
    assert not list(work.glob("weights/*maskdino*"))
    served.faults.clear()
    assert fetch_convert(REPO, **again)


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "waited"), [
    ({"status": 503, "times": 2}, [0.5, 1.0]),
    ({"cut": 1000, "reset": True}, [0.5]),
    ({"cut": 1000}, [0.5]),
    ({"cut": 100_000, "reset": True}, []),
    ({"status": 429}, [0.5]),
], ids=["503", "reset", "cut", "reset after progress", "429"])
def test_a_passing_fault_is_survived(client, served, work, pauses, fault, waited):
    served.fault("cdn GET", **fault)
    done = fetch_convert(REPO, partial=True, hub=client, load_check=False)
    assert pauses == waited
    whole = fetch_convert(REPO, hub=client, load_check=False, output=work / "whole.pth")
    assert done.written.file.sha256 == whole.written.file.sha256


@pytest.mark.parametrize(("fault", "said"), [
    ({"headers": {"Content-Range": "bytes 0-9/10"}}, "bytes 0-9/10"),
    ({"whole": True}, "ignores ranges"),
    ({"headers": {"Content-Encoding": "gzip"}}, "gzip"),
    ({"status": 503, "times": 99}, "503"),
    ({"reset": True, "cut": 0, "times": 99}, "Error"),
    ({"cut": 1000, "times": 99}, "Error"),
    ({"status": 404}, "404"),
], ids=["other range", "range ignored", "compressed", "503 for ever", "reset for ever", "truncated for ever", "404"])
@pytest.mark.parametrize("when", [1, 2], ids=["header", "tensors"])
def test_a_lasting_fault_leaves_nothing(client, served, work, pauses, fault, said, when):
    served.fault("cdn GET", times=when - 1)
    served.fault("cdn GET", **{"times": 1, **fault})
    with pytest.raises(ZooError) as failed:
        fetch_convert(REPO, partial=True, hub=client)
    assert isinstance(failed.value, SourceUnavailable)
    assert said in str([failed.value.what, *failed.value.why])
    assert left_behind(work) == []
    assert not list(work.rglob("*.pth"))
    assert not (work / "registry.json").exists()


def test_a_file_that_changes_in_between_is_not_read_on(client, served, work):
    served.fault("hub HEAD", times=1)
    served.fault("hub HEAD", headers={"X-Linked-ETag": f'"{"0" * 64}"'}, times=9)
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        fetch_convert(REPO, partial=True, hub=client)
    assert left_behind(work) == []


def test_the_token_goes_to_the_hub_and_never_to_the_storage_host(client, served, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    served.repos[REPO].gated = True
    assert inspect(REPO, hub=client).data["family"] == "convnext"
    assert fetch_convert(REPO, partial=True, hub=client, load_check=False)
    assert not served.token_leaked


def test_no_room_on_the_disk_is_said_and_leaves_nothing(client, served, work, monkeypatch):
    def full(fd, data, at):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ZooError, match="no room on the disk"):
        fetch_convert(REPO, partial=True, hub=client)
    assert left_behind(work) == []


# -- runs ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=20), st.integers(0, 30))
def test_coalesced_runs_cover_what_was_asked_and_bridge_small_gaps_only(pairs, gap):
    runs = [(min(pair), max(pair)) for pair in pairs]
    joined = coalesced(runs, gap)
    wanted = {n for start, stop in runs for n in range(start, stop)}
    covered = {n for start, stop in joined for n in range(start, stop)}
    assert wanted <= covered
    for n in covered - wanted:
        assert wanted & set(range(n - gap, n))
        assert wanted & set(range(n + 1, n + gap + 1))
    assert all(second[0] - first[1] > gap for first, second in pairwise(joined))


def test_the_command_line_says_what_was_saved(zooconv, served, work):
    environment = {"HF_ENDPOINT": served.url, "HF_HUB_CACHE": str(work / "cache")}
    seen = zooconv("inspect", REPO, env=environment)
    assert (seen.code, seen.out.count("0.1 of 4.1 MB, by ranges")) == (0, 1)
    assert "not known from headers alone" in seen.out
    done = zooconv("fetch-convert", REPO, "--partial", "--no-load-check", env=environment)
    assert done.code == 0, done.err
    assert re.search(r"fetched +0\.\d of 4\.1 MB, by ranges", done.err)
    assert "source read in part" in done.err
