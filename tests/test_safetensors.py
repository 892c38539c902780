"""Our reader of safetensors: what the reference library gives, and nothing that it would have to guess."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import SourceUnavailable, UnsafeFile
from zooconv.tensor import DTYPES


def read(path):
    with open_checkpoint(path) as checkpoint:
        return {name: (t.dtype, t.shape, t.array().tobytes()) for name, t in checkpoint.tensors.items()}


def file_of(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {"F8_E8M0"}))
def test_every_dtype_is_read_as_the_library_wrote_it(tmp_path, dtype):
    tensor = (torch.arange(6) % 2).to(getattr(torch, DTYPES[dtype].torch)).reshape(2, 3)
    save_file({"w": tensor}, tmp_path / "x.safetensors")
    assert read(tmp_path / "x.safetensors") == {"w": (dtype, (2, 3), bytes(tensor.flatten().view(torch.uint8).numpy()))}


def test_metadata_scalars_and_empty_tensors_are_read(tmp_path):
    save_file({"n": torch.tensor(7), "e": torch.zeros(0, 3)}, tmp_path / "x.safetensors", {"format": "pt"})
    assert read(tmp_path / "x.safetensors") == {"n": ("I64", (), struct.pack("<q", 7)), "e": ("F32", (0, 3), b"")}


def entry(begin, end, shape=None, dtype="U8"):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


BAD = {
    "an overlap": ({"a": entry(0, 4), "b": entry(2, 6)}, b"\0" * 6, "overlap"),
    "a hole": ({"a": entry(0, 4), "b": entry(6, 8)}, b"\0" * 8, "hole"),
    "bytes too many": ({"a": entry(0, 4)}, b"\0" * 5, "describes"),
    "bytes too few": ({"a": entry(0, 4)}, b"\0" * 3, "should have|describes"),
    "a size that contradicts the shape": ({"a": entry(0, 4, [3])}, b"\0" * 4, "should have 3"),
    "an unknown dtype": ({"a": entry(0, 4, dtype="F4")}, b"\0" * 4, "dtype F4"),
    "a negative size": ({"a": entry(0, 4, [-4])}, b"\0" * 4, "shape"),
    "a fractional size": ({"a": entry(0, 4, [4.0])}, b"\0" * 4, "shape"),
    "an entry that is none": ({"a": [0, 4]}, b"\0" * 4, "not a dtype"),
    "an unknown field": ({"a": entry(0, 4) | {"x": 1}}, b"\0" * 4, "not a dtype"),
    "a name twice": (b'{"a":' + json.dumps(entry(0, 1)).encode() + b',"a":' + json.dumps(entry(0, 1)).encode() + b"}",
                     b"\0", "stands twice"),
    "no JSON": (b"{nothing}", b"", "no JSON"),
    "no object": (b"{}  [", b"", "no JSON"),
    "bad UTF-8": (b'{"\xff":1}', b"", "no JSON"),
    "deep nesting": (b'{"a":' + b"[" * 100_000, b"", "no JSON"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_header_that_does_not_describe_the_file_is_refused(tmp_path, kind):
    header, data, word = BAD[kind]
    with pytest.raises(UnsafeFile, match=word):
        read(file_of(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize("cut", [4, 8, 20, -1])
def test_a_file_cut_short_is_refused(tmp_path, cut):
    save_file({"w": torch.ones(100)}, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:cut])
    with pytest.raises(UnsafeFile):
        read(tmp_path / "x.safetensors")


@settings(max_examples=150)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_crashes_the_reader(tmp_path_factory, at, flip):
    path = tmp_path_factory.getbasetemp() / "flip.safetensors"
    save_file({"a.weight": torch.arange(4.0), "b": torch.ones(3)}, path)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= flip
    path.write_bytes(data)
    with suppress(UnsafeFile):
        read(path)


# -- shards ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path):
    """Two shards and their index; a function that writes the index with its map changed."""
    save_file({"a": torch.arange(3.0)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.arange(4.0)}, tmp_path / "model-00002-of-00002.safetensors")

    def write(**changes):
        where = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"} | changes
        where = {name: shard for name, shard in where.items() if shard is not None}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        return tmp_path / "model.safetensors.index.json"

    return write


def test_shards_are_read_as_one_file(shards):
    assert {name: shape for name, (_, shape, _) in read(shards()).items()} == {"a": (3,), "b": (4,)}


def test_shards_of_torch_files_are_read_too(tmp_path):
    torch.save({"a": torch.arange(3.0)}, tmp_path / "pytorch_model-1.bin")
    (tmp_path / "i.index.json").write_text(json.dumps({"weight_map": {"a": "pytorch_model-1.bin"}}))
    assert read(tmp_path / "i.index.json").keys() == {"a"}


@pytest.mark.parametrize(("changes", "error", "word"), [
    ({"b": "model-00001-of-00002.safetensors"}, UnsafeFile, "contradicts"),
    ({"c": "model-00002-of-00002.safetensors"}, UnsafeFile, "contradicts"),
    ({"b": "model-00003-of-00003.safetensors"}, SourceUnavailable, "missing"),
    ({"b": "../model.safetensors"}, UnsafeFile, "no plain file name"),
    ({"b": "/etc/passwd"}, UnsafeFile, "no plain file name"),
    ({"b": "https://x/y"}, UnsafeFile, "no plain file name"),
    ({"b": 3}, UnsafeFile, "does not map"),
])
def test_an_index_that_contradicts_its_shards_is_refused(shards, changes, error, word):
    with pytest.raises(error, match=word):
        read(shards(**changes))


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "{", '{"a": 1}'])
def test_a_json_file_that_is_no_index_is_refused(tmp_path, text):
    (tmp_path / "x.index.json").write_text(text)
    with pytest.raises(UnsafeFile):
        read(tmp_path / "x.index.json")
