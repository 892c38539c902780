"""One pass: what it measures is right, what is not finite or damaged does not pass, and memory stays bounded."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import files_in
from zooconv_zoo.convnext.dialects import DINOV3, TIMM

from zooconv import CheckFailed, UnsafeFile, convert
from zooconv.finite import finite_check
from zooconv.tensor import DTYPES
from zooconv.testing.checkpoints import save_pth, save_safetensors, spelled

FLOATS = sorted(name for name, dtype in DTYPES.items() if dtype.floating)


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_finiteness_is_torchs_for_every_bit_pattern(dtype, data):
    size = DTYPES[dtype].size
    patterns = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=20))
    if data.draw(st.booleans()):  # half of the time, a pattern with all exponent bits set
        patterns.append(bytes([0xFF] * (size - 1) + [0x7F]))
    content = bytearray(b"".join(patterns))
    tensor = torch.frombuffer(bytearray(content), dtype=getattr(torch, DTYPES[dtype].torch)).to(torch.float64)
    assert finite_check(dtype)(memoryview(content)) == bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - set(FLOATS)))
def test_whole_numbers_are_always_finite(dtype):
    assert finite_check(dtype) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["stages.2.1.pwconv1.weight", "norm.bias"])
def test_a_number_that_is_not_finite_is_refused_by_name_and_nothing_is_written(work, weights, name, value):
    spoiled = weights | {name: weights[name].copy()}
    spoiled[name].flat[-1] = value
    save_pth(work / "s.pth", spoiled)
    with pytest.raises(CheckFailed, match="NaN or Inf") as caught:
        convert("s.pth", load_check=False)
    assert caught.value.why == (f"backbone.{name}",)
    assert files_in(work) == ["s.pth"]


def test_what_is_not_finite_can_be_accepted_and_is_then_recorded(work, weights):
    save_pth(work / "s.pth", weights | {"norm.bias": weights["norm.bias"] * np.float32(np.nan)})
    result = convert("s.pth", allow_nonfinite=True)
    finite = result.record.checks["finite"].model_dump(exclude_none=True)
    assert finite == {"status": "skip", "nonfinite": ["backbone.norm.bias"]}
    assert result.record.converter.options == {"allow_nonfinite": True}
    assert torch.isnan(torch.load(result.path)["model"]["backbone.norm.bias"]).all()


def test_every_digest_is_what_hashlib_says(source, weights):
    result = convert(source, load_check=False)
    content = result.path.read_bytes()
    assert (result.written.file.sha256, result.written.file.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert result.written.source_files[0].sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    for digest in result.written.target:
        assert digest.sha256 == hashlib.sha256(weights[digest.name.removeprefix("backbone.")].tobytes()).hexdigest()


def test_the_sources_tree_digest_counts_dropped_tensors_too(source, weights, work):
    whole = convert(source, load_check=False).record.source.content
    bare = convert(save_pth(work / "bare.pth", weights), load_check=False).record.source.content
    assert (whole.tensors, bare.tensors) == (len(weights) + 2, len(weights))
    assert whole.tree != bare.tree


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "float8_e4m3fn"])
def test_other_dtypes_are_carried_bit_for_bit(work, weights, dtype):
    state = {n: torch.from_numpy(a).to(getattr(torch, dtype)) for n, a in weights.items()}
    torch.save({"model": state}, work / "s.pth")
    model = torch.load(convert("s.pth").path)["model"]
    for name, tensor in state.items():
        assert model[f"backbone.{name}"].dtype == tensor.dtype
        assert torch.equal(model[f"backbone.{name}"].view(torch.uint8), tensor.view(torch.uint8))


def test_a_second_name_that_differs_is_refused(work, weights):
    arrays = spelled(DINOV3, weights) | {f"norms.3.{k}": weights[f"norm.{k}"] for k in ("weight", "bias")}
    assert convert(save_pth(work / "same.pth", arrays), load_check=False).data["dialect"] == "dinov3"
    arrays["norms.3.bias"] = arrays["norms.3.bias"] + 1
    save_pth(work / "other.pth", arrays)
    with pytest.raises(CheckFailed, match="would be lost") as caught:
        convert("other.pth", load_check=False)
    assert caught.value.why == ("norms.3.bias differs from norm.bias, whose second name it should be",)


@pytest.mark.parametrize("name", ["stages.2.1.pwconv1.weight", "head.weight"], ids=["a kept tensor", "a dropped one"])
def test_a_flipped_bit_in_any_record_is_refused(source, official, name):
    content = bytearray(source.read_bytes())
    at = content.find(official[name].tobytes())
    content[at + 5] ^= 1
    source.write_bytes(content)
    with pytest.raises(UnsafeFile, match="do not match their CRC-32"):
        convert(source, load_check=False)
    assert files_in(source.parent) == [source.name]


def test_a_flipped_bit_beside_the_weights_is_refused(work, weights):
    """The audit covers what no move reads: an optimizer's state, say."""
    state = torch.arange(1000.0)
    save_pth(work / "s.pth", weights, optimizer={"state": {0: {"exp_avg": state}}})
    content = bytearray((work / "s.pth").read_bytes())
    content[content.find(bytes(state.view(torch.uint8).numpy())) + 40] ^= 1
    (work / "s.pth").write_bytes(content)
    with pytest.raises(UnsafeFile, match="do not match their CRC-32"):
        convert("s.pth", load_check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak off /proc")
@pytest.mark.parametrize("save", [save_pth, save_safetensors], ids=["pth", "safetensors"])
def test_memory_is_bounded_whatever_the_size(work, save, convnext):
    """300 MB through a process of its own: the peak is far below the file."""
    from zooconv_zoo.convnext.family import VARIANTS

    arrays = {name: np.ones(spec.shape, np.float32) for name, spec in convnext.table(VARIANTS["base"]).items()}
    path = save(work / ("s.pth" if save is save_pth else "s.safetensors"), spelled(TIMM, arrays))
    code = ("import sys, zooconv; zooconv.convert(sys.argv[1], load_check=False); "
            "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert path.stat().st_size > 300e6
    assert int(done.stdout.split()[1]) << 10 < 64 << 20
