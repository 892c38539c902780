"""Our reader of torch's zip files: what torch.load gives, without torch and without running anything."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import UnsafeFile
from zooconv.tensor import DTYPES

TORCH = {name: getattr(torch, known.torch) for name, known in DTYPES.items()}


def read(path, **options):
    with open_checkpoint(path, **options) as checkpoint:
        return {name: (t.dtype, t.shape, t.array().tobytes()) for name, t in checkpoint.tensors.items()}


def expected(state):
    """What a state dict is, by torch: little-endian, dense, in C order."""
    return {name: ({v: k for k, v in TORCH.items()}[t.dtype], tuple(t.shape),
                   bytes(t.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).numpy())
                   if t.numel() else b"")
            for name, t in state.items()}


def flat(tensor):
    return tensor.reshape(-1) if tensor.dim() == 0 else tensor


BASE = torch.arange(24.0).reshape(4, 6)
STATES = {
    "plain": {"w": torch.randn(3, 4), "b": torch.randn(3)},
    "a parameter": {"w": torch.nn.Parameter(torch.randn(2, 2))},
    "a view": {"w": BASE[1:3, 2:5]},
    "a transposed view": {"w": BASE.t()},
    "every second element": {"w": BASE[:, ::2]},
    "an expanded one": {"w": torch.ones(1, 3).expand(4, 3)},
    "tied ones": {"a": BASE, "b": BASE},
    "two views of one storage": {"a": BASE[0], "b": BASE[1]},
    "an empty one": {"w": torch.zeros(0, 5)},
    "channels last": {"w": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)},
    **{dtype: {"w": (torch.arange(8) % 2).to(kind).reshape(2, 4)} for dtype, kind in TORCH.items()},
}


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: collections.OrderedDict(state_dict=s)],
                         ids=["bare", "model", "state_dict"])
def test_a_state_dict_is_read_as_torch_has_it(tmp_path, kind, wrap):
    torch.save(wrap(STATES[kind]), tmp_path / "x.pth")
    assert read(tmp_path / "x.pth") == expected({n: flat(t) if t.dim() == 0 else t for n, t in STATES[kind].items()})


def test_a_scalar_is_read(tmp_path):
    torch.save({"n": torch.tensor(7)}, tmp_path / "x.pth")
    assert read(tmp_path / "x.pth") == {"n": ("I64", (), struct.pack("<q", 7))}


@settings(max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_any_view_is_read_as_torch_has_it(tmp_path_factory, sizes, data):
    path = tmp_path_factory.getbasetemp() / "view.pth"
    tensor = torch.arange(float(np.prod(sizes))).reshape(sizes).permute(data.draw(st.permutations(range(len(sizes)))))
    for axis, size in enumerate(tensor.shape):
        start = data.draw(st.integers(0, size - 1))
        tensor = tensor.narrow(axis, start, data.draw(st.integers(1, size - start)))
    torch.save({"w": tensor}, path)
    assert read(path) == expected({"w": tensor})


def test_many_tensors_and_long_names_are_read(tmp_path):
    state = {f"{'block.' * 30}{i}.weight": torch.full((2,), float(i)) for i in range(1500)}
    torch.save({"model": state}, tmp_path / "x.pth")
    assert read(tmp_path / "x.pth") == expected(state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path, protocol):
    torch.save({"model": STATES["plain"]}, tmp_path / "x.pth", pickle_protocol=protocol)
    assert read(tmp_path / "x.pth") == expected(STATES["plain"])


class Project:
    """A class of somebody's training code."""

    def __init__(self):
        self.depth = 4


