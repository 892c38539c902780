"""SIGKILL, SIGINT and faults at any point of a batch: no record is lost, no file is half, and --resume finishes."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support import ROOT, SMALL, files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM

from zooconv.batch.local import start
from zooconv.engine import Crew
from zooconv.registry import Registry
from zooconv.testing.checkpoints import random_weights, save_safetensors, spelled
from zooconv.verify import verify
from zooconv.zoo import zoo

MODELS = [model for model in zoo().models if model.repo and not model.files]


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """What the local hub has for every name: a small ConvNeXt's weights, random."""
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    return save_safetensors(path, spelled(TIMM, random_weights(FAMILY, SMALL))).read_bytes()


@pytest.fixture
def hub(local_hub, weights_file, work):
    for model in MODELS:
        local_hub.add(model.repo, {"model.safetensors": weights_file})
    return local_hub


class Running:
    """`zooconv batch` in a process of its own; its events are read as they come."""

    def __init__(self, hub, work, *arguments):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOOCONV_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zooconv", "batch", *arguments, "--no-load-check", "--progress", "jsonl"], cwd=work,
            env=clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "hf")}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.events = []

    def until(self, kind, count=1):
        """Read until that many events of a kind have come; False if the batch ended before."""
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            count -= self.events[-1]["event"] == kind
            if count == 0:
                return True
        return False

    def workers(self):
        """The worker processes, which are children of the fork server's."""
        return [w for child in psutil.Process(self.process.pid).children() for w in child.children()]

    def end(self):
        """Read the rest; the exit code, and the statuses by name."""
        self.until("never", -1)
        self.process.stdout.close()
        error = self.process.stderr.read()
        self.process.stderr.close()
        code = self.process.wait()
        # of a driver that was killed while it started a worker, Python's fork server complains
        assert code == -signal.SIGKILL or "Traceback" not in error, error
        return code, {e["name"].split("/")[0]: e["status"] for e in self.events if e["event"] == "finished"}


def is_whole(work, names):
    """Every artifact is recorded and as recorded, and nothing else lies about."""
    registry = Registry.read(work / "registry.json")
    assert sorted(registry.records) == sorted(f"{name}/d2" for name in names)
    assert {outcome.status for outcome in verify(registry)} == {"ok"}
    assert files_in(work / "weights") == sorted(f"{name}_d2.pth{end}" for name in names
                                                for end in ("", ".cert.json", ".md"))
    assert files_in(work) == ["hf", "registry.json", "weights"]


def names(count):
    return [model.name for model in MODELS[:count]]


def test_a_killed_worker_loses_its_task_alone_and_that_is_done_again(hub, work):
    batch = Running(hub, work, *names(6), "-j", "2")
    assert batch.until("finished")
    batch.workers()[0].kill()
    code, found = batch.end()
    assert (code, found) == (0, dict.fromkeys(names(6), "converted"))
    is_whole(work, names(6))


def test_after_a_killed_driver_the_next_batch_finishes_and_does_nothing_twice(hub, work):
    batch = Running(hub, work, *names(6), "-j", "2")
    assert batch.until("finished", 3)
    done = {e["name"] for e in batch.events if e["event"] == "finished"}
    batch.process.kill()
    batch.end()
    code, found = (again := Running(hub, work, *names(6), "-j", "2", "--resume")).end()
    assert code == 0, again.events
    assert {name for name, status in found.items() if status == "unchanged"} >= {name.split("/")[0] for name in done}
    is_whole(work, names(6))


def test_ctrl_c_stops_soon_with_130_and_what_is_done_is_recorded(hub, work):
    batch = Running(hub, work, *names(8), "-j", "2")
    assert batch.until("finished", 2)
    batch.process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    code, _ = batch.end()
    assert code == 130
    assert time.monotonic() - asked < 8
    recorded = [name.split("/")[0] for name in Registry.read(work / "registry.json").records]
    assert len(recorded) >= 2
    is_whole(work, recorded)


@pytest.mark.slow
def test_two_batches_at_once_do_nothing_twice_and_lose_no_record(hub, work):
    ran = [Running(hub, work, *names(6), "-j", "1", "--resume") for _ in range(2)]
    ended = [batch.end() for batch in ran]
    assert [code for code, _ in ended] == [0, 0], [e for batch in ran for e in batch.events if e.get("error")]
    assert sorted(found[name] for _, found in ended for name in names(6)) == ["converted"] * 6 + ["unchanged"] * 6
    is_whole(work, names(6))


def test_a_task_whose_worker_is_killed_again_fails_alone():
    with start(Crew(jobs=2, torch=False)) as pool:
        killed = pool.submit(signal.raise_signal, signal.SIGKILL)
        assert isinstance(killed.exception(), pool.lost)
        assert pool.submit(os.getpid).result() != pool.submit(os.getppid).result()
        for _ in range(4):
            assert pool.submit(len, "abc").result() == 3


