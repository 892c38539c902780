"""Our reader of torch tensors that were pickled without torch.save: what pickle gives, without running anything."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plain_pickle import ARRAYS, PROTOCOLS, Payload, read, write

from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import UnsafeFile, UsageError
from zooconv.tensor import DTYPES

# those that torch itself unpickles
KINDS = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]


def expected(tensors):
    return {name: (spelled(t), tuple(t.shape), raw(t)) for name, t in tensors.items()}


def spelled(tensor):
    return next(name for name, dtype in DTYPES.items() if f"torch.{dtype.torch}" == str(tensor.dtype))


def raw(tensor):
    dense = tensor.detach().contiguous().reshape(-1)
    return bytes(dense.view(torch.uint8).numpy()) if dense.numel() else b""


BASE = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
TENSORS = {
    "a few": {"w": BASE, "b": torch.ones(3)},
    "a scalar": {"w": torch.tensor(7.5)},
    "an empty one": {"w": torch.zeros(0, 5)},
    "axes in another order": {"w": BASE.permute(1, 2, 0)},
    "a view of a part": {"w": BASE[:, 1:, ::2]},
    "one that repeats itself": {"w": torch.arange(3.0).expand(4, 3)},
    "a parameter": {"w": torch.nn.Parameter(BASE)},
    "one under two names": {"a": BASE, "b": BASE},
    "a large one": {"w": torch.arange(1e5)},
    "a state dict": torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict(),
    **{kind: {"w": torch.arange(8).reshape(2, 4).to(getattr(torch, DTYPES[kind].torch))} for kind in KINDS},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_are_read_as_torch_has_them(tmp_path, kind, protocol):
    path = write(tmp_path / "x.pkl", {"model": TENSORS[kind], "__author__": "third_party"}, protocol)
    assert read(path) == expected(TENSORS[kind])
    path.write_bytes(pickletools.optimize(path.read_bytes()))  # without a memo of what is used once
    assert read(path) == expected(TENSORS[kind])


@settings(max_examples=60)
@given(st.sampled_from(PROTOCOLS), st.sampled_from(KINDS), st.lists(st.integers(0, 5), max_size=4), st.data())
def test_any_tensor_is_read_as_torch_has_it(tmp_path_factory, protocol, kind, sizes, data):
    size = torch.Size(sizes).numel() * DTYPES[kind].size
    content = bytearray(data.draw(st.binary(min_size=size, max_size=size)) if kind != "BOOL" else bytes(size))
    dtype = getattr(torch, DTYPES[kind].torch)
    tensor = torch.frombuffer(content, dtype=dtype).reshape(sizes) if size else torch.zeros(sizes, dtype=dtype)
    tensor = tensor.permute(data.draw(st.permutations(range(len(sizes)))))
    path = write(tmp_path_factory.getbasetemp() / "any.pkl", {"w": tensor, "again": tensor}, protocol)
    assert read(path) == expected({"w": tensor, "again": tensor})
    assert raw(pickle.loads(path.read_bytes())["w"]) == raw(tensor)  # the control


@pytest.mark.parametrize(("protocol", "held"), [(2, True), (3, False), (4, False), (5, False)])
def test_elements_stay_in_the_file_where_they_are_bytes(tmp_path, protocol, held):
    with open_checkpoint(write(tmp_path / "x.pkl", {"w": torch.arange(1000.0)}, protocol)) as checkpoint:
        tensor = checkpoint.tensors["w"]
        assert (tensor.file is checkpoint.files[0]) is not held
        assert tensor.fills_record


# -- what is refused ---------------------------------------------------------------------------------------------------


def legacy(tensor=BASE):
    """What torch pickles a tensor's storage as."""
    return tensor.__reduce_ex__(2)[1][0].__reduce__()[1][0]


def with_storage(content, protocol=3):
    """A pickle of one tensor whose storage is this string of bytes."""
    rebuild, (storage, *rest), *_ = BASE.__reduce_ex__(2)
    load = storage.__reduce__()[0]
    return pickle.dumps({"w": Payload(rebuild, Payload(load, content), *rest)}, protocol)


def test_a_storage_that_is_put_together_for_these_tests_is_torchs(tmp_path):
    """The control of those below."""
    assert torch.equal(pickle.loads(with_storage(legacy()))["w"], BASE)
    (tmp_path / "x.pkl").write_bytes(with_storage(legacy()))
    assert read(tmp_path / "x.pkl") == expected({"w": BASE})


def changed(old, new, count=1):
    content = legacy()
    assert old in content
    return content.replace(old, new, count)


def zipped():
    out = io.BytesIO()
    torch.save(BASE, out)
    return out.getvalue()


