"""Batches: selection, outcomes, resuming, budgets; with the real hub client against a local hub that has faults."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partialmethod

import pytest
from support import ROOT, SMALL, files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM

from zooconv import UsageError, convert_many
from zooconv.batch import task as task_module
from zooconv.batch.budget import workers_within
from zooconv.batch.events import KINDS, Ended, Finished, Lost, Recorded, Started, Submitted, line
from zooconv.batch.plan import Batch, plan
from zooconv.batch.run import run_batch
from zooconv.batch.select import select
from zooconv.batch.store import Store
from zooconv.certificate import certificate_path
from zooconv.hub import Hub
from zooconv.options import Options
from zooconv.registry import Registry
from zooconv.testing.checkpoints import random_weights, save_safetensors, spelled
from zooconv.zoo import zoo

NAMES = [model.name for model in zoo().models if model.family == "convnext"][:20]


def repo(name):
    return zoo().find(name).repo


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """What the local hub has for every name: a small model's weights, random."""
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    return save_safetensors(path, spelled(TIMM, random_weights(FAMILY, SMALL))).read_bytes()


@pytest.fixture
def hub(local_hub, weights_file, work, monkeypatch, install):
    install("thread_engine")
    # in this process, where the client has read HF_ENDPOINT long ago
    monkeypatch.setattr(Hub, "__init__", partialmethod(Hub.__init__, local_hub.url, work / "cache"))
    monkeypatch.setattr("zooconv.hub.pause", lambda seconds: None)
    for name in NAMES:
        local_hub.add(repo(name), {"model.safetensors": weights_file})
    return local_hub


PLAIN = Options(load_check=False)


def batch(names, *, store=None, options=PLAIN, **more):
    return Batch(select(names), options, store, **{"engine": "threads", "jobs": 2, **more})


def statuses(result):
    return {outcome.name.split("/")[0]: outcome.status for outcome in result.outcomes}


# -- which models ----------------------------------------------------------------------------------------------------


def names_of(sources):
    return [source.name for source in sources]


def test_a_model_that_is_named_twice_is_converted_once():
    assert names_of(select(["convnext_tiny_22k", "zoo://convnext_tiny_22k", repo("convnext_tiny_22k")])) == [
        "convnext_tiny_22k"]
    assert len(select(["convnext_tiny*", "convnext_tiny_22k"])) == len(zoo().matching("convnext_tiny*"))


def test_all_typos_are_told_at_once(tmp_path):
    listed = tmp_path / "names.txt"
    listed.write_text("convnext_tiny_22k  # good\n\n# none\nconvnext_tiny_22kk\nnope_*\n")
    with pytest.raises(UsageError) as caught:
        select(["swin_tinny"], lists=[listed])
    assert caught.value.what == "3 of 4 names mean nothing"
    told = "\n".join(caught.value.why)
    assert all(name in told for name in ("swin_tinny", "convnext_tiny_22kk", "nope_*"))
    assert "did you mean convnext_tiny_22k?" in told


def test_shards_share_out_all_models_and_no_model_twice():
    shares = [names_of(select(everything=True, shard=f"{i}/7")) for i in range(1, 8)]
    assert sorted(name for share in shares for name in share) == sorted(m.name for m in zoo().models if m.place)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_a_pattern_means_and_no_hub_has_is_left_out_and_told():
    told = []
    found = names_of(select(["gcvit_*", "convnext_tiny_22k"], say=told.append))
    assert found == ["convnext_tiny_22k"]
    assert len(told) == 1
    assert told[0].startswith("left out, because no hub has them: gcvit_base.in1k, ")
    with pytest.raises(UsageError, match="cannot be fetched"):  # by its very name it is refused
        select(["gcvit_base.in1k"])


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1/0", "1", "a/b"])
def test_a_share_that_is_none_is_refused(shard):
    with pytest.raises(UsageError, match="is no share"):
        select(everything=True, shard=shard)


def test_a_share_counted_from_nothing_is_told_those_that_there_are():
    with pytest.raises(UsageError) as refused:
        select(everything=True, shard="0/2")
    assert refused.value.next == "--shard 1/2 … 2/2"


def test_a_list_that_is_given_as_a_name_is_refused_with_its_option(work):
    (work / "models.txt").write_text("convnext_tiny_22k\n")
    with pytest.raises(UsageError, match=r"--list models\.txt"):
        select(["models.txt"])
    assert names_of(select(lists=[work / "models.txt"])) == ["convnext_tiny_22k"]


@pytest.mark.parametrize("output", ["out/deep", "all.pth"])
def test_an_output_that_is_no_folder_is_refused(work, weights_file, output):
    (work / "m.safetensors").write_bytes(weights_file)
    with pytest.raises(UsageError, match="there is no folder") as caught:
        convert_many(["m.safetensors"], output=work / output)
    assert caught.value.next == f"mkdir -p {work / output}"
    assert not (work / output).exists()


