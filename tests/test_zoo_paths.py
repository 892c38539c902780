"""`zoo://` through iopath and fvcore: fetched and converted once, then there, whoever asks and whatever befell."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fvcore.common.checkpoint import Checkpointer
from iopath.common.file_io import PathManager, g_pathmgr
from support import files_in
from torch import nn
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.backbone import build

from zooconv import SourceUnavailable, UsageError
from zooconv.digest import file_sha256
from zooconv.pipeline import run
from zooconv.registry import Registry
from zooconv.testing.checkpoints import random_weights, save_safetensors, spelled
from zooconv.testing.hub import LocalHub
from zooconv.verify import verify

TIMM = next(d for d in FAMILY.dialects if d.name == "timm")
TOY = random_weights(FAMILY, FAMILY.toy)
ADDRESS = "zoo://someone/net@zooconv"
FILE = "someone--net_zooconv.pth"


@pytest.fixture
def cache(work, monkeypatch):
    monkeypatch.setenv("ZOOCONV_CACHE", str(work / "cache"))
    return work / "cache"


@pytest.fixture
def hub(work, local_hub):
    """A hub with one small model, random weights."""
    file = save_safetensors(work / "m.safetensors", spelled(TIMM, TOY))
    local_hub.add("someone/net", {"model.safetensors": file})
    return local_hub


@pytest.fixture
def paths(cache, hub, hub_client, monkeypatch):
    """A path manager that knows zoo://, of this hub. Torch's look at each file is left to the tests of processes."""
    from zooconv.detectron2 import register

    monkeypatch.setattr("zooconv.artifacts.run", lambda source, options, hub: run(
        source, replace(options, load_check=False), hub=hub))
    manager = PathManager()
    register(manager, hub=hub_client)
    return manager


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = build(FAMILY.toy)


def loads(path_manager, address=ADDRESS):
    """A detector whose backbone fvcore's own checkpointer has loaded."""
    model = Detector()
    checkpointer = Checkpointer(model)
    checkpointer.path_manager = path_manager
    checkpointer.load(address)
    return model


# -- the whole road ----------------------------------------------------------------------------------------------------


def test_a_checkpointer_loads_an_address_to_the_last_tensor(paths, caplog):
    before = Detector().backbone.state_dict()
    after = loads(paths).backbone.state_dict()
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in before.items()}
    assert all(torch.equal(after[name], torch.from_numpy(array)) for name, array in TOY.items())
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]  # nothing missing, nothing unexpected
    assert not all(torch.equal(before[name], torch.from_numpy(array)) for name, array in TOY.items())


def test_the_second_time_needs_no_hub_no_conversion_and_no_torch(work, cache):
    with LocalHub() as hub:
        hub.add("someone/net", {"model.safetensors": save_safetensors(work / "m.safetensors", spelled(TIMM, TOY))})
        first = asked(hub.url, work)
        inode = (cache / FILE).stat().st_ino
    second = asked(hub.url, work, then="assert not {'torch', 'huggingface_hub', 'numpy'} & {*sys.modules}")
    assert first.out == second.out == f"{cache / FILE}\n", second.err
    assert (cache / FILE).stat().st_ino == inode
    assert "is made:" in first.err
    assert "is made:" not in second.err


def test_an_artifact_is_named_after_all_that_decides_what_it_holds(paths, cache):
    addresses = ["zoo://someone/net", "zoo://someone/net@fpn", "zoo://someone/net@fpn,bgr",
                 "zoo://someone/net@fpn,no-fresh", "zoo://someone/net@fpn,revision=main",
                 "zoo://someone/net@fpn,file=model.safetensors"]
    files = [Path(paths.get_local_path(address)) for address in addresses]
    assert len({*files}) == len(addresses)
    assert [f.name for f in files][:3] == ["someone--net_d2.pth", "someone--net_fpn.pth", "someone--net_fpn_bgr.pth"]
    registry = Registry.read(cache / "registry.json")
    assert {registry.artifact(r) for r in registry.records.values()} == {*files}
    assert [o.status for o in verify(registry)] == ["ok"] * len(files)
    assert paths.get_local_path("zoo://someone/net@d2") == str(files[0])  # the same, whether the layout is told or not


def test_the_log_says_the_default_layout_and_the_others(paths, caplog):
    with caplog.at_level(logging.INFO, "zooconv"):
        paths.get_local_path("zoo://someone/net")
    assert "the layout is d2, the default; there are d2, mask2former, maskdino," in caplog.text
    assert 'WEIGHTS: "zoo://someone/net@d2"' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "zooconv"):
        paths.get_local_path("zoo://someone/net@maskdino")
    assert "the default" not in caplog.text


