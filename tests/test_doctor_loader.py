"""What the doctor foretells of a file is what fvcore, torch and pickle do with it, for every kind of file."""

from __future__ import annotations

import argparse
import collections
import pickle
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2_loader import Loader
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from zooconv.doctor.causes import explain
from zooconv.doctor.content import looking_into
from zooconv.doctor.loader import Reading, foretell
from zooconv.doctor.matching import match
from zooconv.doctor.pickles import scan


class Model(nn.Module):
    """Two parts, an underscore in a name, a norm with statistics, and a decoder whose norm ends like another's."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.body = nn.Linear(3, 4)
        self.backbone.down_sample = nn.Linear(2, 2)
        self.backbone.bn = nn.BatchNorm2d(2)
        self.decoder = nn.Module()
        self.decoder.norm = nn.LayerNorm(4)


SHAPES = {name: tuple(value.shape) for name, value in Model().state_dict().items()}
BACKBONE = {k: v.clone() for k, v in Model().state_dict().items() if k.startswith("backbone.")}
BARE = {k.removeprefix("backbone."): v for k, v in BACKBONE.items()}
ARRAYS = {k: v.numpy() for k, v in BACKBONE.items()}
BARE_ARRAYS = {k: v.numpy() for k, v in BARE.items()}


def saved(name, content, **how):
    """torch.save under this name."""
    torch.save(content, name, **how)
    return name


def dumped(name, content, protocol=4):
    """pickle.dump under this name."""
    return bytes_of(name, pickle.dumps(content, protocol))


def stored(name, content=BACKBONE):
    """safetensors, whatever the name says."""
    save_file(content, "x.safetensors")
    if name != "x.safetensors":
        shutil.move("x.safetensors", name)
    return name


def numpys(name):
    np.savez("x.npz", **ARRAYS)
    return shutil.move("x.npz", name)


def bytes_of(name, content):
    Path(name).write_bytes(content)
    return name


def cut(name, size):
    return bytes_of(name, Path(name).read_bytes()[:-size])


def script(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), name)
    return name


def numpy_2(name):
    """Arrays as numpy 2 pickles them, whatever numpy is here."""
    return bytes_of(name, pickle.dumps({"model": ARRAYS, "__author__": "x"}, 2).replace(b"numpy.core", b"numpy._core"))


LEGACY = {"_use_new_zipfile_serialization": False}
OLD = np.dtype(">f4")
FILES = {
    # the facts' table, row by row
    "pth": lambda: saved("x.pth", {"model": BACKBONE}),
    "pt": lambda: saved("x.pt", {"model": BACKBONE}),
    "any suffix": lambda: saved("x.weights", {"model": BACKBONE}),
    "no suffix": lambda: saved("x", {"model": BACKBONE}),
    "flat": lambda: saved("x.pth", BACKBONE),
    "state_dict": lambda: saved("x.pth", {"state_dict": BACKBONE}),
    "an ordered state_dict": lambda: saved("x.pth", {"state_dict": collections.OrderedDict(BACKBONE)}),
    "heuristics": lambda: saved("x.pth", {"model": BARE, "matching_heuristics": True}),
    "heuristics asked for": lambda: saved("x.pth", {"model": BARE}) + "?matching_heuristics=True",
    "heuristics refused": lambda: saved("x.pth", {"model": BARE}) + "?matching_heuristics=False",
    "another query": lambda: saved("x.pth", {"model": BACKBONE}) + "?layout=d2",
    "plain extras": lambda: saved("x.pth", {"model": BACKBONE, "a": [1, {"b": "c"}], "n": 3, "f": 0.5, "z": None,
                                            "t": (1, 2), "s": {1}}),
    "a Namespace": lambda: saved("x.pth", {"model": BACKBONE, "args": argparse.Namespace(lr=1)}),
    "a numpy number": lambda: saved("x.pth", {"model": BACKBONE, "best": np.float64(1)}),
    "a numpy array beside": lambda: saved("x.pth", {"model": BACKBONE, "rng": np.zeros(2)}),
    "numpy arrays inside": lambda: saved("x.pth", {"model": ARRAYS}),
    "a number inside": lambda: saved("x.pth", {"model": {**BACKBONE, "version": 1}}),
    "text inside": lambda: saved("x.pth", {**BACKBONE, "version": "x"}),
    "module.": lambda: saved("x.pth", {"model": {f"module.{k}": v for k, v in BACKBONE.items()}}),
    "module. before some": lambda: saved("x.pth", {"model": {**{f"module.{k}": v for k, v in BACKBONE.items()},
                                                             "x": torch.ones(1)}}),
    "module. under heuristics": lambda: saved("x.pth", {"model": {f"module.{k}": v for k, v in BARE.items()},
                                                        "matching_heuristics": True}),
    "half": lambda: saved("x.pth", {"model": {k: v.half() for k, v in BACKBONE.items()}}),
    "bfloat16": lambda: saved("x.pth", {"model": {k: v.bfloat16() for k, v in BACKBONE.items()}}),
    "legacy": lambda: saved("x.pth", {"model": BACKBONE}, **LEGACY),
    "legacy with a Namespace": lambda: saved("x.pth", {"model": BACKBONE, "args": argparse.Namespace()}, **LEGACY),
    "a pickle called .pth": lambda: dumped("x.pth", {"model": BACKBONE}),
    "a pickle of protocol 2": lambda: dumped("x.pth", {"model": BACKBONE}, 2),
    "a pickle of arrays": lambda: dumped("x.pth", {"model": ARRAYS}, 2),
    "a pickle of nothing": lambda: dumped("x.pth", {"model": {}}, 2),
    "pkl": lambda: dumped("x.pkl", {"model": BACKBONE, "__author__": "me"}),
    "pkl of arrays": lambda: dumped("x.pkl", {"model": ARRAYS, "__author__": "me"}),
    "pkl with heuristics": lambda: dumped("x.pkl", {"model": BARE_ARRAYS, "__author__": "m",
                                                    "matching_heuristics": True}),
    "pkl by Caffe2": lambda: dumped("x.pkl", {"model": BARE_ARRAYS, "__author__": "Caffe2",
                                              "matching_heuristics": True}),
    "pkl with a query": lambda: dumped("x.pkl", {"model": BARE, "__author__": "m"}) + "?matching_heuristics=True&x=1",
    "pkl without an author": lambda: dumped("x.pkl", {"model": BACKBONE}),
    "flat pkl": lambda: dumped("x.pkl", BARE_ARRAYS),
    "pkl with blobs": lambda: dumped("x.pkl", {"blobs": {**{k.replace(".", "_"): v for k, v in BARE_ARRAYS.items()},
                                                         "body_w_momentum": np.ones(2)}, "cfg": "x"}),
    "pkl with weight_order": lambda: dumped("x.pkl", {"blobs": {**BARE_ARRAYS, "weight_order": b"x"}}),
    "pkl of torch.save": lambda: saved("x.pkl", {"model": BACKBONE, "__author__": "x"}),
    "pkl of old torch.save": lambda: saved("x.pkl", {"model": BACKBONE, "__author__": "x"}, **LEGACY),
    "pkl of numpy 2": lambda: numpy_2("x.pkl"),
    "pkl with a Namespace": lambda: dumped("x.pkl", {"model": BACKBONE, "__author__": "x",
                                                     "args": argparse.Namespace()}),
    "pyth": lambda: saved("x.pyth", {"model_state": BARE, "epoch": 1}),
    "pyth without model_state": lambda: saved("x.pyth", {"model": BACKBONE}),
    "safetensors": lambda: stored("x.safetensors"),
    "safetensors with a query": lambda: stored("x.safetensors", BARE) + "?matching_heuristics=True",
    "safetensors called .pth": lambda: stored("x.pth"),
    "safetensors called .pkl": lambda: stored("x.pkl"),
    "npz": lambda: numpys("x.npz"),
    "npz called .pkl": lambda: numpys("x.pkl"),
    "npy": lambda: bytes_of("x.npy", b"\x93NUMPY\1\0"),
    # and what people bring besides
    "empty": lambda: bytes_of("x.pth", b""),
    "empty pkl": lambda: bytes_of("x.pkl", b""),
    "a web page": lambda: bytes_of("x.pth", b"<!DOCTYPE html><html>"),
    "a web page called .pkl": lambda: bytes_of("x.pkl", b"<!DOCTYPE html><html>"),
    "a git-lfs pointer": lambda: bytes_of("x.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
    "gzip": lambda: bytes_of("x.pkl", b"\x1f\x8b\x08\0\0\0"),
    "a quote": lambda: bytes_of("x.pkl", b"'"),
    "truncated": lambda: cut(saved("x.pth", {"model": BACKBONE}), 100),
    "truncated, legacy": lambda: cut(saved("x.pth", {"model": BACKBONE}, **LEGACY), 10),
    "TorchScript": lambda: script("x.pth"),
    "a whole module": lambda: saved("x.pth", Model()),
    "a list": lambda: saved("x.pth", [1, 2]),
    "a list called .pkl": lambda: dumped("x.pkl", [1, 2]),
    "a tensor": lambda: saved("x.pth", torch.ones(2)),
    "a number": lambda: saved("x.pth", 3),
    "no model": lambda: saved("x.pth", {"model": None}),
    "an empty model": lambda: saved("x.pth", {"model": {}}),
    "a model in a model": lambda: saved("x.pth", {"model": {"model": BACKBONE}}),
    "averaged weights alone": lambda: saved("x.pth", {"model_ema": BACKBONE, "epoch": 3}),
    "parameters": lambda: saved("x.pth", {"model": {k: nn.Parameter(v) for k, v in BACKBONE.items()
                                                    if v.is_floating_point()}}),
    "protocol 3": lambda: saved("x.pth", {"model": BACKBONE}, pickle_protocol=3),
    "protocol 4": lambda: saved("x.pth", {"model": BACKBONE}, pickle_protocol=4),
    "another shape": lambda: saved("x.pth", {"model": {**BACKBONE, "backbone.body.weight": torch.ones(7, 3)}}),
    "another shape under heuristics": lambda: saved("x.pth", {"model": {**BARE, "body.weight": torch.ones(7, 3)},
                                                              "matching_heuristics": True}),
    "a defaultdict": lambda: saved("x.pth", collections.defaultdict(dict, model=BACKBONE)),
    "whole numbers for names": lambda: saved("x.pth", {"model": {1: torch.ones(1)}}),
    "a norm left over": lambda: saved("x.pth", {"model": {**BARE, "norm.weight": torch.ones(4)},
                                                "matching_heuristics": True}),
    "one name for two": lambda: saved("x.pth", {"model": {"bias": torch.ones(4)}, "matching_heuristics": True}),
    "arrays of objects": lambda: dumped("x.pkl", {"model": {"a": np.array([None])}, "__author__": "x"}),
    "big-endian arrays": lambda: dumped("x.pkl", {"model": {"a": np.ones(2, OLD)}, "__author__": "x"}),
    "a sparse tensor": lambda: saved("x.pth", {"model": {**BACKBONE, "x": torch.eye(3).to_sparse()}}),
}


def what_happens(asked):
    """What the real code does: how it fails, or what it loads, misses, passes over and skips."""
    model, loader = Model(), None
    try:
        loader = Loader(model)
        loader.load(asked)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)
    found = loader.incompatible
    return counted(found.missing_keys), sorted(found.unexpected_keys), sorted(key for key, *_ in found.incorrect_shapes)


def counted(missing):
    """Without the counters of batches, which torch makes itself for files that say nothing of their version."""
    return sorted(name for name in missing if not name.endswith("num_batches_tracked"))


def what_is_foretold(asked):
    path, _, query = asked.partition("?")
    with looking_into(Path(path)) as content:
        reading = foretell(content, query)
        return reading, match(reading, SHAPES)


@pytest.mark.parametrize("kind", FILES)
def test_what_the_doctor_foretells_is_what_happens(work, kind, caplog):
    asked = FILES[kind]()
    reading, found = what_is_foretold(asked)
    happens = what_happens(asked)
    raised = reading.raised or found.raised
    assert reading.unknown == ""
    if raised:
        assert raised.kind == happens[0]
        assert all(part in happens[1] for part in re.sub(r" \(.*", "", raised.text).split(" … ")), raised.text
        assert explain(str(raised)) is not None
    else:
        missing, unexpected, shapes = happens
        assert counted(found.missing) == missing
        assert len(counted(found.loaded)) == len(counted(SHAPES)) - len(missing)
        if not reading.matching:  # with heuristics, both are told in the names that the entries were given
            assert sorted(found.unexpected) == unexpected
            assert sorted(s.name for s in found.skipped) == shapes
        assert len(found.unexpected) + len(found.skipped) == len(unexpected) + len(shapes)


def test_what_it_takes_to_load_safetensors_is_told(work):
    reading, _ = what_is_foretold(stored("x.safetensors"))
    assert "fvcore from PyPI" in reading.fragile


def test_the_names_that_torch_allows_are_those_that_the_doctor_thinks_allowed():
    from torch._weights_only_unpickler import _get_allowed_globals

    def refused(name):
        module, _, last = name.rpartition(".")
        return scan(b"\x80\x02c" + f"{module}\n{last}\n.".encode()).refused

    assert [name for name in _get_allowed_globals() if refused(name)] == []
    assert [name for name in ("numpy.dtype", "builtins.getattr", "argparse.Namespace", "torch.hub.load", "torch.load",
                              "torch.storage._load_from_bytes", "torch.Tensors", "collections.defaultdict")
            if not refused(name)] == []


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_a_scan_of_anything_ends(content):
    scan(b"\x80\x02" + content, 3)
    scan(content)


NAMES = st.lists(st.lists(st.sampled_from(["a", "b", "norm", "w"]), min_size=1, max_size=4).map(".".join), unique=True,
                 max_size=8)


@settings(max_examples=150)
@given(NAMES, NAMES, st.data())
def test_names_are_matched_as_an_exhaustive_search_matches_them(wanted, given_, data):
    """Against the oracle's own search over all pairs, shapes included."""
    from detectron2_loader import aligned

    sizes = st.integers(1, 2)
    model = {name: (data.draw(sizes),) for name in wanted}
    entries = {name: (data.draw(sizes),) for name in given_}
    found = match(Reading(entries, matching=True), model)
    told = found.raised.text if found.raised else ""
    try:
        real = aligned({k: torch.empty(s) for k, s in model.items()}, {k: torch.empty(s) for k, s in entries.items()})
    except ValueError as error:
        real, why = None, str(error)
    assert (told == "") == (real is not None)
    assert real is not None or why in told
    if real is not None:
        assert sorted(found.loaded) == sorted(k for k in real if k in model and tuple(real[k].shape) == model[k])
