"""Our reader of plain pickles: what Python's own unpickler makes of arrays and tensors, without running anything."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import UnsafeFile, UsageError
from zooconv.testing.checkpoints import dtype_of

PROTOCOLS = [2, 3, 4, 5]
NUMBERS = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def read(path, **options):
    with open_checkpoint(path, **options) as checkpoint:
        return {name: (t.dtype, t.shape, t.array().tobytes()) for name, t in checkpoint.tensors.items()}


def expected(arrays):
    return {name: (dtype_of(a), a.shape, a.tobytes()) for name, a in arrays.items()}


def write(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


BASE = np.arange(24, dtype="f4").reshape(2, 3, 4)
ARRAYS = {
    "a few": {"w": BASE, "b": np.ones(3, "f4")},
    "a scalar": {"w": np.array(7.5, "f4")},
    "Fortran's order": {"w": np.asfortranarray(BASE)},
    "axes in another order": {"w": BASE.transpose(1, 2, 0)},
    "a view": {"w": BASE[:, 1:, ::2]},
    "an empty one": {"w": np.zeros((0, 5), "f4")},
    "one that cannot be written": {"w": np.frombuffer(BASE.tobytes(), "f4")},
    "one under two names": {"a": BASE, "b": BASE},
    "more than a block": {"a": np.arange(1e5, dtype="f8"), "b": BASE, "c": np.arange(1e5, dtype="f8")[::-1].copy()},
    **{kind: {"w": (np.arange(8) % 2).astype(kind).reshape(2, 4)} for kind in NUMBERS},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_read_as_numpy_has_them(tmp_path, kind, protocol):
    path = write(tmp_path / "x.pkl", ARRAYS[kind], protocol)
    assert read(path) == expected(ARRAYS[kind])
    path.write_bytes(pickletools.optimize(path.read_bytes()))  # without a memo of what is used once
    assert read(path) == expected(ARRAYS[kind])


@settings(max_examples=60)
@given(st.sampled_from(PROTOCOLS), st.sampled_from(NUMBERS), st.lists(st.integers(0, 6), max_size=4), st.data())
def test_any_array_is_read_as_numpy_has_it(tmp_path_factory, protocol, kind, sizes, data):
    content = data.draw(st.binary(min_size=int(np.prod(sizes)) * np.dtype(kind).itemsize,
                                  max_size=int(np.prod(sizes)) * np.dtype(kind).itemsize))
    array = np.frombuffer(content, kind).reshape(sizes).transpose(data.draw(st.permutations(range(len(sizes)))))
    array = array.copy("K") if data.draw(st.booleans()) else array
    path = write(tmp_path_factory.getbasetemp() / "any.pkl", {"w": array, "again": array}, protocol)
    assert read(path) == expected({"w": array, "again": array})


def python2(arrays, bits="f4"):
    """The bytes that cPickle of Python 2.7 makes, with a numpy of its time: strings of bytes for all texts."""
    def string(content):
        content = content if isinstance(content, bytes) else content.encode()
        return (b"U" + bytes([len(content)]) if len(content) < 256 else b"T" + len(content).to_bytes(4, "little")
                ) + content

    out = b"\x80\x02}("
    for name, a in arrays.items():
        shape = b"(" + b"".join(b"K" + bytes([n]) for n in a.shape) + b"t"
        out += (string(name) + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
                + b"(K\x01" + shape + b"cnumpy\ndtype\n" + string(bits) + b"K\x00K\x01\x87R"
                + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + string(a.tobytes()) + b"tb")
    return out + b"u."


def test_a_pickle_of_python_2_is_read(tmp_path):
    arrays = {"conv1_w": np.random.default_rng(0).random((8, 3, 7, 7), "f4"), "res_conv1_bn_s": np.ones(8, "f4")}
    (tmp_path / "R-50.pkl").write_bytes(python2(arrays))
    loaded = pickle.loads(python2(arrays), encoding="latin1")
    assert all(np.array_equal(loaded[n], a) for n, a in arrays.items())
    assert read(tmp_path / "R-50.pkl") == expected(arrays)


@pytest.mark.parametrize("protocol", [2, 3])
def test_numpy_1_and_2_call_their_rooms_differently(tmp_path, protocol):
    content = pickle.dumps(ARRAYS["a few"], protocol)
    old, new = (content.replace(b"numpy._core", b"numpy.core"), content.replace(b"numpy.core", b"numpy._core"))
    assert old != new
    for spelled in (old, new):
        (tmp_path / "x.pkl").write_bytes(spelled)
        assert read(tmp_path / "x.pkl") == expected(ARRAYS["a few"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_stands_beside_the_weights_is_inert_and_named(tmp_path, protocol):
    path = write(tmp_path / "x.pkl", {
        "model": ARRAYS["a few"], "__author__": "somebody", "matching_heuristics": True, "lr": np.float64(0.1),
        "meta": {"names": np.array(["a", "b"], object)}, "args": argparse.Namespace(lr=0.1), "steps": [np.arange(3)],
    }, protocol)
    with open_checkpoint(path) as checkpoint:
        assert (checkpoint.format, checkpoint.wrapper) == ("pickle", ("model",))
        beside = " ".join(checkpoint.beside)
    assert "__author__ (a str)" in beside
    assert "args (a argparse.Namespace)" in beside
    assert read(path) == expected(ARRAYS["a few"])


def test_detectrons_blobs_are_found_and_several_sets_are_asked_about(tmp_path):
    blobs = write(tmp_path / "blobs.pkl", {"blobs": ARRAYS["a few"], "cfg": "MODEL:\n" * 100})
    assert read(blobs) == expected(ARRAYS["a few"])
    both = write(tmp_path / "both.pkl", {"model": ARRAYS["a few"], "model_ema": ARRAYS["a view"]}, 4)
    with pytest.raises(UsageError, match="averaged weights"):
        read(both)
    assert read(both, ema=True) == expected(ARRAYS["a view"])


def test_elements_stay_in_the_file_where_they_are_bytes(tmp_path):
    array = np.arange(1000, dtype="f4")
    for protocol, held in ((2, 4000), (3, 0), (4, 0), (5, 0)):
        with open_checkpoint(write(tmp_path / "x.pkl", {"w": array}, protocol)) as checkpoint:
            tensor = checkpoint.tensors["w"]
            assert (tensor.file is checkpoint.files[0]) == (held == 0)
            assert held in (0, tensor.file.size)
    with open_checkpoint(write(tmp_path / "x.pkl", {"a": array, "b": array}, 2)) as checkpoint:
        assert checkpoint.tied == [("a", "b")]
        assert checkpoint.tensors["a"].file.size == 4000  # held once


# -- what is refused ---------------------------------------------------------------------------------------------------


class Payload:
    """A pickle that would run something in an unpickler that trusts it."""

    def __init__(self, function, *args):
        self.what = function, args

    def __reduce__(self):
        return self.what

    def __str__(self):
        return self.what[0].__name__


class State:
    """An array whose state is a payload, not numpy's."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        rebuild, args, _ = np.zeros(0).__reduce__()
        return rebuild, args, self.state


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("payload", [
    Payload(os.system, "touch owned"), Payload(eval, "open('owned', 'w')"), Payload(exec, "1"), Payload(np.load, "x"),
    State(Payload(os.system, "touch owned")), State((1, (1,), Payload(eval, "1"), False, b"")),
], ids=["system", "eval", "exec", "numpy.load", "a state", "a dtype"])
def test_a_payload_is_refused_and_not_run(work, payload, protocol):
    for tree in ({"w": BASE, "x": payload}, {"model": {"w": BASE}, "__author__": payload}):
        with pytest.raises(UnsafeFile, match="asks to call") as caught:
            read(write(work / "x.pkl", tree, protocol))
        assert "nothing was executed" in str(caught.value)
    assert not (work / "owned").exists()