def test_the_query_of_detectron2_is_none_of_ours(paths):
    assert paths.get_local_path(ADDRESS) == paths.get_local_path(f"{ADDRESS}?matching_heuristics=True")
    with pytest.raises(UsageError, match="options stand in the address"):
        paths.get_local_path(f"{ADDRESS}?layout=fpn")


def test_an_address_can_be_opened_and_asked_for_and_not_written(paths):
    with paths.open(ADDRESS, "rb") as file:
        assert file.read(2) == b"PK"
    assert paths.isfile(ADDRESS)
    assert paths.exists(ADDRESS)
    assert not paths.isdir(ADDRESS)
    assert not paths.exists("zoo://no_such_model")
    with pytest.raises(UsageError, match="cannot be written to"):
        paths.open(ADDRESS, "wb")


# -- what a user did wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "words"), [
    ("zoo://convnext_tini_22k", ["there is no model 'convnext_tini_22k'", "did you mean convnext_tiny_22k?", "next: "]),
    ("zoo://convnext_tiny", ["could be any of", "convnext_tiny_22k", "next: "]),
    ("zoo://convnext_tiny_22k@maskdinos", ["has no layout 'maskdinos'", "layouts: d2, mask2former", "maskdino"]),
    ("zoo://convnext_tiny_22k@d2.pkl", ["ends in .pkl", "is unpickled", "next: leave the suffix out"]),
    ("zoo://convnext_tiny_22k.pyth", ["ends in .pyth", "pycls"]),
    ("zoo://./m.safetensors", ["names a file", "next: zooconv convert m.safetensors --layout d2"]),
    ("zoo://nobody/nothing", ["the hub has no repository nobody/nothing"]),
], ids=lambda v: v if isinstance(v, str) else "")
def test_one_message_says_what_is_wrong_and_what_to_do(paths, cache, address, words):
    with pytest.raises((UsageError, SourceUnavailable)) as caught:
        paths.get_local_path(address)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.__cause__ is None
    assert [name for name in files_in(cache) if name.endswith(".pth")] == [] if cache.exists() else True


def test_a_type_error_does_not_make_iopath_ask_twice(paths, monkeypatch):
    calls = []
    monkeypatch.setattr("zooconv.artifacts.artifact", lambda *a, **k: calls.append(a) or len(None))
    with pytest.raises(RuntimeError):
        paths.get_local_path(ADDRESS)
    assert len(calls) == 1


def test_a_cache_that_cannot_be_used_is_told_of(paths, cache, work, monkeypatch):
    cache.mkdir()
    (cache / "registry.json").write_text("{")
    with pytest.raises(UsageError, match="next: rm -r "):
        paths.get_local_path(ADDRESS)
    monkeypatch.setenv("ZOOCONV_CACHE", str(work / "m.safetensors" / "cache"))
    with pytest.raises(UsageError, match="cannot write"):
        paths.get_local_path(ADDRESS)


# -- what befell the cache ---------------------------------------------------------------------------------------------


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_unseen(path):
    """The same, and the time of the change put back."""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def record(cache, change):
    edit(cache / "registry.json", lambda data: change(data["artifacts"]["someone--net/zooconv"]))


ANEW = {
    "damaged": lambda cache: flip(cache / FILE),
    "damaged unseen": lambda cache: flip_unseen(cache / FILE),
    "truncated": lambda cache: os.truncate(cache / FILE, 1000),
    "gone": lambda cache: (cache / FILE).unlink(),
    "unrecorded": lambda cache: (cache / "registry.json").unlink(),
    "of another plugin": lambda cache: record(cache, lambda r: r["converter"].update(version="0.0.1")),
    "of another writer": lambda cache: record(cache, lambda r: r["output"].update(writer="zooconv pth 0")),
    "of other rules": lambda cache: edit(cache / f".{FILE}.mark", lambda mark: mark.update(made_by="0" * 64)),
    "without its mark": lambda cache: (cache / f".{FILE}.mark").unlink(),
}


@pytest.mark.parametrize("happened", ANEW)
def test_what_is_not_what_it_should_be_is_made_anew(paths, cache, caplog, happened):
    right = file_sha256(paths.get_local_path(ADDRESS)).sha256
    ANEW[happened](cache)
    with caplog.at_level(logging.INFO, "zooconv"):
        assert file_sha256(paths.get_local_path(ADDRESS)).sha256 == right
    assert "is made:" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "zooconv"):
        paths.get_local_path(ADDRESS)
    assert "is made:" not in caplog.text
    assert [o.status for o in verify(Registry.read(cache / "registry.json"))] == ["ok"]