def test_two_sources_for_one_file_are_refused_before_anything_starts(work, weights_file):
    for folder in ("a", "b"):
        (work / folder).mkdir()
        (work / folder / "m.safetensors").write_bytes(weights_file)
    with pytest.raises(UsageError, match="same file"):
        convert_many(["a/m.safetensors", "b/m.safetensors"])


def test_the_list_of_common_models_means_something():
    assert 30 <= len(select(lists=[ROOT / "lists" / "common.txt"])) <= 45


# -- outcomes --------------------------------------------------------------------------------------------------------


def test_one_failure_is_one_failure(hub, work):
    lost = NAMES[1::3]
    for name in lost:
        hub.fault(f"hub .*{repo(name)}(/|$)", status=503, times=99)
    hub.repos[repo(NAMES[0])].gated = True
    events = []
    result = run_batch(batch(NAMES, keep_going=True), events.append)
    good = [name for name in NAMES[1:] if name not in lost]
    assert statuses(result) == {**dict.fromkeys(good, "converted"), **dict.fromkeys([NAMES[0], *lost], "failed")}
    kinds = {o.name.split("/")[0]: o.failure.kind for o in result.of("failed")}
    assert kinds == {NAMES[0]: "AuthRequired", **dict.fromkeys(lost, "SourceUnavailable")}
    assert list(Registry.read(work / "registry.json").records) == sorted(f"{name}/d2" for name in good)
    assert sorted(name for e in events if isinstance(e, Recorded) for name in e.names) == sorted(
        f"{name}/d2" for name in good)
    assert files_in(work) == ["cache", "registry.json", "weights"]
    hub.faults.clear()
    hub.repos[repo(NAMES[0])].gated = False
    again = run_batch(batch(NAMES, resume=True))
    assert again.ok
    assert sorted(o.name for o in again.of("converted")) == sorted(f"{name}/d2" for name in [NAMES[0], *lost])


def test_without_keep_going_nothing_starts_after_a_failure(hub):
    hub.fault(f"hub .*{repo(NAMES[0])}(/|$)", status=404, times=99)
    result = run_batch(batch(NAMES[:8], jobs=1))
    assert statuses(result) == {NAMES[0]: "failed"}
    assert result.left == [f"{name}/d2" for name in NAMES[1:8]]
    assert not result.ok


def test_a_bug_in_one_task_is_told_with_its_traceback_and_harms_no_other(hub, monkeypatch):
    real = task_module.make

    def make(source, options, **more):
        if source.name == NAMES[1]:
            raise ZeroDivisionError("a bug")
        return real(source, options, **more)

    monkeypatch.setattr(task_module, "make", make)
    result = run_batch(batch(NAMES[:3], keep_going=True))
    assert statuses(result) == {NAMES[0]: "converted", NAMES[1]: "failed", NAMES[2]: "converted"}
    assert any("in make" in line for line in result.of("failed")[0].failure.why)


def test_events_tell_every_step_and_are_documented(hub):
    hub.fault(f"hub .*{repo(NAMES[1])}(/|$)", status=404, times=99)
    events = []
    run_batch(batch(NAMES[:3], keep_going=True), events.append)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    assert {type(e) for e in events} == set(KINDS) - {Lost}
    ended = {e.name: (e.status, e.error and e.error.kind) for e in events if isinstance(e, Finished)}
    assert ended[f"{NAMES[1]}/d2"] == ("failed", "SourceUnavailable")
    assert {e.name for e in events if isinstance(e, Submitted)} == set(ended)
    for event in events:
        assert json.loads(line(event))["event"] == type(event).__name__.lower()


