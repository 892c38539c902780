"""A repair writes the same tensors under the same names, elsewhere, and says what it changed."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support import files_in

from zooconv.errors import CheckFailed, UnsafeFile, UsageError
from zooconv.repair import repair

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.bfloat16),
         "n": torch.tensor(3), "empty": torch.zeros(0, 2)}


def loaded(path):
    content = torch.load(path, weights_only=True)
    return content["model"]


def same(a, b):
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def test_the_repaired_file_has_the_same_tensors_under_the_same_names(work):
    torch.save({"state_dict": STATE, "epoch": 3, "args": argparse.Namespace(lr=1)}, "x.pth")
    done = repair(Path("x.pth"))
    assert done.path == Path("x_repaired.pth")
    assert done.torch == torch.__version__
    assert same(loaded(done.path), STATE)
    assert done.beside == ("epoch (a int)", "args (a argparse.Namespace)")
    assert torch.load(done.path)["__author__"] == "zooconv"


def test_the_source_stays_as_it_is(work):
    torch.save({"state_dict": STATE}, "x.pth")
    before = Path("x.pth").read_bytes()
    repair(Path("x.pth"), load_check=False)
    assert Path("x.pth").read_bytes() == before
    with pytest.raises(UsageError, match="is the source itself"):
        repair(Path("x.pth"), Path("x.pth"), force=True)
    os.link("x.pth", "y.pth")
    with pytest.raises(UsageError, match="is the source itself"):
        repair(Path("x.pth"), Path("y.pth"), force=True)
    assert Path("x.pth").read_bytes() == before


def test_a_file_that_is_there_is_not_replaced_unasked(work):
    torch.save(STATE, "x.pth")
    Path("y.pth").write_text("precious")
    with pytest.raises(UsageError, match=r"y\.pth exists"):
        repair(Path("x.pth"), Path("y.pth"))
    assert Path("y.pth").read_text() == "precious"
    assert same(loaded(repair(Path("x.pth"), Path("y.pth"), force=True, load_check=False).path), STATE)


def test_only_a_pth_is_written_and_a_folder_is_a_place_for_one(work):
    torch.save(STATE, "x.pth")
    with pytest.raises(UsageError, match=r"does not end in \.pth"):
        repair(Path("x.pth"), Path("y.pkl"))
    (work / "out").mkdir()
    assert repair(Path("x.pth"), Path("out"), load_check=False).path == Path("out/x_repaired.pth")


@pytest.mark.parametrize(("content", "change"), [
    ({"state_dict": STATE}, 'weights under state_dict stand under "model"'),
    (STATE, 'weights under no key stand under "model"'),
    ({"model": {f"module.{n}": t for n, t in STATE.items()}}, "module. taken off every name"),
    ({"model": {**STATE, "epoch": 3, "names": ["a"]}}, "2 things that are no weights left out"),
])
def test_what_was_changed_is_said(work, content, change):
    torch.save(content, "x.pth")
    done = repair(Path("x.pth"), load_check=False)
    assert change in done.changes
    assert same(loaded(done.path), STATE)


def test_module_before_some_names_only_is_part_of_them(work):
    odd = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(odd, "x.pth")
    assert same(loaded(repair(Path("x.pth"), load_check=False).path), odd)


def test_a_file_that_was_well_is_said_to_be(work):
    torch.save({"model": STATE}, "x.pth")
    assert repair(Path("x.pth"), load_check=False).changes == ()


def test_arrays_become_tensors(work):
    arrays = {n: t.numpy() for n, t in STATE.items() if t.dtype != torch.bfloat16}
    Path("x.pkl").write_bytes(pickle.dumps({"model": arrays}))
    done = repair(Path("x.pkl"), load_check=False)
    assert "a pickle file became a torch zip file" in done.changes
    assert same(loaded(done.path), {n: torch.from_numpy(a) for n, a in arrays.items()})


def test_views_and_ties_become_tensors_of_their_own(work):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"a": base.T, "b": base[1:, ::2], "c": base, "d": base}
    torch.save(state, "x.pth", _use_new_zipfile_serialization=False)
    assert same(loaded(repair(Path("x.pth"), load_check=False).path), state)


def test_nan_is_carried_and_told(work):
    torch.save({"a": torch.tensor([1.0, np.nan])}, "x.pth")
    assert repair(Path("x.pth"), load_check=False).written.nonfinite == ("a",)


def test_averaged_weights_beside_plain_ones_are_asked_about(work):
    torch.save({"model": STATE, "model_ema": {"a": torch.ones(1)}}, "x.pth")
    with pytest.raises(UsageError, match="averaged weights") as caught:
        repair(Path("x.pth"))
    assert "--ema" in caught.value.next
    assert files_in(work) == ["x.pth"]
    assert loaded(repair(Path("x.pth"), ema=True, load_check=False).path).keys() == {"a"}


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


BAD = {
    "asks to call": lambda: torch.save({"model": STATE, "x": Evil()}, "x.pth"),
    "no tensor that zooconv reads": lambda: torch.save({"a": torch.ones(1), "b": torch.eye(2).to_sparse()}, "x.pth"),
    "holds no weights": lambda: torch.save([1], "x.pth"),
    "are no tensors|no tensor": lambda: torch.save({"a": torch.ones(1), "b": {"c": torch.ones(1)}}, "x.pth"),
}


@pytest.mark.parametrize("why", BAD)
def test_what_is_unsafe_or_would_lose_weights_is_refused_and_nothing_written(work, why):
    BAD[why]()
    with pytest.raises(UnsafeFile, match=why):
        repair(Path("x.pth"))
    assert files_in(work) == ["x.pth"]


def test_a_damaged_source_is_noticed_before_anything_has_a_name(work):
    torch.save({"model": STATE}, "x.pth")
    content = bytearray(Path("x.pth").read_bytes())
    content[content.find(STATE["a.weight"].numpy().tobytes())] ^= 1
    Path("x.pth").write_bytes(content)
    with pytest.raises((UnsafeFile, CheckFailed), match="damaged"):
        repair(Path("x.pth"))
    assert files_in(work) == ["x.pth"]


def test_a_repair_of_a_repair_is_the_same_bytes(work):
    torch.save({"state_dict": STATE}, "x.pth")
    first = repair(Path("x.pth"), Path("a.pth"), load_check=False).path
    second = repair(first, Path("b.pth"), load_check=False).path
    assert first.read_bytes() == second.read_bytes()


def test_the_command_line_tells_what_it_did(work, zooconv):
    torch.save({"state_dict": STATE, "epoch": 1}, "x.pth")
    done = zooconv("repair", "x.pth", "-o", "y.pth", "--no-load-check")
    assert (done.code, done.out) == (0, "y.pth\n")
    assert 'weights under state_dict stand under "model"' in done.err
    assert "epoch (a int)" in done.err
    again = zooconv("repair", "x.pth", "-o", "y.pth", "--force", "--no-load-check", "--json")
    assert again.json["left_out"] == ["epoch (a int)"]
    assert again.err == ""
