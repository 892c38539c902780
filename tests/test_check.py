"""Validation of what was written: it passes a right file, and no wrong one."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from support import files_in

from zooconv import CheckFailed, convert
from zooconv import check as check_module
from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.write import FORMATS
from zooconv.digest import file_sha256
from zooconv.load_check import LoadCheck, OwnTorch, loading
from zooconv.tensor import TensorSpec

FLAWS = {
    "a flipped bit": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "cut short": lambda data: data[:-100],
    "a byte more": lambda data: data + b"\0",
    "nothing": lambda data: b"",
    "another name": lambda data: data.replace(b"backbone.norm.bias", b"backbone.norm.bios"),
    "two tensors swapped": lambda data: data.replace(b"backbone.norm.bias", b"\0").replace(
        b"backbone.norm.weight", b"backbone.norm.bias").replace(b"\0", b"backbone.norm.weight"),
    "another family": lambda data: data.replace(b"convnext", b"convnexs"),
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("flaw", FLAWS)
def test_a_file_that_the_disk_spoiled_is_not_put_in_place(source, flaw, format_, monkeypatch):
    """The bytes change between the pass and the check, as a failing disk would change them."""
    check = check_module.check_written

    def spoil_then_check(path, *arguments, **options):
        path.write_bytes(FLAWS[flaw](path.read_bytes()))
        check(path, *arguments, **options)

    monkeypatch.setattr("zooconv.pipeline.check_written", spoil_then_check)
    with pytest.raises(CheckFailed):
        convert(source, format=format_, load_check=False)
    assert files_in(source.parent) == [source.name]


def test_verify_hashes_every_tensor_once_more(source, monkeypatch):
    """A change that keeps every CRC-32 is what only --verify can see: here the expected digest is made to differ."""
    assert convert(source, load_check=False, verify=True)
    check = check_module.check_written

    def expect_another(path, plan, writer, written, *, digests):
        target = (written.target[0]._replace(sha256="0" * 64), *written.target[1:])
        check(path, plan, writer, written.__class__(**(written.__dict__ | {"target": target})), digests=digests)

    monkeypatch.setattr("zooconv.pipeline.check_written", expect_another)
    convert(source, load_check=False, force=True)
    with pytest.raises(CheckFailed, match="not as planned"):
        convert(source, load_check=False, force=True, verify=True)


# -- the load check ----------------------------------------------------------------------------------------------------


@pytest.fixture
def specs(source):
    convert(source, load_check=False)
    with open_checkpoint("small_d2.pth") as checkpoint:
        return list(checkpoint.specs.values())


@contextmanager
def helping():
    """A helper process, which a process without torch has the check done by."""
    helper = LoadCheck()
    try:
        yield helper
    finally:
        helper.end()


@pytest.mark.parametrize("who", [helping, partial(loading, wanted=True)], ids=["a helper", "this process"])
def test_torch_says_that_it_loads_a_right_file(work, specs, who):
    with who() as loader:
        assert loader.check(work / "small_d2.pth", "pth", specs) == torch.__version__


def test_a_process_that_has_torch_needs_no_helper(monkeypatch):
    with loading(wanted=True) as loader:
        assert isinstance(loader, OwnTorch)
    monkeypatch.delitem(sys.modules, "torch")
    with loading(wanted=True) as loader:
        assert isinstance(loader, LoadCheck)


@pytest.mark.parametrize(("change", "word"), [
    (lambda specs: [*specs, TensorSpec("more", (1,))], "more: torch has"),
    (lambda specs: specs[1:], "not in the plan"),
    (lambda specs: [TensorSpec(specs[0].name, (1,)), *specs[1:]], "must be"),
    (lambda specs: [TensorSpec(specs[0].name, specs[0].shape, "F16"), *specs[1:]], "float16"),
])
def test_torch_says_what_is_not_as_planned(work, specs, change, word):
    with loading(wanted=True) as loader, pytest.raises(CheckFailed) as caught:
        loader.check(work / "small_d2.pth", "pth", change(specs))
    assert word in str(caught.value)


def test_a_file_that_torch_does_not_load_is_told_in_torchs_words(work, specs):
    (work / "small_d2.pth").write_bytes(b"nothing")
    with helping() as helper, pytest.raises(CheckFailed, match="does not load"):
        helper.check(work / "small_d2.pth", "pth", specs)


def test_a_parameter_is_not_taken_for_a_tensor(work):
    torch.save({"model": {"w": torch.nn.Parameter(torch.ones(2))}}, work / "p.pth")
    with loading(wanted=True) as loader, pytest.raises(CheckFailed, match="does not load"):
        loader.check(work / "p.pth", "pth", [TensorSpec("w", (2,))])


def test_a_file_named_torch_in_the_working_folder_is_not_imported(work, specs):
    (work / "torch.py").write_text("raise SystemExit('owned')")
    with helping() as helper:
        assert helper.check(work / "small_d2.pth", "pth", specs)


def test_a_helper_that_cannot_import_torch_says_how_to_go_on(work, specs, monkeypatch):
    (work / "stub").mkdir()
    (work / "stub" / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(work / "stub"))
    with helping() as helper, pytest.raises(CheckFailed, match="could not be asked") as caught:
        helper.check(work / "small_d2.pth", "pth", specs)
    assert "--no-load-check" in caught.value.next


def test_the_helper_ends_with_its_block_also_unasked(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    with loading(wanted=True) as helper:
        assert isinstance(helper, LoadCheck)
    assert helper.process.poll() is not None


@pytest.mark.parametrize("format_", ["safetensors", "pkl"])
def test_an_artifact_of_another_format_is_loaded_with_its_own_library(source, format_):
    assert convert(source, format=format_).torch == torch.__version__


def test_a_pickle_that_pickle_does_not_load_is_told_in_its_words(work, specs):
    (work / "x.pkl").write_bytes(b"\x80\x04K\x01")
    with loading(wanted=True) as loader, pytest.raises(CheckFailed, match="does not load") as caught:
        loader.check(work / "x.pkl", "pkl", specs)
    assert "EOFError" in caught.value.why[0]


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_says_ok_changed_and_missing(source, zooconv):
    for layout in ("d2", "kmax", "fpn"):
        convert(source, layout=layout, load_check=False)
    kmax = source.with_name("small_kmax.pth")
    kmax.write_bytes(kmax.read_bytes()[:-1] + b"x")
    source.with_name("small_fpn.pth").unlink()
    done = zooconv("verify", "--json")
    assert done.code == 1
    statuses = {o["name"]: o["status"] for o in done.json}
    assert statuses == {"small/d2": "ok", "small/kmax": "changed", "small/fpn": "missing"}
    assert zooconv("verify", "small/d2").code == 0


@pytest.mark.parametrize("name", ["small", "small/d2", "small_d2.pth", "sm*"])
def test_verify_takes_a_models_an_artifacts_or_a_files_name(source, zooconv, name):
    convert(source, load_check=False)
    assert [o["name"] for o in zooconv("verify", name, "--json").json] == ["small/d2"]


def test_verify_of_an_unknown_name_is_a_usage_error(source, zooconv):
    convert(source, load_check=False)
    done = zooconv("verify", "nothing")
    assert (done.code, "has no artifact 'nothing'" in done.err) == (2, True)


def test_verify_reads_tensors_too_and_believes_no_digest_of_the_file_alone(source, zooconv):
    """A registry whose file digest was forged along with the file: the tensors still tell."""
    result = convert(source, load_check=False)
    other = convert(source, layout="kmax", load_check=False)
    result.path.write_bytes(other.path.read_bytes())
    registry = json.loads((source.parent / "registry.json").read_text())
    forged = file_sha256(result.path)
    registry["artifacts"]["small/d2"]["output"]["files"][0] |= {"sha256": forged.sha256, "size": forged.size}
    (source.parent / "registry.json").write_text(json.dumps(registry))
    assert "the tensors differ" in zooconv("verify", "small/d2").out