def test_an_interruption_records_what_is_done(hub, work):
    def interrupt(event):
        if isinstance(event, Finished) and event.name.startswith(NAMES[2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(batch(NAMES[:6], jobs=1), interrupt)
    recorded = list(Registry.read(work / "registry.json").records)
    assert f"{NAMES[2]}/d2" in recorded
    assert not (work / ".zooconv").exists()
    again = run_batch(batch(NAMES[:6], resume=True))
    assert sorted(o.name for o in again.of("unchanged")) == recorded
    assert again.ok


def test_a_registry_with_the_marks_of_a_merge_stops_the_batch_before_it_starts(hub, work):
    broken = "<<<<<<< HEAD\n"
    (work / "registry.json").write_text(broken)
    with pytest.raises(UsageError, match="no registry"):
        run_batch(batch(NAMES[:2]))
    assert (work / "registry.json").read_text() == broken
    assert hub.requests == []


# -- resuming --------------------------------------------------------------------------------------------------------


def test_a_finished_batch_that_is_resumed_does_no_work(hub, work):
    run_batch(batch(NAMES[:5]))
    before = {p.name: p.stat().st_ino for p in (work / "weights").iterdir()}
    downloads = hub.count("cdn GET")
    assert set(statuses(run_batch(batch(NAMES[:5], resume=True))).values()) == {"unchanged"}
    assert {p.name: p.stat().st_ino for p in (work / "weights").iterdir()} == before
    assert hub.count("cdn GET") == downloads


def spoil(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CHANGED = {
    "an artifact is missing": lambda path, hub, data: path.unlink(),
    "a certificate is missing": lambda path, hub, data: certificate_path(path).unlink(),
    "a certificate was changed": lambda path, hub, data: spoil(certificate_path(path)),
    "the hub has other weights": lambda path, hub, data: hub.add(repo(NAMES[0]), {"model.safetensors": data}),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_what_is_not_as_recorded_is_made_anew_and_nothing_else(hub, work, change):
    run_batch(batch(NAMES[:2]))
    other = spelled(TIMM, random_weights(FAMILY, SMALL, seed=1))
    change(work / "weights" / f"{NAMES[0]}_d2.pth", hub, save_safetensors(work / "other", other).read_bytes())
    assert statuses(run_batch(batch(NAMES[:2], resume=True))) == {NAMES[0]: "converted", NAMES[1]: "unchanged"}


def test_another_commit_with_the_same_weights_changes_nothing(hub):
    run_batch(batch(NAMES[:1]))
    hub.add(repo(NAMES[0]), {"README.md": b"news"})
    assert statuses(run_batch(batch(NAMES[:1], resume=True))) == {NAMES[0]: "unchanged"}


def test_an_artifact_that_somebody_changed_is_not_overwritten(hub, work):
    run_batch(batch(NAMES[:1]))
    path = work / "weights" / f"{NAMES[0]}_d2.pth"
    spoil(path)
    spoilt = path.read_bytes()
    failure = run_batch(batch(NAMES[:1], resume=True)).outcomes[0].failure
    assert "was changed since it was recorded" in failure.what
    assert path.read_bytes() == spoilt


@pytest.mark.parametrize("options", [Options(load_check=False, allow_nonfinite=True), Options(load_check=True)],
                         ids=["an option that the record has", "a load check that was left out"])
def test_what_was_asked_otherwise_is_made_anew(hub, options):
    run_batch(batch(NAMES[:1]))
    assert statuses(run_batch(batch(NAMES[:1], options=options, resume=True))) == {NAMES[0]: "converted"}


def test_other_rules_make_an_artifact_anew(hub, monkeypatch):
    run_batch(batch(NAMES[:1]))
    layout = FAMILY.layout("d2")
    monkeypatch.setattr("zooconv.pipeline.chosen_layout", lambda family, name: replace(layout, mount="other."))
    assert statuses(run_batch(batch(NAMES[:1], resume=True))) == {NAMES[0]: "converted"}


def test_a_hub_that_is_down_stops_no_finished_batch_and_that_is_told(hub):
    run_batch(batch(NAMES[:1]))
    hub.fault("hub", status=503, times=99)
    outcome = run_batch(batch(NAMES[:1], resume=True)).outcomes[0]
    assert outcome.status == "unchanged"
    assert "its source was not looked at" in outcome.remark


def test_local_files_are_resumed_by_their_digest(work, weights_file, install):
    install("thread_engine")
    (work / "a.safetensors").write_bytes(weights_file)
    (work / "b.safetensors").write_bytes(weights_file)
    names = ["a.safetensors", "b.safetensors"]
    assert set(statuses(run_batch(batch(names))).values()) == {"converted"}
    save_safetensors(work / "a.safetensors", spelled(TIMM, random_weights(FAMILY, SMALL, seed=1)))
    assert statuses(run_batch(batch(names, resume=True))) == {"a": "converted", "b": "unchanged"}


def test_a_batch_that_left_its_notes_is_resumed_by_them(hub):
    run_batch(batch(NAMES[:2], record=False))
    assert set(statuses(run_batch(batch(NAMES[:2], record=False, resume=True))).values()) == {"unchanged"}


def test_shards_that_leave_their_notes_are_recorded_by_the_batch_that_gathers_them(hub, work):
    for i in (1, 2):
        run_batch(Batch(select(NAMES[:6], shard=f"{i}/2"), Options(load_check=False), engine="threads", jobs=2,
                        record=False))
    assert not (work / "registry.json").exists()
    assert set(statuses(run_batch(batch(NAMES[:6], resume=True))).values()) == {"unchanged"}
    assert len(Registry.read(work / "registry.json").records) == 6
    assert not (work / ".zooconv").exists()


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_a_batch_that_takes_too_much_disk_is_refused_before_the_first_byte(hub):
    need = sum(zoo().find(name).mb for name in NAMES) * 1e6
    with pytest.raises(UsageError, match="may take") as caught:
        run_batch(batch(NAMES, max_disk=int(need * 1.5)))
    assert "--prune-sources" in caught.value.next
    assert hub.requests == []
    assert plan(batch(NAMES, max_disk=int(need * 1.5), prune=True)).megabytes <= need * 1.5 / 1e6


def test_tasks_wait_for_room_on_the_disk(hub):
    """With room for all artifacts and one source, one task runs at a time."""
    mb = [zoo().find(name).mb for name in NAMES[:6]]
    running, most = set(), []

    def watch(event):
        if isinstance(event, Submitted):
            running.add(event.name)
            most.append(len(running))
        elif isinstance(event, Finished):
            running.discard(event.name)

    result = run_batch(batch(NAMES[:6], jobs=4, prune=True, max_disk=int((sum(mb) + max(mb)) * 1e6)), watch)
    assert result.ok
    assert most[-1] == 1
    most.clear()
    assert run_batch(batch(NAMES[6:12], jobs=4), watch).ok
    assert max(most) == 4  # without a budget all four work


def test_pruning_drops_what_the_batch_fetched_and_nothing_else(hub, work):
    convert_many(NAMES[:1], engine="threads", jobs=1, load_check=False)
    kept = set((work / "cache").rglob("model.safetensors"))
    run_batch(batch(NAMES[:3], prune=True))
    assert set((work / "cache").rglob("model.safetensors")) == kept
    blobs = [path for path in (work / "cache").rglob("blobs/*") if path.stat().st_size > 10_000]
    assert len(blobs) == 1


def test_memory_bounds_the_workers_and_the_downloads_buffers():
    jobs, environment = workers_within(1_000_000_000, 16, load_check=True)
    assert jobs == 5
    sizes = [int(value) for value in environment.values()]
    assert jobs * (64e6 + max(sizes)) + 300e6 <= 1_000_000_000
    with pytest.raises(UsageError, match="one worker takes"):
        workers_within(200_000_000, 1, load_check=True)


def test_xet_reads_the_buffers_that_the_budget_sets(monkeypatch):
    from hf_xet import XetConfig

    _, environment = workers_within(1_000_000_000, 4, load_check=True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    known = {name.upper().replace(".", "_"): value for name, value in XetConfig()}
    assert {name.removeprefix("HF_XET_"): known[name.removeprefix("HF_XET_")] for name in environment} == {
        name.removeprefix("HF_XET_"): int(value) for name, value in environment.items()}


# -- stores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_artifacts_go_to_a_store_and_the_registry_with_them(hub, work, scheme):
    store = Store(f"{scheme}://{work}/store")
    run_batch(batch(NAMES[:2]))
    result = run_batch(batch(NAMES[:2], store=store))
    assert result.ok
    there, here = store.registry().records, Registry.read(work / "registry.json").records
    assert [r.output.files[0].sha256 for r in there.values()] == [r.output.files[0].sha256 for r in here.values()]
    assert store.text(f"{NAMES[0]}_d2.pth.md") == (work / "weights" / f"{NAMES[0]}_d2.pth.md").read_text().replace(
        "weights/", "")
    assert store._notes() == []
    assert set(statuses(run_batch(batch(NAMES[:2], store=store, resume=True))).values()) == {"unchanged"}


def test_a_store_that_fails_in_the_middle_holds_no_half_file(hub, work, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    store = Store(f"file://{work}/store")
    real = LocalFileSystem.put_file

    def put_file(self, local, path, *args, **more):
        real(self, local, path, *args, **more)
        if path.rpartition("/")[2].startswith(f".{NAMES[0]}_d2.pth."):
            os.truncate(path, 1000)

    monkeypatch.setattr(LocalFileSystem, "put_file", put_file)
    failure = run_batch(batch(NAMES[:1], store=store)).outcomes[0].failure
    assert "did not arrive whole" in failure.what
    assert not [name for name in files_in(work / "store") if NAMES[0] in name]
    monkeypatch.undo()


def test_what_a_killed_driver_left_in_a_store_is_recorded_by_the_next(hub, work):
    store = Store(f"file://{work}/store")
    run_batch(batch(NAMES[:2], store=store, record=False))
    assert not (work / "store" / "registry.json").exists()
    assert sorted(store.settled().records) == sorted(f"{name}/d2" for name in NAMES[:2])
    assert not (work / "store" / ".zooconv").exists()


def test_a_list_may_hold_addresses_with_their_digests(work):
    (work / "list.txt").write_text("# of my own\nhttps://example.org/x.pth#sha256=0123456789  # a release\n")
    (source,) = select(lists=[work / "list.txt"])
    assert (source.url, source.sha256) == ("https://example.org/x.pth", "0123456789")