@pytest.mark.parametrize(("content", "word"), [
    (lambda: legacy()[:-1], "ends inside storage"),
    (lambda: legacy() + b"\0", "1 bytes follow"),
    (lambda: legacy()[:100], "malformed"),
    (lambda: b"", "malformed"),
    (lambda: changed(b"\x18\0\0\0\0\0\0\0", b"\x17\0\0\0\0\0\0\0"), "4 bytes follow"),
    (lambda: changed(b"\x18\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"), "-1 where a size"),
    (lambda: changed(b"M\xe9\x03.", b"M\xea\x03."), "does not begin as"),
    (lambda: changed(b"q\x02\x88", b"q\x02\x89"), "big-endian"),
    (lambda: changed(b"FloatStorage", b"DoubleStorage"), "ends inside storage"),
    (lambda: changed(b"FloatStorage", b"QInt8Storage"), "which zooconv does not carry"),
    (lambda: changed(b"ctorch\nFloatStorage", b"cos\nsystem"), "asks to call os.system"),
    (lambda: changed(b"X\x07\0\0\0storage", b"X\x06\0\0\0module"), "a whole module"),
    (lambda: changed(b"Ntq", b"\x88tq"), "a part of storage"),
    (zipped, "malformed|opcode"),
], ids=["short", "long", "cut", "empty", "count", "no count", "version", "byte order", "wider", "quantised", "payload",
        "no storage", "a view", "zip"])
def test_a_storage_that_contradicts_itself_is_refused(tmp_path, content, word):
    (tmp_path / "x.pkl").write_bytes(with_storage(content()))
    with pytest.raises(UnsafeFile, match=word):
        read(tmp_path / "x.pkl")


class View:
    """A tensor with a view of its own on a storage of 24 float32."""

    def __init__(self, *view):
        self.view = view

    def __reduce__(self):
        rebuild, (storage, *_), *_ = BASE.__reduce_ex__(2)
        return rebuild, (storage, *self.view, False, {})


@pytest.mark.parametrize(("view", "word"), [
    ((1, (2, 3, 4), (12, 4, 1)), "reaches element 24"), ((0, (25,), (1,)), "reaches element 24"),
    ((-1, (2,), (1,)), "where a size"), ((0, (2,), (-1,)), "where a size"), ((0, (True,), (1,)), "where a size"),
    ((0, (2,), ()), "1 sizes and 0 strides"), ((0, (1,) * 65, (1,) * 65), "65 sizes"),
    ((0, (1 << 40,), (0,)), "expands storage"), ((0, [2], [1]), "not a view"), ((), "malformed"),
], ids=str)
def test_a_view_that_leaves_its_storage_is_refused(tmp_path, view, word):
    with pytest.raises(UnsafeFile, match=word):
        read(write(tmp_path / "x.pkl", {"w": View(*view)}))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("payload", [Payload(os.system, "touch owned"), Payload(torch.load, "x")], ids=["os", "torch"])
def test_a_payload_beside_tensors_is_refused_and_not_run(work, payload, protocol):
    with pytest.raises(UnsafeFile, match="nothing was executed"):
        read(write(work / "x.pkl", {"w": BASE, "x": payload}, protocol))
    with pytest.raises(UnsafeFile):
        read(write(work / "x.pkl", {"w": Payload(torch.storage._load_from_bytes, payload)}, protocol))
    assert not (work / "owned").exists()


@pytest.mark.parametrize("value", [
    torch.zeros(2, 2).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.zeros(2, device="meta"), torch.Size([2]),
], ids=["sparse", "complex", "meta", "a size"])
def test_what_is_no_dense_tensor_is_refused_among_the_weights(tmp_path, value):
    with pytest.raises(UnsafeFile):
        read(write(tmp_path / "x.pkl", {"w": BASE, "odd": value}))


FEW = {"arrays": ARRAYS["a few"], "tensors": TENSORS["a few"]}


@settings(max_examples=300)
@given(st.sampled_from(sorted(FEW)), st.sampled_from(PROTOCOLS), st.integers(0), st.binary(max_size=4))
def test_a_pickle_with_other_bytes_anywhere_is_read_or_refused_plainly(tmp_path_factory, kind, protocol, at, other):
    content = bytearray(pickle.dumps({"model": FEW[kind], "__author__": "x"}, protocol))
    at = 2 + at % (len(content) - 2)
    content[at:at + len(other)] = other
    path = tmp_path_factory.getbasetemp() / "odd.pkl"
    path.write_bytes(content)
    with suppress(UnsafeFile, UsageError):
        assert all(dtype in DTYPES for dtype, _, _ in read(path).values())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", FEW)
def test_a_truncated_pickle_is_refused_wherever_it_ends(tmp_path, kind, protocol):
    content = pickle.dumps(FEW[kind], protocol)
    for end in range(2, len(content), 7):
        (tmp_path / "x.pkl").write_bytes(content[:end])
        with pytest.raises(UnsafeFile):
            read(tmp_path / "x.pkl")
