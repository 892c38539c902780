"""registry.json: canonical, strict, and whole after any failure at any instant."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, files_in
from toy import SEPARATE, TOY

from zooconv import ZooError, convert
from zooconv.registry import NAME, Record, Registry, update
from zooconv.testing.checkpoints import random_weights, save_pth, spelled

SCHEMA = json.loads((ROOT / "docs" / "registry.schema.json").read_text())
RECORD = {
    "source": {"type": "local", "files": [{"file": "x.pth", "size": 1, "sha256": "0" * 64}]},
    "converter": {"name": "toy", "dist": "zooconv", "version": "1", "rules": "0" * 64, "options": {}},
    "layout": "d2",
    "output": {"format": "pth", "files": [{"file": "x_d2.pth", "size": 1, "sha256": "0" * 64}],
               "content": {"tree": "0" * 64, "tensors": 1, "params": 1, "dtypes": {"F32": 1}}},
    "license": "unknown",
}


def record(**changes):
    return Record.model_validate(json.loads(json.dumps(RECORD)) | changes)


def put(path, *names):
    def change(registry):
        for name in names:
            registry.put(name, record(output=RECORD["output"] | {"files": [
                {"file": f"{name.replace('/', '_')}.pth", "size": 1, "sha256": "0" * 64}]}))
    return update(path, change)


@pytest.mark.parametrize("layout", ["d2", "maskdino", "uninext"])
@pytest.mark.parametrize("format_", ["pth", "safetensors"])
def test_a_conversions_registry_is_valid_by_the_published_schema(source, layout, format_):
    convert(source, layout=layout, format=format_, load_check=False, note="random weights")
    jsonschema.validate(json.loads(Path("registry.json").read_text()), SCHEMA)


def test_paths_may_be_texts(source, work):
    (work / "config.yaml").write_text("MODEL: {WEIGHTS: x}\n")
    done = convert(str(source), output="made.pth", registry="other.json", config="config.yaml", load_check=False)
    assert done.path == Path("made.pth")
    assert list(Registry.read(work / "other.json").records) == ["small/d2/made.pth"]


def test_the_text_is_canonical_one_line_an_artifact_sorted(work):
    put(work / "r.json", "b/d2", "a/d2")
    text = (work / "r.json").read_text()
    assert [line.split('"')[1] for line in text.splitlines()[3:-2]] == ["a/d2", "b/d2"]
    assert Registry.read(work / "r.json").text() == text
    put(work / "other.json", "a/d2", "b/d2")
    assert (work / "other.json").read_text() == text


def test_reading_takes_any_spelling_of_json_and_writing_has_one(work):
    put(work / "r.json", "a/d2")
    canonical = (work / "r.json").read_text()
    loose = json.dumps(json.loads(canonical), indent=4).replace("\n", "\r\n")
    (work / "r.json").write_text("\ufeff" + loose, encoding="utf-8")
    assert Registry.read(work / "r.json").text() == canonical


def test_a_file_has_one_record(work):
    put(work / "r.json", "a/d2")
    update(work / "r.json", lambda r: r.put("b/d2", r.records["a/d2"]))
    assert list(Registry.read(work / "r.json").records) == ["b/d2"]


def test_a_users_own_keys_are_kept_and_other_strange_ones_refused(work):
    assert record(**{"x-team": "vision"}).model_dump()["x-team"] == "vision"
    with pytest.raises(ValueError, match="starts with x-"):
        record(team="vision")


@pytest.mark.parametrize("change", [
    {"source": RECORD["source"] | {"type": "hf"}}, {"source": RECORD["source"] | {"files": []}},
    {"license": 3}, {"layout": None}, {"output": RECORD["output"] | {"format": "npz"}},
    {"output": RECORD["output"] | {"files": [{"file": "../x", "size": 1, "sha256": "0" * 64}]}},
    {"output": RECORD["output"] | {"files": [{"file": "/x", "size": 1, "sha256": "0" * 64}]}},
    {"output": RECORD["output"] | {"files": [{"file": "x", "size": 1, "sha256": "0" * 64 + "\n"}]}},
    {"output": RECORD["output"] | {"files": [{"file": "x", "size": "1", "sha256": "0" * 64}]}},
    {"checks": {"load": {"status": "maybe"}}},
])
def test_a_record_that_is_none_is_refused(change):
    with pytest.raises(ValueError):
        record(**change)


@given(st.from_regex(NAME, fullmatch=True))
def test_a_name_of_the_pattern_is_no_path_that_climbs(name):
    assert not name.startswith("/")
    assert name.count("/") <= 2


def test_nothing_is_written_where_nothing_changes(work):
    put(work / "r.json", "a/d2")
    before = (work / "r.json").stat().st_ino
    put(work / "r.json", "a/d2")
    assert (work / "r.json").stat().st_ino == before


def test_many_processes_lose_no_record(work):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from test_registry import put; from pathlib import Path\n"
            "for i in range(8): put(Path(sys.argv[2]), f'p{sys.argv[3]}/m{i}')")
    runs = [subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(work / "r.json"), str(n)])
            for n in range(5)]
    assert [run.wait() for run in runs] == [0] * 5
    assert len(Registry.read(work / "r.json").records) == 40


# -- every operation may fail ------------------------------------------------------------------------------------------


class Faults:
    """Counts the operating system's calls that an update makes, and fails the n-th."""

    calls = ((os, "open"), (os, "write"), (os, "fsync"), (os, "posix_fallocate"), (os, "close"), (Path, "replace"))

    def __init__(self, monkeypatch, fail_at, number):
        self.count = 0
        for owner, name in self.calls:
            real = getattr(owner, name)

            def wrapped(*arguments, _real=real, _name=name, **options):
                self.count += 1
                if self.count == fail_at and _name != "close":  # a file that cannot be closed is closed all the same
                    raise OSError(number, os.strerror(number))
                return _real(*arguments, **options)

            monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_after_any_failure_the_registry_is_the_old_or_the_new_one(work, number):
    """As SQLite tests it: fail the first operation, then the second … until the update comes through."""
    path = work / "r.json"
    put(path, "a/d2")
    old = path.read_text()
    for fail_at in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, fail_at, number)
            try:
                put(path, "b/d2")
            except (ZooError, OSError):
                failed = True
            else:
                failed = False
        records = list(Registry.read(path).records)
        assert records in (["a/d2"], ["a/d2", "b/d2"])
        assert files_in(work) == ["r.json"]
        if not failed and faults.count < fail_at:
            assert fail_at > 5  # it did fail in between
            return
        path.write_text(old)
    pytest.fail("the update never came through")


@pytest.mark.parametrize("number", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.slow)],
                         ids=["ENOSPC", "EIO"])
def test_after_any_failure_of_a_conversion_its_file_is_absent_or_whole(work, install, number):
    """Of a toy: every call of a conversion is failed in turn, and each costs a conversion."""
    install("toy")
    source = save_pth(work / "small.pth", spelled(SEPARATE, random_weights(TOY, TOY.toy)))
    whole = convert(source, layout="plain", load_check=False, report=False).path.read_bytes()
    for fail_at in range(1, 2000):
        for name in ("small_plain.pth", "registry.json"):
            source.with_name(name).unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, fail_at, number)
            try:
                convert(source, layout="plain", load_check=False, report=False)
            except (ZooError, OSError):
                failed = True
            else:
                failed = False
        left = files_in(source.parent)
        assert [name for name in left if name.endswith(".tmp")] == []
        if "small_plain.pth" in left:
            assert source.with_name("small_plain.pth").read_bytes() == whole
        if not failed and faults.count < fail_at:
            assert fail_at > 20
            return
    pytest.fail("the conversion never came through")