def test_what_was_only_touched_or_moved_is_kept(paths, cache, caplog, monkeypatch):
    paths.get_local_path(ADDRESS)
    (cache / FILE).touch()
    moved = cache.rename(cache.with_name("elsewhere"))
    monkeypatch.setenv("ZOOCONV_CACHE", str(moved))
    with caplog.at_level(logging.INFO, "zooconv"):
        assert paths.get_local_path(ADDRESS) == str(moved / FILE)
    assert "is made:" not in caplog.text


def test_force_makes_it_anew(paths, cache):
    first = Path(paths.get_local_path(ADDRESS)).stat().st_ino
    keep = (cache / FILE).open("rb")  # so that its inode is not given away
    assert Path(paths.get_local_path(ADDRESS, force=True)).stat().st_ino != first
    keep.close()


def test_registering_twice_is_registering_once(caplog):
    import zooconv.detectron2

    before = g_pathmgr._path_handlers["zoo://"]
    zooconv.detectron2.setup_environment()
    assert g_pathmgr._path_handlers["zoo://"] is before
    assert not caplog.records


def test_a_folder_that_is_called_detectron2_is_not_taken_for_it(work, cache):
    (work / "detectron2").mkdir()
    done = subprocess.run([sys.executable, "-c", "import zooconv.detectron2; print('fine')"], cwd=work, text=True,
                          capture_output=True, check=False)
    assert done.stdout == "fine\n", done.stderr


# -- many processes ----------------------------------------------------------------------------------------------------

ONE = """
import logging, sys, zooconv.detectron2
from iopath.common.file_io import g_pathmgr
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
print(g_pathmgr.get_local_path(sys.argv[1]))
"""

# Ranks as a launcher makes them. They are forked from one that has imported all, so that they truly start at once.
RANKS = """
import os, sys, logging, zooconv.artifacts, zooconv.detectron2, huggingface_hub.file_download
from iopath.common.file_io import g_pathmgr
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
def rank():
    path = g_pathmgr.get_local_path(sys.argv[1])
    os.write(1, (path + "\\n").encode())
    os._exit(0)
children = [pid for pid in (os.fork() or rank() for _ in range(8)) if pid]
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""

# Again and again a process that makes an artifact is killed, at a random time; then the file's digest is printed.
KILLS = RANKS[:RANKS.index("children")] + """
import pathlib, random, signal, time
from zooconv.digest import file_sha256
file, times, chance = pathlib.Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
def one(seconds=None):
    start, child = time.monotonic(), os.fork() or rank()
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(file_sha256(file).sha256 if file.exists() else None, flush=True)
    return time.monotonic() - start
took = one()
for _ in range(times):
    for each in (file, file.with_name(f".{file.name}.mark")):
        each.unlink(missing_ok=True)
    one(took * chance.random())
one()
"""


class Asked:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


def environment(url, work):
    return os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(work / "hf"), "NO_PROXY": "127.0.0.1"}


def asked(url, work, then=""):
    return Asked(subprocess.run([sys.executable, "-c", ONE + then, ADDRESS], env=environment(url, work),
                                capture_output=True, text=True, check=False))


def test_eight_ranks_at_once_make_it_once(work, cache, hub):
    done = Asked(subprocess.run([sys.executable, "-c", RANKS, ADDRESS], env=environment(hub.url, work),
                                capture_output=True, text=True, check=False))
    assert done.code == 0, done.err
    assert done.out.splitlines() == [str(cache / FILE)] * 8
    assert done.err.count("is made:") == 1
    assert hub.count("cdn GET /lfs/") == 1
    assert hub.count("hub GET /api/models/") == 1


def killed(work, cache, hub, times, seed):
    """Kill a process that makes an artifact, at random times; look at what is there after each, and after the last."""
    command = [sys.executable, "-c", KILLS, ADDRESS, cache / FILE, str(times), str(seed)]
    done = Asked(subprocess.run(command, env=environment(hub.url, work), capture_output=True, text=True, check=False))
    assert done.code == 0, done.err
    first, *between, last = [line for line in done.out.splitlines() if line != str(cache / FILE)]
    assert len(between) == times
    assert {*between} <= {first, "None"}  # whole, or not there
    assert last == first == file_sha256(cache / FILE).sha256
    assert files_in(cache) == sorted([FILE, f"{FILE}.cert.json", f"{FILE}.md", f".{FILE}.mark", "fetched",
                                      "registry.json"])
    assert [o.status for o in verify(Registry.read(cache / "registry.json"))] == ["ok"]


def test_a_killed_process_leaves_nothing_broken_and_the_next_one_finishes(work, cache, hub):
    killed(work, cache, hub, times=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_killed_many_times_at_any_point_the_next_one_finishes(work, cache, hub, seed):
    killed(work, cache, hub, times=15, seed=seed)
