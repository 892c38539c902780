"""The certificate says where every byte came from and how it is had back, and the two files are enough to check it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import files_in
from toy import TOY

from zooconv import CheckFailed, UsageError, convert
from zooconv import certificate as certificate_module
from zooconv.certificate import certificate_path, check_certificate, read_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.mapping import expr
from zooconv.mapping.expr import Fill, Leaf, ShapeError
from zooconv.mapping.notation import from_data, to_data
from zooconv.testing.checkpoints import lively_weights, save_pth, save_safetensors, spelled


@pytest.fixture
def toy_file(work, install):
    install("toy")
    return save_pth(work / "toy.pth", spelled(TOY.dialects[0], lively_weights(TOY, TOY.toy)))


def faults(certificate, source, artifact):
    with open_checkpoint(source) as one, open_checkpoint(artifact) as other:
        return check_certificate(certificate, one, other)


def changed(certificate, side, name, **values):
    """The certificate with one line of one side changed."""
    rows = dict(getattr(certificate, side))
    rows[name] = rows[name].model_copy(update=values)
    return certificate.model_copy(update={side: rows})


@pytest.mark.parametrize("layout", ["d2", "maskdino", "uninext", "fpn"])
def test_every_conversion_leaves_one_that_holds(source, layout):
    done = convert(source, layout=layout, load_check=False)
    certificate = read_certificate(certificate_path(done.path))
    assert certificate == done.certificate
    assert certificate.sha256 == done.record.output.certificate
    assert faults(certificate, source, done.path) == []


def test_it_says_what_each_tensor_is_made_of_and_how_it_is_had_back(toy_file):
    certificate = convert(toy_file, layout="plain", load_check=False).certificate
    assert certificate.targets["backbone.qkv.bias"].made == {"cat": ["q.bias", "k.bias", "v.bias"], "axis": 0}
    assert certificate.sources["k.bias"].back == {"slice": [4, 8], "axis": 0, "of": "backbone.qkv.bias"}
    assert certificate.targets["backbone.norm.bias"].made == "norm.bias"
    assert certificate.targets["backbone.mix.weight"].made["reorder"] == [0, 1, 4, 5, 2, 3, 6, 7]


def test_what_was_dropped_has_its_reason_and_what_is_fresh_its_value(source):
    certificate = convert(source, layout="detrex", load_check=False).certificate
    assert certificate.sources["head.weight"].dropped == "classifier"
    assert certificate.sources["norm.weight"].dropped == "this layout has no final norm"
    assert certificate.targets["backbone.norm1.weight"].made == {"fill": 1.0, "shape": [8]}


def test_moves_that_reorder_are_undone_from_the_files(toy_file):
    done = convert(toy_file, layout="plain", load_check=False)
    assert faults(done.certificate, toy_file, done.path) == []


@pytest.mark.parametrize(("side", "name", "values", "told"), [
    ("targets", "backbone.qkv.weight", {"made": {"cat": ["q.weight", "v.weight", "k.weight"], "axis": 0}}, "is not it"),
    ("targets", "backbone.norm.weight", {"made": "norm.bias"}, "is not it"),
    ("sources", "k.weight", {"back": {"slice": [0, 4], "axis": 0, "of": "backbone.qkv.weight"}}, "is not it"),
    ("sources", "mixer", {"back": "backbone.mix.weight"}, "is not it"),
    ("sources", "mixer", {"back": "backbone.mix.wait"}, "contradicts itself"),
    ("sources", "mixer", {"back": {"permute": [0, 0], "of": "backbone.mix.weight"}}, "contradicts itself"),
    ("targets", "backbone.norm.weight", {"sha256": "0" * 64}, "other bytes"),
    ("sources", "norm.weight", {"dtype": "F16"}, "other bytes"),
], ids=lambda x: x if isinstance(x, str) else "")
def test_a_line_that_is_not_true_is_found(toy_file, side, name, values, told):
    done = convert(toy_file, layout="plain", load_check=False)
    (wrong, *_) = faults(changed(done.certificate, side, name, **values), toy_file, done.path)
    assert told in wrong


def test_other_files_are_not_what_it_speaks_of(toy_file, work):
    done = convert(toy_file, layout="plain", load_check=False)
    arrays = spelled(TOY.dialects[0], lively_weights(TOY, TOY.toy))
    bent = arrays | {"q.bias": arrays["q.bias"] + 1}
    lost = {name: array for name, array in arrays.items() if name != "q.bias"}
    more = arrays | {"extra": arrays["q.bias"]}
    for tensors, told in ((bent, "other bytes"), (lost, "not in the source"), (more, "not in the certificate")):
        (wrong,) = faults(done.certificate, save_pth(work / "other.pth", tensors), done.path)
        assert told in wrong


def test_the_same_weights_in_another_container_satisfy_it(toy_file, work):
    done = convert(toy_file, layout="plain", load_check=False)
    again = save_safetensors(work / "again.safetensors", spelled(TOY.dialects[0], lively_weights(TOY, TOY.toy)))
    assert faults(done.certificate, again, done.path) == []


def test_a_source_that_does_not_come_back_stops_the_conversion(toy_file, monkeypatch):
    """The way back is spoiled, as a wrong inverse of an op would spoil it."""
    right = certificate_module.certify

    def spoiled(plan, *rest, **more):
        return right(replace(plan, back=plan.back | {"k.bias": plan.back["q.bias"]}), *rest, **more)

    monkeypatch.setattr("zooconv.pipeline.certify", spoiled)
    with pytest.raises(CheckFailed, match="1 source tensors cannot be had back") as caught:
        convert(toy_file, layout="plain", load_check=False)
    assert "k.bias" in caught.value.why[0]
    assert files_in(toy_file.parent) == ["toy.pth"]


def test_the_same_inputs_give_the_same_text(source):
    first = convert(source, load_check=False).certificate.text
    script = f"import zooconv; print(zooconv.convert({str(source)!r}, load_check=False).certificate.text, end='')"
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                           env={"PYTHONHASHSEED": "7", "PATH": ""})
    assert again.stdout == first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"certificate": 2}', '{"certificate": 1, "strange": 0}'])
def test_what_is_no_certificate_is_told(work, text):
    (work / "x.cert.json").write_text(text)
    with pytest.raises(UsageError, match="no certificate that zooconv can use"):
        read_certificate(work / "x.cert.json")


# -- the command line --------------------------------------------------------------------------------------------------


def test_verify_checks_certificates_where_it_is_asked_to(source, zooconv):
    convert(source, load_check=False)
    ran = zooconv("verify", "--certificate")
    assert (ran.code, ran.out) == (0, "ok  small/d2  small_d2.pth\n")


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda folder: (folder / "small.pth").unlink(), "the source of small_d2.pth is not at hand"),
    (lambda folder: (folder / "small.pth").write_bytes(b"else"), "no checkpoint that zooconv knows"),
    (lambda folder: edit(folder / "small_d2.pth.cert.json", '"official"', '"timm"'), "not the one that was recorded"),
    (lambda folder: (folder / "small_d2.pth.cert.json").unlink(), "there is no certificate"),
])
def test_verify_tells_what_contradicts_a_certificate(source, zooconv, spoil, told):
    convert(source, load_check=False)
    spoil(source.parent)
    ran = zooconv("verify", "--certificate")
    assert ran.code in (1, 2, 5)
    assert told in ran.out + ran.err
    assert zooconv("verify").code == 0


def test_a_source_that_moved_is_named(source, zooconv):
    convert(source, load_check=False)
    source.rename("elsewhere.pth")
    assert zooconv("verify", "--certificate", "--source", "elsewhere.pth").code == 0


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


# -- the notation ------------------------------------------------------------------------------------------------------

LEAVES = {"a": Leaf((4, 6), "F32", "a"), "b": Leaf((4, 6), "F32", "b")}


@st.composite
def expressions(draw):
    value = draw(st.sampled_from([*LEAVES.values(), Fill((4, 6), "F32", 1.0), Fill((4, 6), "I64", 3.0)]))
    for _ in range(draw(st.integers(0, 4))):
        axis = draw(st.integers(0, 1))
        size = value.shape[axis]
        value = draw(st.sampled_from([
            expr.permute(value, (1, 0)), expr.reshape(value, (value.shape[1], value.shape[0])),
            expr.gather(value, axis, tuple(draw(st.permutations(range(size))))),
            expr.slice_(value, axis, 0, size // 2 or 1), expr.concat((value, value), axis)]))
    return value


@given(expressions())
def test_every_expression_is_read_back_as_it_was(value):
    assert from_data(json.loads(json.dumps(to_data(value))), LEAVES) == value


WORDS = ("reshape", "permute", "reorder", "slice", "cat", "axis", "of", "fill", "shape", "dtype")
ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["a", "b", "I64"]),
                   lambda inner: st.lists(inner) | st.fixed_dictionaries({}, optional=dict.fromkeys(WORDS, inner)))


@given(ANY)
def test_anything_else_is_refused_plainly(data):
    try:
        value = from_data(data, LEAVES)
    except ShapeError:
        return
    assert to_data(value) is not None
