"""torch's files of before version 1.6 are read byte for byte as torch reads them, and hostile ones are refused."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.torch_legacy import MAGIC, VERSION
from zooconv.errors import UnsafeFile

BASE = torch.arange(24.0).reshape(4, 6)
STATES = {
    "plain": {"w": torch.randn(3, 4), "b": torch.randn(3)},
    "views": {"w": BASE[1:3, ::2], "t": BASE.T, "one": BASE[0], "expanded": BASE[:1].expand(5, 6)},
    "a parameter": {"w": torch.nn.Parameter(torch.randn(2, 2))},
    "scalars and nothing": {"n": torch.tensor(7), "empty": torch.zeros(0, 5)},
    "many dtypes": {str(d): torch.arange(6).to(d) for d in (torch.float64, torch.float16, torch.bfloat16, torch.int64,
                                                            torch.int32, torch.int16, torch.int8, torch.uint8,
                                                            torch.bool)},
}


def legacy(path, content, **how):
    torch.save(content, path, _use_new_zipfile_serialization=False, **how)
    return path


def read(path):
    with open_checkpoint(path) as checkpoint:
        return {name: (t.dtype, t.shape, t.array().tobytes()) for name, t in checkpoint.tensors.items()}


def zipped(path, state):
    """What our reader of torch's zip files makes of the same tensors, and torch of both files."""
    torch.save(state, path)
    return read(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", STATES)
def test_an_old_file_is_read_as_a_young_one_of_the_same_tensors(tmp_path, kind, protocol):
    state = STATES[kind]
    old = legacy(tmp_path / "old.pth", {"model": state, "epoch": 3}, pickle_protocol=protocol)
    assert read(old) == zipped(tmp_path / "new.pth", state)
    loaded = torch.load(old, weights_only=False)["model"]
    assert read(old) == zipped(tmp_path / "again.pth", loaded)


def test_what_stands_beside_the_weights_is_named_and_not_run(tmp_path):
    path = legacy(tmp_path / "x.pth", {"state_dict": STATES["plain"], "args": argparse.Namespace(lr=1)})
    with open_checkpoint(path) as checkpoint:
        assert (checkpoint.format, checkpoint.wrapper) == ("torch legacy", ("state_dict",))
        assert checkpoint.beside == ("args (a argparse.Namespace)",)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_any_view_is_read_as_torch_has_it(tmp_path_factory, sizes, data):
    path = tmp_path_factory.getbasetemp() / "old.pth"
    tensor = torch.randn(sizes).permute(data.draw(st.permutations(range(len(sizes)))))
    legacy(path, {"w": tensor})
    assert read(path)["w"][1:] == (tuple(tensor.shape), tensor.contiguous().numpy().tobytes())


class Views(pickle.Pickler):
    """Storages as torch 0.3 wrote them: one may be a part of another."""

    def persistent_id(self, value):
        return value.given if isinstance(value, Stored) else None


class Stored:
    def __init__(self, *given):
        self.given = given


class Tensor:
    """What pickles as a tensor of 1 x `size` of a stored storage."""

    def __init__(self, stored, size, offset=0):
        self.stored, self.size, self.offset = stored, size, offset

    def __reduce__(self):
        return torch._utils._rebuild_tensor, (self.stored, self.offset, (self.size,), (1,))


def by_hand(path, content, storages, *, keys=None, about=None, tail=b""):
    out = io.BytesIO()
    for part in (MAGIC, VERSION, about or {"protocol_version": VERSION, "little_endian": True, "type_sizes": {}}):
        pickle.dump(part, out, 2)
    Views(out, 2).dump(content)
    pickle.dump(sorted(storages) if keys is None else keys, out, 2)
    for key in sorted(storages):
        out.write(struct.pack("<q", len(storages[key])) + struct.pack(f"<{len(storages[key])}f", *storages[key]))
    path.write_bytes(out.getvalue() + tail)
    return path


def stored(key="1", count=4, view=None, kind=torch.FloatStorage):
    return Stored("storage", kind, key, "cpu", count, view)


FOUR = {"1": [1.0, 2.0, 3.0, 4.0]}


def test_a_storage_that_is_a_part_of_another_is_read_as_torch_reads_it(tmp_path):
    path = by_hand(tmp_path / "x.pth", {"w": Tensor(stored(view=("2", 1, 2)), 2)}, FOUR)
    assert torch.load(path, weights_only=False)["w"].tolist() == [2.0, 3.0]
    assert read(path)["w"] == ("F32", (2,), struct.pack("<2f", 2.0, 3.0))


@pytest.mark.parametrize(("why", "content", "how"), [
    ("reaches element", Tensor(stored(), 5), {}),
    ("reaches element", Tensor(stored(view=("2", 1, 2)), 3), {}),
    ("reaches beyond", Tensor(stored(view=("2", 3, 2)), 2), {}),
    ("where a size or an offset must be", Tensor(stored(view=("2", -1, 2)), 2), {}),
    ("is described as", Tensor(stored(view=("2", 1)), 2), {}),
    ("is declared with 3 F32", Tensor(stored(count=3), 2), {}),
    ("list of storages", Tensor(stored("7"), 2), {}),
    ("list of storages", Tensor(stored(), 2), {"keys": ["1", "1"]}),
    ("list of storages", Tensor(stored(), 2), {"keys": 7}),
    ("big-endian", Tensor(stored(), 2), {"about": {"little_endian": False}}),
    ("does not begin as", Tensor(stored(), 2), {"about": [1]}),
    ("5 bytes follow", Tensor(stored(), 2), {"tail": b"extra"}),
    ("not carry", Tensor(stored(kind=torch.ComplexFloatStorage), 2), {}),
    ("whole module", Stored("module", torch.nn.Linear, "x.py", "class"), {}),
    ("is no storage", Stored("storage", 3), {}),
])
def test_an_old_file_that_contradicts_itself_is_refused(tmp_path, why, content, how):
    with pytest.raises(UnsafeFile, match=why):
        read(by_hand(tmp_path / "x.pth", {"w": content}, FOUR, **how))


@pytest.mark.parametrize("cut", [1, 9, 20, 24, 60])
def test_a_truncated_old_file_is_refused(tmp_path, cut):
    path = legacy(tmp_path / "x.pth", STATES["plain"])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UnsafeFile):
        read(path)


def test_a_whole_module_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UnsafeFile, match="whole module") as caught:
        read(legacy(tmp_path / "x.pth", torch.nn.Linear(2, 2)))
    assert "state_dict" in caught.value.next


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


def test_an_old_file_that_asks_to_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeFile, match=r"asks to call (posix|nt)\.system"):
        read(legacy(tmp_path / "x.pth", {"w": torch.ones(1), "x": Evil()}))
    assert not (tmp_path / "owned").exists()