def test_what_stands_beside_the_weights_is_inert_and_named(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    torch.save({"model": STATES["plain"], "epoch": 3, "args": argparse.Namespace(lr=0.1, out="x"),
                "best": np.float64(81.2), "rng": np.arange(3), "project": Project(),
                "optimizer": optimizer.state_dict(), "seen": {1, 2}}, tmp_path / "x.pth")
    with open_checkpoint(tmp_path / "x.pth") as checkpoint:
        assert checkpoint.wrapper == ("model",)
        beside = " ".join(checkpoint.beside)
    assert "args (a argparse.Namespace)" in beside
    assert "epoch (a int)" in beside
    assert read(tmp_path / "x.pth") == expected(STATES["plain"])


def test_tied_tensors_are_told(tmp_path):
    torch.save(STATES["tied ones"], tmp_path / "x.pth")
    with open_checkpoint(tmp_path / "x.pth") as checkpoint:
        assert checkpoint.tied == [("a", "b")]


# -- what is refused ---------------------------------------------------------------------------------------------------


class Payload:
    """A pickle that would run a command when torch's unpickler is told to trust it."""

    def __init__(self, function, *args):
        self.what = function, args

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("payload", [
    Payload(__import__("os").system, "touch /tmp/owned"), Payload(eval, "1"), Payload(exec, "1"), Payload(open, "x"),
    Payload(__import__("subprocess").check_output, ["id"]), Payload(getattr, "x", "y"), Payload(__import__, "os"),
], ids=lambda p: p.what[0].__name__)
@pytest.mark.parametrize("place", [lambda p: {"model": {"w": torch.ones(1)}, "beside": p},
                                   lambda p: {"w": torch.ones(1), "x": p}], ids=["beside", "among"])
def test_a_payload_is_refused_and_not_run(tmp_path, payload, place):
    torch.save(place(payload), tmp_path / "x.pth")
    with pytest.raises(UnsafeFile, match="asks to call") as caught:
        read(tmp_path / "x.pth")
    assert "nothing was executed" in str(caught.value)


@pytest.mark.parametrize(("content", "word"), [
    ({"model": {"w": torch.ones(1), "epoch": 3}}, "no tensor"),
    ({"model": {"w": torch.ones(1), "inner": {"v": torch.ones(1)}}}, "no tensor"),
    ({"w": torch.ones(2).to_sparse()}, "no tensor"),
    ({"w": torch.ones(2, dtype=torch.complex64)}, "ComplexFloatStorage"),
    ({3: torch.ones(1)}, "a tensor's name is a int"),
    ({"": torch.ones(1)}, "empty"),
    ({"a\x1b[2Jb": torch.ones(1)}, "control characters"),
    ({"__metadata__": torch.ones(1)}, "__metadata__"),
    ({"epoch": 3}, "no weights"),
    ([torch.ones(1)], "no weights"),
    (torch.nn.Linear(2, 2), "no weights"),
])
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_state_dict_is_refused(tmp_path, content, word):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UnsafeFile, match=word):
        read(tmp_path / "x.pth")