class Sub(np.ndarray):
    """A class of somebody's code."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("value", "word"), [
    (np.array([1, "x", None], object), "an array of Python objects"), (np.ones(2, ">f4"), "dtype >f4"),
    (np.ones(2, "c8"), "dtype <c8"), (np.array(["a"]), "dtype <U1"), (np.zeros(2, "M8[s]"), "dtype"),
    (np.zeros(2, [("x", "f4")]), "dtype"), (np.ones(2, "f4").view(Sub), "a subclass of numpy's array"),
    (np.float32(1), "scalar"), (3, "a int"), ("text", "a str"), ([1.0], "a list"), (Payload(print, "x"), "print"),
], ids=str)
def test_what_is_no_plain_array_of_numbers_is_refused_among_the_weights(tmp_path, value, word, protocol):
    path = write(tmp_path / "x.pkl", {"w": BASE, "odd": value}, protocol)
    with pytest.raises(UnsafeFile, match="no tensor that zooconv reads") as caught:
        read(path)
    assert "odd: " in caught.value.why[0]
    assert word in caught.value.why[0]


F4 = np.dtype("f4")


@pytest.mark.parametrize(("state", "word"), [
    ((1, (4,), F4, False, b"123"), "has 3 bytes, where F32 4 has 16"),
    ((1, (2, -2), F4, False, b""), "where a size"), ((1, (True,), F4, False, b"1234"), "where a size"),
    ((1, (2.0,), F4, False, b"12345678"), "where a size"), ((1, [2], F4, False, b"12345678"), "for a shape"),
    ((1, (1,) * 65, F4, False, b"1234"), "for a shape"), ((1, (1,), F4, False, [1]), "are a list"),
    ((1, (1,), F4, False, "€uro"), "are a str"), ((1, (1,), "f4", False, b"1234"), "no dtype"),
    ((2, (1,), F4, False, b"1234"), "no state"), ((1, (1,), F4), "no state"), (None, "no state"),
    ((1, (1 << 61, 1 << 61), F4, False, b"1234"), "bytes"),
], ids=str)
def test_an_array_that_contradicts_itself_is_refused(tmp_path, state, word):
    with pytest.raises(UnsafeFile, match=word):
        read(write(tmp_path / "x.pkl", {"w": State(state)}, 3))


def test_a_shape_that_nests_deeply_is_refused_plainly(tmp_path):
    deep = pickle.dumps({"w": State((1, "deep", F4, False, b"1234"))}, 3)
    place = b"X\x04\x00\x00\x00deep"
    assert place in deep
    (tmp_path / "x.pkl").write_bytes(deep.replace(place, b")" + b"\x85" * 100_000))
    with pytest.raises(UnsafeFile):
        read(tmp_path / "x.pkl")


@pytest.mark.parametrize("arguments", [
    (b"1234", F4, (1,), "A"), (b"1234", F4, (1,), "K"), (b"1234", F4, (1,), "K", (1,)),
    (b"1234", F4, (1,), "K", ("0",)), (b"1234", F4, (1,), "K", (0, 0)), (b"1234", F4),
    (b"1234", None, (1,), "C"), (b"1234", F4, (2,), "C"),
], ids=str)
def test_a_buffer_that_contradicts_itself_is_refused(tmp_path, arguments):
    rebuild = np.ones(1).__reduce_ex__(5)[0]
    with pytest.raises(UnsafeFile):
        read(write(tmp_path / "x.pkl", {"w": Payload(rebuild, *arguments)}, 5))


def test_trees_that_hold_themselves_end(tmp_path):
    tree: dict[str, object] = {"w": BASE}
    tree["self"] = tree
    with pytest.raises(UnsafeFile):
        read(write(tmp_path / "x.pkl", tree))
    wide = {"w": BASE}
    for _ in range(20):
        wide = {str(i): wide for i in range(20)}
    with pytest.raises((UnsafeFile, UsageError)):
        read(write(tmp_path / "x.pkl", {"model": wide}))


def test_a_text_that_is_too_long_is_not_read(tmp_path):
    with (tmp_path / "x.pkl").open("wb") as file:
        file.write(b"\x80\x02X" + (2 << 30).to_bytes(4, "little"))
        file.truncate(3 << 30)
    with pytest.raises(UnsafeFile, match="a text of 2,147,483,648 bytes"):
        read(tmp_path / "x.pkl")


def test_numpys_own_unpickler_reads_what_the_tests_write():
    """The control: what is called an array's pickle here is one."""
    for protocol in PROTOCOLS:
        for arrays in ARRAYS.values():
            loaded = pickle.load(io.BytesIO(pickle.dumps(arrays, protocol)))
            assert all(np.array_equal(loaded[n], a) for n, a in arrays.items())
