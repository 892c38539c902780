"""Casts: bits as torch has them, exact where they can be, told everywhere, and nothing lost without a word."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from hypothesis import example, given
from hypothesis import strategies as st
from toy import TOY, Config
from zooconv_zoo.convnext import FAMILY as CONVNEXT
from zooconv_zoo.resnet import FAMILY as RESNET

from zooconv import CheckFailed, UsageError, convert, inspect
from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.mapping import expr
from zooconv.mapping.arithmetic import compute, holds
from zooconv.mapping.expr import Leaf, ShapeError
from zooconv.mapping.fit import fit
from zooconv.mapping.notation import from_data, to_data
from zooconv.mapping.plan import make_plan
from zooconv.plugins import families
from zooconv.registry import Registry
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, spelled

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
OPAQUE = {"F64": "<u8", "F32": "<u4", "F16": "<u2", "BF16": "<u2"}
PRECISION = {"F16": (11, -14, 15), "BF16": (8, -126, 127)}  # digits, least and greatest exponent: IEEE 754, bfloat16
# the smallest of each kind of float16 and bfloat16, numbers just below and above, ties, the largest, and beyond it
EXTREMES = [0.0, -0.0, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0001, 3 * 2.0**-25, 6.1e-5, 2.0**-133, 2.0**-134, 1 + 2.0**-11,
            1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65504.0, 65519.996, 65520.0, 3.3961775e38, 3.4028235e38,
            1.4e-45, math.inf, -math.inf]
floats = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40)


def cast(values, before, after):
    """Ours, on the bytes of a torch tensor of dtype `before`."""
    array = values.contiguous().view(torch.uint8).numpy().view(OPAQUE[before])
    return compute("cast", [(array, before)], (), after)


def same_bits(ours, theirs):
    return ours.tobytes() == theirs.contiguous().view(torch.uint8).numpy().tobytes()


# -- bits --------------------------------------------------------------------------------------------------------------


@given(floats, st.sampled_from(["F32", "F16", "BF16"]), st.sampled_from(["F32", "F16", "BF16"]))
@example(EXTREMES, "F32", "F16")
@example(EXTREMES, "F32", "BF16")
def test_numbers_are_cast_as_torch_casts_them(numbers, before, after):
    values = torch.tensor(numbers, dtype=torch.float32).to(TORCH[before])
    assert same_bits(cast(values, before, after), values.to(TORCH[after]))


@pytest.mark.parametrize("before", ["F16", "BF16"])
def test_every_number_of_a_narrow_dtype_is_widened_as_torch_does_and_had_back(before):
    values = torch.arange(2**16).to(torch.int16).view(TORCH[before])
    values = values[~values.isnan()]
    wide = cast(values, before, "F32")
    assert same_bits(wide, values.float())
    assert same_bits(compute("cast", [(wide, "F32")], (), before), values)
    assert holds("F32", before)


def nearest(value, dtype):
    """The number of a dtype that is nearest to a real one, ties to even, in exact arithmetic."""
    digits, least, greatest = PRECISION[dtype]
    if value == 0:
        return value
    unit = Fraction(2) ** (max(math.frexp(value)[1] - 1, least) - digits + 1)
    rounded = round(Fraction(value) / unit) * unit  # Python rounds ties to even
    return math.copysign(math.inf if abs(rounded) >= Fraction(2) ** (greatest + 1) else float(rounded), value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["F16", "BF16"]))
@example(1 + 2.0**-11 + 2.0**-40, "F16")  # torch rounds these to float32 first, and so to the wrong side
@example(1 + 2.0**-8 + 2.0**-40, "BF16")
@example(1 + 2.0**-8 - 2.0**-40, "BF16")
@example(-(1 + 3 * 2.0**-8 - 2.0**-40), "BF16")
@example(5e-324, "BF16")
def test_float64_is_rounded_once(value, dtype):
    found = cast(torch.tensor([value], dtype=torch.float64), "F64", dtype)
    assert found.tobytes() == torch.tensor([nearest(value, dtype)]).to(TORCH[dtype]).view(torch.uint8).numpy().tobytes()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), st.sampled_from(["F16", "BF16"]))
@example([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001], "BF16")
@example([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001], "F16")
def test_nan_stays_nan_and_nothing_else_becomes_it(bits, dtype):
    values = torch.from_numpy(np.array(bits, "<u4").view("<i4").copy()).view(torch.float32)
    found = torch.from_numpy(cast(values, "F32", dtype).view("<i2").copy()).view(TORCH[dtype])
    assert torch.equal(found.isnan(), values.isnan())


def test_a_cast_is_made_before_moves_so_that_a_plan_can_see_through_both():
    leaf = Leaf((4, 6), "F16", "x")
    moved = expr.concat((expr.slice_(leaf, 1, 3, 6), expr.slice_(expr.permute(leaf, (0, 1)), 1, 0, 3)), 1)
    wide = expr.cast(moved, "F32")
    assert expr.slice_(wide, 1, 0, 3) == expr.slice_(expr.cast(leaf, "F32"), 1, 3, 6)
    assert expr.cast(wide, "F16") == moved
    narrow = expr.cast(leaf, "BF16")
    assert expr.cast(narrow, "F16") != leaf  # bfloat16 has not all its digits
    assert from_data(json.loads(json.dumps(to_data(wide))), {"x": leaf}) == wide


@pytest.mark.parametrize("data", [
    {"arithmetic": "cast", "of": ["x"]}, {"arithmetic": "cast", "of": ["x"], "dtype": "I64"},
    {"arithmetic": "cast", "of": ["x", "x"], "dtype": "F32"}, {"arithmetic": "cast", "of": ["n"], "dtype": "F32"},
    {"arithmetic": "scale", "of": ["x", "y"], "dtype": "F32"}, {"arithmetic": "cast", "of": ["x"], "dtype": ["F32"]},
])
def test_what_is_no_cast_is_refused(data):
    leaves = {"x": Leaf((4, 6), "F16", "x"), "y": Leaf((4,), "F16", "y"), "n": Leaf((), "I64", "n")}
    with pytest.raises(ShapeError):
        from_data(data, leaves)


# -- plans -------------------------------------------------------------------------------------------------------------


def read(family, dialect, dtype):
    """A file of this dialect whose floating-point tensors are of `dtype`, from its headers."""
    config = dialect.toy or family.toy
    made = dialect.from_canonical({n: Leaf(s.shape, s.dtype, n) for n, s in family.table(config).items()}).made
    specs = {n: TensorSpec(n, e.shape, dtype if e.dtype == "F32" else e.dtype) for n, e in made.items()}
    return fit(family, dialect, specs)


@pytest.mark.parametrize("family", families(), ids=lambda f: f.name)
def test_every_dialect_of_every_family_is_widened_exactly_and_rounded_where_it_is_told(family):
    """With the proof that every move can be undone, which a plan is not made without."""
    for dialect in family.dialects:
        layout = family.layouts[0]
        found = {dtype: read(family, dialect, dtype) for dtype in ("F32", "F16")}
        if not found["F32"].exact:
            continue  # a dialect of second names, which the kit adds
        try:
            plain = make_plan(found["F32"], layout)
        except CheckFailed:
            continue  # the layout cannot hold it, in whatever dtype
        wide = make_plan(found["F16"], layout, choices={"dtype": "float32"})
        narrow = make_plan(found["F32"], layout, choices={"dtype": "float16"})
        assert wide.targets == plain.targets
        assert (wide.computed, wide.back.keys()) == (plain.computed, plain.back.keys())
        assert [t.dtype for t in narrow.targets] == ["F16" if t.dtype == "F32" else t.dtype for t in plain.targets]
        assert {leaf.name for move in narrow.moves for leaf in expr.leaves(move.value)} == {*narrow.computed}


# -- conversions -------------------------------------------------------------------------------------------------------


def save(path, arrays, dtype=None):
    """A checkpoint as people save it, in `dtype`."""
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save({"model": {n: t.to(dtype) if dtype and t.is_floating_point() else t for n, t in state.items()}}, path)
    return path


@pytest.fixture
def single(work, install):
    install("toy")
    return save(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy)))


@pytest.fixture
def half(work, install):
    install("toy")
    return save(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy)), torch.float16)


def tensors(path):
    return torch.load(path)["model"]


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_what_is_rounded_is_told_in_the_name_the_summary_the_record_the_certificate_the_card(single, zooconv, dtype):
    told = zooconv("convert", single, "--layout", "plain", "--dtype", dtype, "--no-load-check")
    assert f"float32 rounded to {dtype}  (11 tensors computed anew)" in told.err
    assert f"holds 7 {dtype} tensors, of 7: Detectron2 casts them to float32 as it loads, without a word\n" in told.err
    record = Registry.read(single.parent / "registry.json").records[f"toy/plain/{dtype}"]
    assert (record.changes, record.converter.options) == ([f"float32 rounded to {dtype}"], {"dtype": dtype})
    plain = convert(single, layout="plain", load_check=False)
    for name, tensor in tensors(f"toy_plain_{dtype}.pth").items():
        assert torch.equal(tensor, tensors(plain.path)[name].to(getattr(torch, dtype)))
    certificate = json.loads(Path(f"toy_plain_{dtype}.pth.cert.json").read_text())
    assert {row["computed"] for row in certificate["sources"].values()} == {f"float32 rounded to {dtype}"}
    assert certificate["targets"]["backbone.norm.bias"]["made"] == {
        "arithmetic": "cast", "of": ["norm.bias"], "dtype": {"float16": "F16", "bfloat16": "BF16"}[dtype]}
    (card,) = zooconv("card", f"toy/plain/{dtype}", "--json").json
    assert card["changes"] == [f"float32 rounded to {dtype}"]
    assert card["checks"]["certificate"]["status"] == "verified"
    assert card["parity"]["toy"] == {"status": "not verified", "why": [
        "weights that were changed on demand are another function, which no upstream computes",
        f"float32 rounded to {dtype}"]}


def test_what_is_widened_is_had_back_bit_for_bit_and_computes_the_same(half, zooconv):
    done = convert(half, layout="plain", dtype="float32", load_check=False)
    wide, before = tensors(done.path), tensors(half)
    assert torch.equal(wide["backbone.norm.weight"], before["norm.weight"].float())
    assert done.certificate.changes == ["float16 widened to float32, which is exact"]
    assert done.preview.plan.computed == {}
    assert all(row.back is not None for row in done.certificate.sources.values())
    assert done.preview.mind == []
    with open_checkpoint(half) as source, open_checkpoint(done.path) as artifact:
        assert check_certificate(done.certificate, source, artifact) == []
    (found,) = zooconv("parity", "toy_plain_float32.pth", "--json").json
    assert (found["passed"], found["limit"], found["changes"]) == (True, 1e-12, done.certificate.changes)


@pytest.mark.parametrize(("side", "name", "forged"), [
    ("targets", "backbone.norm.bias", {"made": {"arithmetic": "cast", "of": ["patch.bias"], "dtype": "F32"}}),
    ("sources", "norm.bias", {"back": {"arithmetic": "cast", "of": ["backbone.norm.bias"], "dtype": "BF16"}}),
])
def test_a_certificate_of_another_cast_does_not_hold(half, side, name, forged):
    """The control of the test above."""
    done = convert(half, layout="plain", dtype="float32", load_check=False)
    rows = getattr(done.certificate, side)
    other = done.certificate.model_copy(update={side: {**rows, name: rows[name].model_copy(update=forged)}})
    with open_checkpoint(half) as source, open_checkpoint(done.path) as artifact:
        (fault,) = check_certificate(other, source, artifact)
    assert fault.startswith(f"{name}: ")
    assert fault.endswith("is not it")


def test_a_half_precision_source_without_a_cast_stays_as_it_is_and_is_told(half, zooconv):
    told = zooconv("convert", half, "--layout", "plain", "--no-load-check").err
    assert "holds 7 float16 tensors, of 7: Detectron2 casts them to float32 as it loads, without a word; " in told
    assert "--dtype float32 does so here" in told
    assert {t.dtype for t in tensors("toy_plain.pth").values()} == {torch.float16}


def test_asking_for_the_dtype_that_is_there_changes_nothing(single):
    asked = convert(single, layout="plain", dtype="float32", load_check=False)
    assert asked.path.name == "toy_plain_float32.pth"
    assert asked.certificate.changes is None
    assert asked.content.tree == convert(single, layout="plain", load_check=False).content.tree


def test_a_number_that_float16_cannot_hold_is_refused_and_nothing_is_written(work, install):
    install("toy")
    arrays = spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy))
    arrays["norm.weight"][1] = 70000
    path = save(work / "toy.pth", arrays)
    with pytest.raises(CheckFailed, match="1 tensors hold NaN or Inf") as caught:
        convert(path, layout="plain", dtype="float16")
    assert caught.value.why == (
        "backbone.norm.weight",
        "float16 ends at 65504, and makes Inf of larger numbers; bfloat16 reaches as far as float32")
    assert sorted(p.name for p in work.iterdir()) == ["toy.pth"]
    done = convert(path, layout="plain", dtype="bfloat16", load_check=False)
    assert tensors(done.path)["backbone.norm.weight"][1] == torch.tensor(70000.0).bfloat16()


def test_nan_is_no_more_let_through_by_a_cast_than_without(work, install):
    install("toy")
    arrays = spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy))
    arrays["norm.weight"].view("<u4")[1] = 0x7FFFFFFF
    path = save(work / "toy.pth", arrays)
    for dtype in (None, "bfloat16"):
        with pytest.raises(CheckFailed, match="hold NaN or Inf"):
            convert(path, layout="plain", dtype=dtype)
    done = convert(path, layout="plain", dtype="bfloat16", allow_nonfinite=True, load_check=False)
    assert tensors(done.path)["backbone.norm.weight"].isnan().tolist() == [False, True, False, False]


def test_a_fold_of_half_precision_weights_is_made_in_the_wider_dtype(work, install, zooconv):
    install("toy")
    path = save(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, Config(4, scaled=True))), torch.float16)
    done = convert(path, layout="tight", dtype="float32", load_check=False)
    assert done.certificate.changes == ["float16 widened to float32, which is exact", "gain folded into mix"]
    wide = tensors(convert(path, layout="plain", dtype="float32", load_check=False).path)
    folded = wide["backbone.mix.weight"] * wide["backbone.gain"][:, None]
    assert torch.equal(tensors(done.path)["net.mix.weight"], folded)
    assert zooconv("parity", done.path).code == 0
    convert(path, layout="tight", load_check=False)
    refused = zooconv("parity", "toy_tight.pth")
    assert (refused.code, "rounded to float16, for which no limit is set" in refused.err) == (2, True)


def test_a_fold_is_rounded_after_it_was_made(work, install):
    install("toy")
    path = save(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, Config(4, scaled=True))))
    done = convert(path, layout="tight", dtype="float16", load_check=False)
    folded = tensors(convert(path, layout="tight", load_check=False).path)["net.mix.weight"]
    assert torch.equal(tensors(done.path)["net.mix.weight"], folded.half())
    assert done.preview.plan.computed["gain"] == "gain folded into mix"
    assert done.preview.plan.computed["q.weight"] == "float32 rounded to float16"
    assert done.certificate.artifact.canonical == inspect(done.path).data["canonical"]


def test_a_file_of_several_dtypes_is_told_and_made_one(work, install):
    install("toy")
    state = {n: torch.from_numpy(a) for n, a in spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy)).items()}
    mixed = {n: t.double() if n == "mixer" else t.bfloat16() if n.startswith("norm") else t for n, t in state.items()}
    torch.save(mixed, work / "toy.pth")
    plain = convert(work / "toy.pth", layout="plain", load_check=False)
    assert plain.preview.mind[0].startswith("holds 2 bfloat16 and 1 float64 tensors, of 7: Detectron2")
    done = convert(work / "toy.pth", layout="plain", dtype="float32", load_check=False)
    assert done.certificate.changes == ["bfloat16 widened to float32, which is exact", "float64 rounded to float32"]
    assert done.preview.plan.computed == {"mixer": "float64 rounded to float32"}
    for name, tensor in tensors(done.path).items():
        assert torch.equal(tensor, tensors(plain.path)[name].float())


def test_counters_stay_whole_numbers_and_fresh_tensors_are_of_the_dtype(work):
    path = save(work / "r.pth", spelled(RESNET.dialects[0], lively_weights(RESNET, RESNET.toy)))
    plain, narrow = (tensors(convert(path, layout="bn", dtype=dtype, load_check=False).path)
                     for dtype in (None, "float16"))
    assert {t.dtype for t in narrow.values()} == {torch.float16, torch.int64}
    for name, tensor in narrow.items():
        assert torch.equal(tensor, plain[name].half() if plain[name].is_floating_point() else plain[name]), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_cast_artifact_is_read_again_with_its_start_values(work, dtype):
    """Norms that a layout adds are dropped again by one that has none, where they are at their start value."""
    path = save(work / "c.pth", spelled(CONVNEXT.dialects[0], lively_weights(CONVNEXT, CONVNEXT.toy)))
    done = convert(path, layout="mask2former", dtype=dtype, load_check=False)
    fresh = done.data["fresh"]
    assert fresh
    assert {tensors(done.path)[n].dtype for n in fresh} == {getattr(torch, dtype)}
    back = convert(done.path, layout="kmax", load_check=False)
    assert set(back.preview.plan.dropped.values()) == {"added by another layout, still at its start value"}
    wide = convert(done.path, layout="mask2former", dtype="float32", load_check=False)
    assert tensors(wide.path)[fresh[0]].dtype == torch.float32
    trained = tensors(done.path)
    trained[fresh[0]] += 1
    torch.save({"model": trained}, work / "trained.pth")
    with pytest.raises(CheckFailed, match="would be lost"):
        convert(work / "trained.pth", layout="kmax", load_check=False)
    rounded = convert(wide.path, layout="mask2former", dtype=dtype, load_check=False)
    assert rounded.preview.plan.computed[fresh[0]] == f"float32 rounded to {dtype}"


def test_a_dtype_that_there_is_not_is_refused_with_those_there_are(single, zooconv):
    with pytest.raises(UsageError, match="cannot be cast to float8") as caught:
        convert(single, layout="plain", dtype="float8")
    assert caught.value.why == ("they can to float32, float16, bfloat16",)
    assert zooconv("convert", single, "--dtype", "float8").code == 2


def test_eight_bit_numbers_are_not_taken_for_weights_that_can_be_cast(work, install):
    install("toy")
    path = save(work / "toy.pth", spelled(toy.SEPARATE, lively_weights(TOY, TOY.toy)), torch.float8_e4m3fn)
    with pytest.raises(CheckFailed) as caught:
        convert(path, layout="plain", dtype="float32")
    assert any("F8_E4M3 is none of BF16, F16, F32, F64" in line for line in caught.value.why)


def test_dtypes_are_called_as_torch_calls_them():
    assert {name: getattr(torch, DTYPES[name].torch) for name in TORCH} == TORCH


def test_constants_that_a_dialect_means_without_holding_them_take_the_dtype_and_are_not_told(work):
    """Caffe2's files have no running statistics: their means are zero, and their variances one."""
    dialect = next(d for d in RESNET.dialects if d.name == "caffe2")
    path = save(work / "r.pth", spelled(dialect, lively_weights(RESNET, RESNET.toy)), torch.float16)
    done = convert(path, layout="d2", dtype="float16", load_check=False)
    assert done.certificate.changes is None
    assert {t.dtype for t in tensors(done.path).values()} == {torch.float16}
    wide = convert(path, layout="d2", dtype="float32", load_check=False)
    assert wide.certificate.changes == ["float16 widened to float32, which is exact"]
    assert all(torch.equal(t.half(), tensors(done.path)[n]) for n, t in tensors(wide.path).items())