@pytest.fixture
def archive(tmp_path):
    """A good file, and a function that writes it again with its records changed."""
    torch.save({"model": {"w": torch.arange(100.0), "v": torch.arange(50.0)}}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good:
        records = [(info.filename, good.read(info)) for info in good.infolist()]

    def rewrite(change=lambda name, data: [(name, data)], compress=zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / "bad.pth", "w", compress) as bad:
            for name, data in (pair for record in records for pair in change(*record)):
                bad.writestr(name, data)
        return tmp_path / "bad.pth"

    return rewrite


def swap_bytes(data, old, new):
    assert old in data
    return data.replace(old, new)


def on(ending, change):
    """Change the records whose names end like this: to other data, or, for None, to nothing."""
    def edit(name, data):
        if not name.endswith(ending):
            return [(name, data)]
        changed = change(data)
        return [] if changed is None else [(name, changed)]
    return edit


BAD_ARCHIVES = {
    "a deflated storage": ({"compress": zipfile.ZIP_DEFLATED}, "compressed"),
    "a storage too short": (on("data/0", lambda d: d[:-4]), "declared with 100"),
    "a storage too long": (on("data/0", lambda d: d + b"\0" * 4), "declared with 100"),
    "a storage missing": (on("data/0", lambda d: None), "not in the file"),
    "no pickle": (on(".pkl", lambda d: None), "no data.pkl"),
    "no version": (on("/version", lambda d: None), "no version"),
    "two folders": (lambda n, d: [(n.replace("good", "evil") if n.endswith("/0") else n, d)], "one folder"),
    "a path that climbs": (lambda n, d: [(n, d), (f"{n}/../../x", b"")], "one folder"),
    "big-endian": (on("byteorder", lambda d: b"big"), "byte order"),
    "TorchScript": (lambda n, d: [(n, d), ("good/constants.pkl", b"")] if n.endswith("data.pkl") else [(n, d)],
                    "TorchScript"),
    "a view past its storage": (on(".pkl", lambda d: swap_bytes(d, b"Kd\x85", b"Ke\x85")), "reaches element 100"),
    "a pickle cut short": (on(".pkl", lambda d: d[:-20]), "malformed"),
    "an opcode of no checkpoint": (on(".pkl", lambda d: b"\x80\x02i"), "opcode"),
    "a name set twice": (on(".pkl", lambda d: swap_bytes(d, b"X\x01\0\0\0v", b"X\x01\0\0\0w")), "'w' is set twice"),
}


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_a_bad_archive_is_refused(archive, kind):
    change, word = BAD_ARCHIVES[kind]
    bad = archive(**change) if isinstance(change, dict) else archive(change)
    with pytest.raises(UnsafeFile, match=word):
        read(bad)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_that_stands_twice_is_refused(archive):
    with pytest.raises(UnsafeFile, match="twice"):
        read(archive(lambda n, d: [(n, d)] * 2 if n.endswith("data/0") else [(n, d)]))


@pytest.mark.parametrize("edit", [
    lambda d: d[: len(d) // 2], lambda d: d[:-1], lambda d: d + b"x", lambda d: b"x" + d, lambda d: d[:30],
    lambda d: b"",
], ids=["half", "one byte less", "one byte more", "one byte before", "a stump", "nothing"])
def test_a_file_cut_or_padded_is_refused(tmp_path, edit):
    torch.save(STATES["plain"], tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes(edit((tmp_path / "x.pth").read_bytes()))
    with pytest.raises(UnsafeFile):
        read(tmp_path / "x.pth")


def test_records_that_overlap_are_refused(tmp_path):
    torch.save({"a": torch.arange(4.0), "b": torch.arange(4.0)}, tmp_path / "x.pth")
    data = bytearray((tmp_path / "x.pth").read_bytes())
    with zipfile.ZipFile(io.BytesIO(data)) as good:
        first = next(i for i in good.infolist() if i.filename.endswith("data/0"))
        at = data.find(first.filename.encode(), good.start_dir) - 46
        other = data.find(b"data/1", good.start_dir) - len(first.filename) + len("data/1") - 46
    data[other + 42:other + 46] = data[at + 42:at + 46]  # the second record's offset becomes the first's
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(UnsafeFile, match=r"overlap|contradicts"):
        read(tmp_path / "x.pth")


@settings(max_examples=150)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_crashes_the_reader(tmp_path_factory, at, flip):
    """Whatever the damage: the file is read, or refused in plain words."""
    folder = tmp_path_factory.getbasetemp()
    torch.save({"model": {"w": torch.arange(10.0), "b": torch.ones(3)}}, folder / "flip.pth")
    data = bytearray((folder / "flip.pth").read_bytes())
    data[at % len(data)] ^= flip
    (folder / "flip.pth").write_bytes(data)
    with suppress(UnsafeFile):
        read(folder / "flip.pth")


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_pickle_is_read_or_refused(data):
    from zooconv.checkpoint import pickle_vm

    with suppress(UnsafeFile):
        pickle_vm.load(data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)),
       st.integers(2, 5))
def test_plain_data_are_read_as_pickle_reads_them(value, protocol):
    from zooconv.checkpoint import pickle_vm

    data = pickle.dumps(value, protocol)
    if b"_codecs" in data or b"\nbytes\n" in data:
        return  # bytes travel as a call in protocol 2, and calls stay inert
    assert pickle_vm.load(data) == value


def test_a_bomb_of_nested_tuples_is_read_at_once():
    from zooconv.checkpoint import pickle_vm

    # (((), ()), ((), ())) … sixty deep, then used as a key: hashing it would take longer than the sun will shine
    pickle_vm.load(b"\x80\x02}(" + b")" + b"2\x86" * 60 + b"Nu.")


@pytest.mark.parametrize(("content", "word"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"), (b"\x1f\x8b\x08\0", "gzip"),
    (b"<!doctype html>", "web page"), (pickle.dumps({"a": 1}), "holds no weights"), (b"\x93NUMPY\1\0", "numpy"),
    (b"nothing that anyone knows", "no checkpoint that zooconv knows"), (b"PK\5\6" + b"\0" * 18, "no checkpoint"),
])
def test_other_files_are_told_by_their_first_bytes(tmp_path, content, word):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UnsafeFile, match=word):
        read(tmp_path / "x.pth")
