"""No process can be killed between an artifact and its record."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from support import files_in

from zooconv import UsageError, convert, journal
from zooconv.atomic import locked
from zooconv.certificate import certificate_path
from zooconv.names import local
from zooconv.options import Options
from zooconv.pipeline import make, run
from zooconv.registry import Registry

OPTIONS = Options(load_check=False)


@pytest.fixture
def made(source):
    """An artifact in its place, whose process was killed before it could record it."""
    return make(local(source), OPTIONS)


def test_a_conversion_leaves_no_note(source, work):
    run(local(source), OPTIONS)
    assert not (work / ".zooconv").exists()


def test_what_was_put_in_place_and_not_recorded_is_recorded_by_the_next(made, work, official):
    record = made.record
    assert not (work / "registry.json").exists()
    certificate_path(made.path).unlink()  # killed even before that was written
    assert journal.settled(work / "registry.json").records == {"small/d2": record}
    assert certificate_path(made.path).read_text() == made.certificate.text
    assert not (work / ".zooconv").exists()


def test_the_next_conversion_of_another_file_records_it_as_well(made, source, work):
    (work / "other.pth").write_bytes(source.read_bytes())
    convert("other.pth", load_check=False)
    assert sorted(Registry.read(work / "registry.json").records) == ["other/d2", "small/d2"]


def test_a_note_of_an_artifact_that_never_came_is_removed(made, work):
    made.path.unlink()
    assert journal.settled(work / "registry.json").records == {}
    assert not (work / ".zooconv").exists()


def test_a_note_of_an_artifact_with_other_bytes_records_nothing(made, work):
    data = bytearray(made.path.read_bytes())
    data[len(data) // 2] ^= 1
    made.path.write_bytes(data)
    assert journal.settled(work / "registry.json").records == {}


def test_a_note_whose_writer_is_at_work_is_left_alone(made, work):
    """Held by another process, since a lock of one's own would be one's own."""
    code = ("import sys, pathlib; from zooconv.atomic import locked\n"
            "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, made.path], **pipes) as other:
        other.stdout.readline()
        made.path.rename(work / "aside")
        assert journal.settled(work / "registry.json").records == {}
        assert journal.read_note(journal.note_of(work / "registry.json", "small_d2.pth")).record == made.record
        other.communicate()


def test_a_note_of_another_machine_is_recorded_when_complete_and_never_removed(made, work, monkeypatch):
    path = journal.note_of(work / "registry.json", "small_d2.pth")
    path.write_text(journal.read_note(path).model_copy(update={"host": "elsewhere"}).text)
    made.path.rename(work / "aside")
    assert journal.settled(work / "registry.json").records == {}
    assert path.exists()
    (work / "aside").rename(made.path)
    assert list(journal.settled(work / "registry.json").records) == ["small/d2"]


def test_a_record_that_another_process_has_replaced_is_not_put_back(made, source):
    old = made.record
    run(local(source), replace(OPTIONS, note="newer"))
    assert journal.record(made.preview.place.registry, {"small/d2": old}).records["small/d2"].output == old.output
    run(local(source), replace(OPTIONS, fresh=False, allow_nonfinite=True, force=True, note="other bytes"))
    now = Registry.read(made.preview.place.registry).records["small/d2"]
    made.path.write_bytes(b"x")
    assert journal.record(made.preview.place.registry, {"small/d2": old.model_copy(update={
        "output": old.output.model_copy(update={"dropped": 9})})}).records["small/d2"] == now


def test_a_broken_registry_keeps_its_notes(made, work):
    (work / "registry.json").write_text("{")
    with pytest.raises(UsageError, match="no registry"):
        journal.settled(work / "registry.json")
    assert journal.read_note(journal.note_of(work / "registry.json", "small_d2.pth")).record == made.record


def test_where_no_note_can_be_left_nothing_is_put_in_place(source, work):
    (work / ".zooconv").write_text("a file")
    with pytest.raises(UsageError, match="cannot write"):
        run(local(source), OPTIONS)
    assert files_in(work) == [".zooconv", "small.pth"]


def test_many_processes_that_leave_and_take_notes_lose_none(source, work):
    """The folder of notes comes and goes between them."""
    names = [f"m{i}" for i in range(8)]
    for name in names:
        os.link(source, work / f"{name}.pth")
    threads = [threading.Thread(target=convert, args=(f"{name}.pth",), kwargs={"load_check": False}) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Registry.read(work / "registry.json").records) == [f"{name}/d2" for name in names]
    assert not (work / ".zooconv").exists()


def test_a_lock_says_whether_it_was_waited_for(tmp_path):
    with locked(tmp_path / "x") as waited:
        assert not waited
        with pytest.raises(BlockingIOError), locked(tmp_path / "x", wait=False):
            pass
