"""What we write, others read; and the same weights give the same bytes, whoever asks and wherever they came from."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from zooconv_zoo.convnext.dialects import TIMM, TORCHVISION

from zooconv import convert
from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.write import FORMATS, writer_for
from zooconv.digest import crc32, file_sha256
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import save_pth, save_safetensors, spelled

CONFIG = {"depths": [1, 2], "width": 70_000, "far": -5, "ratio": -0.1}
FACTS = {"format": 1, "family": "x", "config": CONFIG, "layout": "d2"}
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def written(format_, specs, data, **options):
    """A file of these tensors, put together as the engine does it."""
    writer, out = writer_for(format_, specs, FACTS, **options), bytearray()
    for i, (piece, offset) in enumerate(zip(data, writer.offsets, strict=True)):
        out += writer.before(i)
        assert len(out) == offset
        out += piece + writer.after(i, crc32(piece))
    out += writer.end("f" * 64)
    assert len(out) == writer.size
    return bytes(out)


@st.composite
def tensors(draw):
    specs = [TensorSpec(f"block.{i}.weight", draw(SHAPES), draw(st.sampled_from(sorted(DTYPES))))
             for i in range(draw(st.integers(1, 6)))]
    return specs, [bytes(draw(st.binary(min_size=s.nbytes, max_size=s.nbytes))) if s.dtype != "BOOL"
                   else bytes(s.nbytes) for s in specs]


def raw(tensor):
    return bytes(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def holds(loaded, specs, data):
    """What was loaded is our facts, and each tensor as its specification and its bytes have it."""
    assert loaded["zooconv"] == FACTS | {"tree": "f" * 64}
    assert loaded["__author__"] == "zooconv"
    for spec, piece in zip(specs, data, strict=True):
        tensor = loaded["model"][spec.name]
        assert type(tensor) is torch.Tensor
        assert (str(tensor.dtype), tuple(tensor.shape)) == (f"torch.{DTYPES[spec.dtype].torch}", spec.shape)
        assert (tensor.is_contiguous(), tensor.requires_grad) == (True, False)
        assert raw(tensor) == piece


@given(tensors(), st.booleans())
def test_torch_loads_every_dtype_and_shape_with_and_without_mmap(tmp_path_factory, case, mmap):
    specs, data = case
    path = tmp_path_factory.getbasetemp() / "w.pth"
    path.write_bytes(written("pth", specs, data))
    loaded = torch.load(path, weights_only=True, mmap=mmap)
    holds(loaded, specs, data)


@given(tensors(), st.sampled_from(["latin1", "ASCII"]), st.booleans())
def test_pythons_pickle_loads_every_dtype_and_shape(case, encoding, heuristics):
    """`latin1` is what Detectron2 says, which decides nothing here; `ASCII` is what pickle says without being asked."""
    specs, data = case
    loaded = pickle.loads(written("pkl", specs, data, heuristics=heuristics), encoding=encoding)
    holds(loaded, specs, data)
    assert loaded.get("matching_heuristics", False) is heuristics


def globals_of(content):
    """All that a pickle names, and that the pickles in its strings of bytes name."""
    found, strings = set(), []
    for op, value, _ in pickletools.genops(content):
        if op.name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            found.add(value)
        elif op.name.startswith("BINBYTES"):
            strings.append(io.BytesIO(value))
    for string in strings:
        for _ in range(5):
            found |= {value for op, value, _ in pickletools.genops(string) if op.name == "GLOBAL"}
    return found


def test_a_pickle_names_what_torch_has_had_since_version_1_and_nothing_of_numpy():
    specs = [TensorSpec("w", (2, 3)), TensorSpec("half", (2,), "F16"), TensorSpec("brain", (2,), "BF16")]
    calls = {"torch._utils _rebuild_tensor_v2", "torch.storage _load_from_bytes", "collections OrderedDict"}
    assert globals_of(written("pkl", specs, [bytes(spec.nbytes) for spec in specs])) == calls | {
        "torch FloatStorage", "torch HalfStorage", "torch BFloat16Storage"}
    # the controls: torch's own pickle, and numpy's
    assert globals_of(pickle.dumps({"w": torch.ones(2)}, 3)) == calls | {"torch FloatStorage"}
    assert any("numpy" in name for name in globals_of(pickle.dumps({"w": np.ones(2)}, 3)))


@given(tensors())
def test_pythons_zipfile_finds_every_record_whole_and_aligned(case):
    specs, data = case
    content = written("pth", specs, data)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        for i, piece in enumerate(data):
            assert archive.read(f"archive/data/{i}") == piece
    assert all(offset % 64 == 0 for offset in writer_for("pth", specs, FACTS).offsets)


@given(tensors().filter(lambda case: all(s.dtype != "F8_E8M0" for s in case[0])))
def test_the_safetensors_library_loads_what_we_write(tmp_path_factory, case):
    specs, data = case
    path = tmp_path_factory.getbasetemp() / "w.safetensors"
    path.write_bytes(written("safetensors", specs, data))
    loaded = load_file(path)
    assert {name: raw(t) for name, t in loaded.items()} == dict(zip([s.name for s in specs], data, strict=True))


@given(tensors(), st.sampled_from(FORMATS))
def test_our_own_reader_finds_each_tensor_where_the_writer_said(tmp_path_factory, case, format_):
    specs, data = case
    path = tmp_path_factory.getbasetemp() / "own"
    path.write_bytes(written(format_, specs, data))
    offsets = writer_for(format_, specs, FACTS).offsets
    with open_checkpoint(path) as checkpoint:
        for spec, piece, offset in zip(specs, data, offsets, strict=True):
            tensor = checkpoint.tensors[spec.name]
            assert (tensor.dtype, tensor.shape, tensor.array().tobytes()) == (spec.dtype, spec.shape, piece)
            assert tensor.offset == offset or not piece


def test_weights_only_finds_no_global_that_it_does_not_know(tmp_path):
    (tmp_path / "w.pth").write_bytes(written("pth", [TensorSpec("w", (2,))], [bytes(8)]))
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "w.pth") == []


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[4_500_000_000], [3_000_000_000, 2_000_000_000, 16]], ids=["one", "beyond 4 GiB"])
def test_files_beyond_four_gibibytes_are_read_by_torch(tmp_path, sizes):
    """A sparse file: only the frame is written, the data are holes, which read as zeros."""
    specs = [TensorSpec(f"w{i}", (size,), "U8") for i, size in enumerate(sizes)]
    writer = writer_for("pth", specs, FACTS)
    zeros = bytes(1 << 24)
    with (tmp_path / "big.pth").open("wb") as file:
        for i, size in enumerate(sizes):
            file.write(writer.before(i))
            assert file.tell() == writer.offsets[i]
            file.seek(size, io.SEEK_CUR)
            crc = 0
            for at in range(0, size, len(zeros)):
                crc = crc32(zeros[:min(len(zeros), size - at)], crc)
            file.write(writer.after(i, crc))
        file.write(writer.end("f" * 64))
        assert file.tell() == writer.size
    loaded = torch.load(tmp_path / "big.pth", weights_only=True, mmap=True)["model"]
    assert [t.numel() for t in loaded.values()] == sizes
    assert all(int(t[-1]) == 0 for t in loaded.values())
    with open_checkpoint(tmp_path / "big.pth") as checkpoint:
        assert [t.offset for t in checkpoint.tensors.values()] == list(writer.offsets)


# -- the same weights, the same bytes ----------------------------------------------------------------------------------

GOLDEN = {
    ("d2", "pth"): "e500df8055de83e00df2545a6ecf531521eede1613c35b062fa0d1e672fa1f0c",
    ("mask2former", "pth"): "94d78eb382c4370eea2c1620093697d62a3c0e5eded3a29ae2a60bbb47eb49d3",
    ("uninext", "pth"): "60aa5aff40b588b6eb5c19032aceb262d7d8092b9c3949b57e0d2b28bcae690a",
    ("d2", "pkl"): "d7785d60e59e274f3ecbb15debb54c58128d09ff29eb12ec11d5d136d93e5362",
    ("d2", "safetensors"): "1fcab4e202a674c2d9e9c1677de927157c8813f84c7dc46f41df317d64bf76bd",
}


@pytest.mark.parametrize(("layout", "format_"), GOLDEN)
def test_the_golden_digest(layout, format_, source):
    result = convert(source, layout=layout, format=format_, load_check=False)
    assert result.written.file.sha256 == GOLDEN[layout, format_]


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_the_golden_digest_holds_in_another_process_under_another_name(source, zooconv, seed):
    done = zooconv("convert", source, "-o", f"named_{seed}.pth", "--json", "--no-load-check",
                   env={"PYTHONHASHSEED": seed})
    assert done.json["artifact"]["sha256"] == GOLDEN["d2", "pth"]
    assert file_sha256(f"named_{seed}.pth").sha256 == GOLDEN["d2", "pth"]


@pytest.mark.parametrize("save", [
    lambda folder, w: save_pth(folder / "s.pth", w, "state_dict"),
    lambda folder, w: save_pth(folder / "s.pth", dict(reversed(w.items())), None),
    lambda folder, w: save_safetensors(folder / "s.safetensors", w),
    lambda folder, w: save_safetensors(folder / "s.safetensors", spelled(TIMM, w)),
    lambda folder, w: save_pth(folder / "s.pth", spelled(TORCHVISION, w), None),
    lambda folder, w: save_pth(folder / "s.pth", {f"module.backbone.{n}": a for n, a in w.items()}, epoch=3),
    lambda folder, w: save_pth(folder / "s.pth", {n: np.asfortranarray(a) for n, a in w.items()}),
], ids=["state_dict", "bare, reversed", "safetensors", "timm", "torchvision", "prefixed", "strided"])
def test_container_dialect_prefix_order_and_strides_leave_no_trace(work, weights, save):
    result = convert(save(work, weights), load_check=False)
    assert result.written.file.sha256 == GOLDEN["d2", "pth"]


@pytest.mark.parametrize("save", [save_pth, save_safetensors], ids=["pth", "safetensors"])
@pytest.mark.parametrize("format_", ["pth", "pkl"])
def test_shards_leave_no_trace(work, weights, save, format_):
    names = list(weights)
    for i in range(3):
        save(work / f"{i}.shard", {name: weights[name] for name in names[i::3]})
    index = {"weight_map": {name: f"{i % 3}.shard" for i, name in enumerate(names)}}
    (work / "model.index.json").write_text(json.dumps(index))
    result = convert("model.index.json", format=format_, load_check=False)
    assert result.written.file.sha256 == GOLDEN["d2", format_]


def test_other_weights_give_other_bytes(work, weights):
    changed = weights | {"norm.bias": weights["norm.bias"] + 1}
    assert convert(save_pth(work / "s.pth", changed), load_check=False).written.file.sha256 != GOLDEN["d2", "pth"]


def test_the_tree_digest_is_that_of_any_container(source):
    results = {f: convert(source, format=f, load_check=False) for f in FORMATS}
    (tree,) = {result.content.tree for result in results.values()}
    assert torch.load(results["pth"].path)["zooconv"]["tree"] == tree
    assert pickle.loads(results["pkl"].path.read_bytes())["zooconv"]["tree"] == tree
