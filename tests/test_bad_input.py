"""Bad input ends in a plain message and the house's exit code; nothing is written, nothing is lost."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from support import files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.family import VARIANTS

from zooconv import convert
from zooconv.atomic import drafting
from zooconv.errors import UsageError
from zooconv.registry import Registry
from zooconv.testing.checkpoints import random_weights, save_pth


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


def without(weights, name):
    return {n: a for n, a in weights.items() if n != name}


def fifo(work, _):
    os.mkfifo(work / "s.pth")


def locked_file(work, weights):
    save_pth(work / "s.pth", weights).chmod(0)


def deflated(work, weights):
    import zipfile

    save_pth(work / "x.pth", weights)
    with zipfile.ZipFile(work / "x.pth") as good, zipfile.ZipFile(work / "s.pth", "w", zipfile.ZIP_DEFLATED) as bad:
        for info in good.infolist():
            bad.writestr(info.filename, good.read(info))
    (work / "x.pth").unlink()


def truncated(work, weights):
    path = save_pth(work / "s.pth", weights)
    path.write_bytes(path.read_bytes()[:-1000])


def corrupt(work, weights):
    path = save_pth(work / "s.pth", weights)
    content = bytearray(path.read_bytes())
    content[content.find(weights["norm.bias"].tobytes())] ^= 1
    path.write_bytes(content)


BAD = {
    "no such file": (lambda w, t: None, 2, "there is no file"),
    "a folder": (lambda w, t: (w / "s.pth").mkdir(), 2, "is a folder"),
    "a pipe": (fifo, 2, "is a pipe"),
    "a link to itself": (lambda w, t: (w / "s.pth").symlink_to("s.pth"), 2, "cannot open"),
    "an unknown family": (lambda w, t: save_pth(w / "s.pth", {"kernel.0": t["norm.bias"]}), 1, "no backbone"),
    "a tensor missing": (lambda w, t: save_pth(w / "s.pth", without(t, "stages.1.0.gamma")), 1, "stages.1.0.gamma"),
    "a tensor too many": (lambda w, t: save_pth(w / "s.pth", t | {"more": t["norm.bias"]}), 1, "unexpected  more"),
    "a wrong shape": (lambda w, t: save_pth(w / "s.pth", t | {"norm.bias": t["norm.bias"][:-1]}), 1, "must be 16"),
    "a number among the weights": (lambda w, t: torch.save({"model": {"w": torch.ones(1), "epoch": 3}}, w / "s.pth"), 5,
                                   "epoch: a int"),
    "NaN": (lambda w, t: save_pth(w / "s.pth", t | {"norm.bias": t["norm.bias"] * np.float32(np.nan)}), 1, "NaN"),
    "truncated": (truncated, 5, "truncated"),
    "corrupt": (corrupt, 5, "CRC-32"),
    "deflated": (deflated, 5, "compressed"),
    "a payload": (lambda w, t: torch.save({"model": {"w": torch.ones(1)}, "x": Evil()}, w / "s.pth"), 5, "asks to"),
    "an int for a name": (lambda w, t: torch.save({"model": {0: torch.ones(1)}}, w / "s.pth"), 5, "not text"),
    "an empty name": (lambda w, t: torch.save({"model": {"": torch.ones(1)}}, w / "s.pth"), 5, "is empty"),
    "a plain pickle": (lambda w, t: (w / "s.pth").write_bytes(pickle.dumps({"model": 1})), 5, "holds no weights"),
    "nothing": (lambda w, t: (w / "s.pth").touch(), 5, "empty file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_source_is_refused(kind, work, weights, zooconv):
    make, code, word = BAD[kind]
    make(work, weights)
    before = files_in(work)
    done = zooconv("convert", "s.pth")
    assert (done.code, done.out) == (code, "")
    assert word in done.err
    assert "Traceback" not in done.err
    assert files_in(work) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(work, weights, zooconv):
    locked_file(work, weights)
    assert zooconv("convert", "s.pth").code == 2


@pytest.mark.parametrize(("arguments", "word"), [
    (["-l", "maskdinno"], "--layout maskdino"),
    (["-o", "missing/x.pth"], "mkdir -p"),
    (["-o", "x.ckpt"], "-o x.pth"),
    (["-o", "x.pth", "--format", "safetensors"], "contradicts the suffix"),
    (["-o", "small.pth"], "is the source itself"),
    (["-o", "a link.pth"], "is the source itself"),
    (["-o", "a file.pth", "--registry", "elsewhere/registry.json"], "lies outside the folder"),
    (["-o", "ünïcode.pth"], "no name that a registry can spell"),
    (["--config", "missing.yaml"], "cannot read the config"),
    (["--config", "list.yaml"], "no Detectron2 config"),
    (["--key", "teacher"], "has no key 'teacher'"),
    (["--ema"], "no averaged weights"),
    (["--prefix", "student."], "no backbone"),
])
def test_a_bad_choice_is_refused(source, zooconv, arguments, word):
    source.with_name("list.yaml").write_text("- a\n- b\n")
    source.with_name("a link.pth").symlink_to(source)
    before = files_in(source.parent)
    done = zooconv("convert", source.name, *arguments)
    assert done.code == (1 if "--prefix" in arguments else 2)
    assert word in done.err
    assert files_in(source.parent) == before


def test_a_strangers_file_is_never_overwritten_unasked(source, zooconv):
    target = source.with_name("small_d2.pth")
    target.write_text("somebody's work")
    done = zooconv("convert", source)
    assert (done.code, target.read_text()) == (2, "somebody's work")
    assert "--force" in done.err
    assert zooconv("convert", source, "--force", "--no-load-check").code == 0


def test_an_artifact_that_was_changed_since_is_not_overwritten_unasked(source, zooconv):
    convert(source, load_check=False)
    source.with_name("small_d2.pth").write_text("edited")
    done = zooconv("convert", source)
    assert (done.code, "was changed since it was recorded" in done.err) == (2, True)


def test_the_same_conversion_again_changes_nothing(source, zooconv):
    assert zooconv("convert", source, "--no-load-check").code == 0
    before = {p.name: p.read_bytes() for p in source.parent.iterdir()}
    assert zooconv("convert", source, "--no-load-check").code == 0
    assert {p.name: p.read_bytes() for p in source.parent.iterdir()} == before


def test_another_source_of_the_same_name_does_not_take_the_records_place(source, work, weights, zooconv):
    convert(source, load_check=False)
    (work / "sub").mkdir()
    save_pth(work / "sub" / "small.pth", weights)
    done = zooconv("convert", "sub/small.pth", "-o", "sub")
    assert (done.code, "--name" in done.err) == (2, True)
    assert zooconv("convert", "sub/small.pth", "-o", "sub", "--name", "second", "--no-load-check").code == 0
    assert sorted(Registry.read(work / "registry.json").records) == ["second/d2", "small/d2"]


BAD_REGISTRIES = {
    "broken": "{", "a list": "[]", "empty": "", "a newer schema": '{"schema": 2, "artifacts": {}}',
    "conflict marks": '{\n "schema": 1,\n<<<<<<< HEAD\n "artifacts": {}\n=======\n "artifacts": {}\n>>>>>>> x\n}\n',
    "an unknown key": '{"schema": 1, "artifacts": {}, "more": 1}',
    "a key twice": '{"schema": 1, "schema": 1, "artifacts": {}}',
    "NaN": '{"schema": NaN, "artifacts": {}}', "a bad record": '{"schema": 1, "artifacts": {"a/b": {}}}',
    "a bad name": '{"schema": 1, "artifacts": {"../x": {}}}', "zeros": "\0" * 100, "nested": "[" * 100_000,
}


@pytest.mark.parametrize("kind", BAD_REGISTRIES)
@pytest.mark.parametrize("verb", ["convert", "verify"])
def test_a_registry_that_is_none_is_told_and_not_touched(source, zooconv, kind, verb):
    registry = source.with_name("registry.json")
    registry.write_text(BAD_REGISTRIES[kind])
    done = zooconv(verb, *([source] if verb == "convert" else []))
    assert (done.code, "is no registry that zooconv can use" in done.err) == (2, True)
    assert files_in(source.parent) == ["registry.json", "small.pth"]
    assert registry.read_text() == BAD_REGISTRIES[kind]


# -- disks and interruptions -------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_before_the_first_byte_and_leaves_nothing(source, zooconv):
    """A limit on file sizes stands for the disk: the kernel refuses the same calls."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = zooconv("convert", source, "--no-load-check", preexec_fn=limit)
    assert done.code == 1
    assert "no room on the disk" in done.err
    assert files_in(source.parent) == ["small.pth"]