@pytest.mark.slow
def test_a_disk_that_is_full_fails_what_does_not_fit_and_harms_nothing_else(hub, work):
    path, weights = work / "large", random_weights(FAMILY, FAMILY.variants["atto"])
    hub.add(MODELS[1].repo, {"model.safetensors": save_safetensors(path, spelled(TIMM, weights)).read_bytes()})
    path.unlink()
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "hf")}
    fetch = [sys.executable, "-m", "zooconv", "fetch", MODELS[1].name]
    subprocess.run(fetch, cwd=work, check=True, capture_output=True, env=environment)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))  # which the batch inherits
    try:
        batch = Running(hub, work, *names(4), "-j", "2", "-k")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    code, found = batch.end()
    assert (code, found.pop(MODELS[1].name)) == (1, "failed")
    assert "no room on the disk" in next(e["error"]["what"] for e in batch.events if e.get("error"))
    assert set(found.values()) == {"converted"}
    is_whole(work, [names(4)[0], *names(4)[2:]])


@pytest.mark.slow
def test_make_zoo_converts_every_name_of_a_family_and_the_second_time_none(hub, work):
    """Every name on the hub, with a small member's random weights: the real ones are 100 MB to 3 GB each.

    What lies at an address of its own is out of reach here, and fails alone.
    """
    family = [model.name for model in MODELS if model.family == "convnext"]
    elsewhere = [model.name for model in zoo().models if model.family == "convnext" and model.url]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOOCONV_", "MAKE"))} | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(work / "hf"), "https_proxy": "http://127.0.0.1:9"}
    command = ["make", "-f", ROOT / "Makefile", "-o", "setup", "zoo", f"BIN={Path(sys.executable).parent}",
               "FAMILY=convnext", "JOBS=2", "ARGS=--no-load-check --json"]
    for status in ("converted", "unchanged"):
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        outcomes = {o["name"]: o["status"] for o in json.loads(done.stdout.partition("\n")[2])["outcomes"]}
        assert outcomes == {f"{name}/d2": status for name in family} | {f"{name}/d2": "failed" for name in elsewhere}
        assert done.returncode == (2 if elsewhere else 0)  # make's own code for a command that failed
    is_whole(work, family)


@pytest.mark.slow
def test_kills_at_random_points(hub, work):
    """Fifty kills of drivers and workers. After each the state can be gone on from; in the end everything is there."""
    dice, wanted = random.Random(7), names(16)
    kills = 0
    while kills < 50:
        if not (work / "weights").exists() or dice.random() < 0.2:  # start over, now and then
            for path in [*(work / "weights").glob("*"), work / "registry.json"]:
                path.unlink(missing_ok=True)
        batch = Running(hub, work, *wanted, "-j", "2", "--resume", "-k")
        while batch.until("submitted", dice.randint(1, 6)):
            time.sleep(dice.random() * 0.2)
            kills += 1
            if dice.random() < 0.5:
                batch.process.kill()
                break
            for worker in batch.workers()[:1]:
                worker.kill()
        batch.end()
        recorded = Registry.read(work / "registry.json")
        assert all(outcome.status == "ok" for outcome in verify(recorded))
    assert Running(hub, work, *wanted, "-j", "2", "--resume").end()[0] == 0
    is_whole(work, wanted)


@pytest.mark.slow
def test_two_hundred_names_with_faults_and_kills(hub, work):
    wanted, dice = names(200), random.Random(3)
    gone = wanted[::3]
    for name in gone:
        hub.repos[zoo().find(name).repo].disabled = True
    for name in wanted[1::7]:
        hub.fault(f"hub GET /api/models/{zoo().find(name).repo}/", status=503)
    batch = Running(hub, work, *wanted, "-j", "4", "-k")
    while batch.until("finished", 20):
        for worker in batch.workers()[:1]:
            worker.kill()
        if len(batch.events) > 250:
            batch.process.kill()
    batch.end()
    code, found = Running(hub, work, *wanted, "-j", "4", "-k", "--resume").end()
    assert code == 1
    assert {name for name, status in found.items() if status == "failed"} == set(gone)
    is_whole(work, [name for name in wanted if name not in gone])
    for name in gone:
        hub.repos[zoo().find(name).repo].disabled = False
    dice.shuffle(wanted)
    code, found = Running(hub, work, *wanted, "-j", "4", "-k", "--resume").end()
    assert code == 0
    assert {name for name, status in found.items() if status == "converted"} == set(gone)


# -- the cluster -----------------------------------------------------------------------------------------------------


@contextmanager
def cluster(workers=2, **more):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, **more) as running:
        yield running


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_of_a_cluster_loses_nothing(hub, work, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(work / "hf"))
    with cluster() as dask:
        batch = Running(hub, work, *names(12), "--engine", "dask", "--scheduler", dask.scheduler_address)
        assert batch.until("finished", 3)
        os.kill(next(iter(dask.workers.values())).pid, signal.SIGKILL)
        code, found = batch.end()
    assert (code, found) == (0, dict.fromkeys(names(12), "converted"))
    is_whole(work, names(12))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_plugin_that_a_worker_lacks_is_told_before_anything_starts(hub, work, monkeypatch):
    monkeypatch.setenv("ZOOCONV_DISABLE_PLUGINS", "convnext,swin")
    with cluster(1) as dask:
        address = next(iter(dask.workers.values())).worker_address
        batch = Running(hub, work, *names(2), "--engine", "dask", "--scheduler", dask.scheduler_address)
        told = batch.process.communicate()[1]
    assert batch.process.returncode == 2
    assert f"{address}: plugin convnext: the driver has zooconv 0.1.0, the worker has none" in told
    assert not (work / "registry.json").exists()


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_told(hub, work):
    batch = Running(hub, work, *names(1), "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    told = batch.process.communicate()[1]
    assert batch.process.returncode == 3
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in told