@pytest.fixture
def big(work):
    """A source whose conversion takes long enough to be interrupted."""
    return save_pth(work / "big.pth", random_weights(FAMILY, VARIANTS["small"]))


def start(*arguments, cwd):
    return subprocess.Popen([sys.executable, "-m", "zooconv", *map(str, arguments)], cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_draft(folder, process):
    while process.poll() is None and not any(name.endswith(".tmp") for name in files_in(folder)):
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_behind(big, number):
    process = start("convert", big, cwd=big.parent)
    wait_for_draft(big.parent, process)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in err
    assert files_in(big.parent) == ["big.pth"]


INTERRUPTED_EVERYWHERE = """
import sys
from pathlib import Path
from zooconv import atomic

def interrupting(after):
    def trace(frame, event, _):
        nonlocal after
        if frame.f_code.co_filename == atomic.__file__ and event == "line":
            after -= 1
            if not after:
                raise KeyboardInterrupt
        return trace
    return trace

for line in range(1, 1000):
    sys.settrace(interrupting(line))
    try:
        atomic.write_text(Path(sys.argv[1]) / f"{line}.txt", "whole")
    except KeyboardInterrupt:
        continue
    finally:
        sys.settrace(None)
    break
"""


def test_an_interruption_at_any_line_leaves_no_draft(work):
    """A process is interrupted before each line in turn that making, filling and naming a draft runs through."""
    subprocess.run([sys.executable, "-c", INTERRUPTED_EVERYWHERE, work], check=True)
    left = files_in(work)
    assert any(name.endswith(".txt") for name in left)
    assert all((work / name).read_text() == "whole" for name in left)
    assert [name for name in left if name.endswith(".tmp")] == []


def test_a_killed_run_leaves_no_final_name_and_the_next_run_finishes(big):
    for delay in (0, 0.05, 0.1):
        process = start("convert", big, "--no-load-check", cwd=big.parent)
        wait_for_draft(big.parent, process)
        time.sleep(delay)
        process.kill()
        process.communicate()
    whole = {"big_d2.pth", "big_d2.pth.cert.json", "big_d2.pth.md", "registry.json"}
    assert set(files_in(big.parent)) - {"big.pth"} <= whole | {
        name for name in files_in(big.parent) if name.endswith(".tmp")}
    assert convert(big, load_check=False, force=True).content.tensors == 342
    assert set(files_in(big.parent)) == whole | {"big.pth"}


def test_two_runs_at_once_on_one_target_both_succeed_and_agree(source):
    runs = [start("convert", source, "--json", cwd=source.parent) for _ in range(4)]
    ends = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, ends
    assert files_in(source.parent) == ["registry.json", "small.pth", "small_d2.pth", "small_d2.pth.cert.json",
                                       "small_d2.pth.md"]


def test_a_draft_of_a_read_only_folder_is_refused_plainly(work):
    with pytest.raises(UsageError, match="there is no folder"), drafting(work / "missing" / "x.pth"):
        pass
