"""The command line: data on stdout, talk on stderr, one JSON document on demand, and nothing heavy to list."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from support import files_in

import zooconv as package
from zooconv.testing.checkpoints import save_pth

VERBS = ["fetch-convert", "convert", "fetch", "inspect", "list", "show", "layouts", "plugins", "verify", "doctor",
         "repair"]


def test_the_version(zooconv):
    assert zooconv("--version").out == f"zooconv {package.__version__}\n"


def test_help_names_every_verb_and_no_arguments_are_help(zooconv):
    shown = zooconv("--help").out
    assert all(f" {verb} " in shown for verb in VERBS)
    assert "fetch-convert" in zooconv().out + zooconv().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_json_and_quiet(zooconv, verb):
    shown = zooconv(verb, "--help").out
    assert "--json" in shown
    assert "--quiet" in shown


READING = [("list", "*tiny*"), ("show", "convnext_tiny_22k"), ("layouts",), ("layouts", "convnext"), ("plugins",),
           ("inspect", "small.pth"), ("convert", "small.pth", "--dry-run"), ("convert", "small.pth", "--no-load-check"),
           ("verify",)]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_json_is_one_document_and_nothing_else(source, zooconv, command):
    package.convert(source, load_check=False)
    done = zooconv(*command, "--json")
    assert done.code == 0
    assert done.json is not None
    assert done.err == ""


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_quiet_says_nothing_beside(source, zooconv, command):
    package.convert(source, load_check=False)
    done = zooconv(*command, "-q")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_colour_stays_out_of_pipes(source, zooconv, command):
    package.convert(source, load_check=False)
    done = zooconv(*command)
    assert "\x1b[" not in done.out + done.err


def test_a_failure_is_told_as_json_too(source, zooconv):
    done = zooconv("convert", source, "-l", "nothing", "--json")
    assert done.code == 2
    assert done.json["error"]["kind"] == "UsageError"
    assert done.json["error"]["next"]
    assert done.err.startswith("error: ")


@pytest.mark.parametrize("arguments", [["nothing"], ["convert"], ["convert", "x", "--nothing"], ["list", "a", "b"]])
def test_what_is_no_command_is_a_usage_error(zooconv, arguments):
    assert zooconv(*arguments).code == 2


def test_debug_shows_where_a_known_error_came_from(source, zooconv):
    assert "Traceback" in zooconv("convert", source, "-l", "nothing", env={"ZOOCONV_DEBUG": "1"}).err


def test_a_dry_run_shows_every_move_and_writes_nothing(source, zooconv):
    done = zooconv("convert", source, "--dry-run", "-l", "uninext", "--json")
    moves = done.json["moves"]
    assert moves["detr.detr.backbone.0.backbone.stages.0.0.gamma.weight"] == "reshape(stages.0.0.gamma, 1x4)"
    assert moves["detr.detr.backbone.0.backbone.norm1.bias.weight"] == "0 everywhere"
    assert files_in(source.parent) == ["small.pth"]


def test_list_is_filtered_by_pattern_and_family(zooconv):
    names = zooconv("list", "convnext_*_22k", "-q").out.split()
    assert names == [f"convnext_{size}_22k" for size in ("tiny", "small", "base", "large", "xlarge")]
    assert zooconv("list", "--family", "nothing").code == 2
    (model,) = zooconv("list", "convnext_tiny_22k", "--json").json
    assert (model["license"], model["mb"], model["repo"]) == ("apache-2.0", 178, "timm/convnext_tiny.fb_in22k")
    assert model["layouts"] == zooconv("show", "convnext_tiny_22k", "--json").json["layouts"]
    assert {"maskdino", "kmax", "uninext"} <= set(model["layouts"])
    assert zooconv("list", "nothing_like_this").out == ""
    told = zooconv("list", "Swin-L")
    assert (told.out, "did you mean swin_large_patch4_window12_384_22k?" in told.err) == ("", True)


def test_layouts_are_listed_by_family_and_by_their_own_name(zooconv):
    of_project = zooconv("layouts", "kmax", "--json").json
    assert {row["family"] for row in of_project} < {row["family"] for row in zooconv("layouts", "--json").json}
    assert all("kmax" in row["names"] for row in of_project)
    assert {row["family"] for row in zooconv("layouts", "timm", "--json").json} == {"timm"}  # a family first
    assert max(map(len, zooconv("layouts").out.splitlines())) <= 120


def test_a_models_name_in_place_of_a_file_leads_to_the_verb_that_fetches(zooconv, work):
    done = zooconv("convert", "convnext_tiny_22k", "-l", "maskdino")
    assert done.code == 2
    assert done.err.endswith("next: zooconv fetch-convert convnext_tiny_22k --layout maskdino\n")
    assert "the name of a model" not in zooconv("convert", "convnext_tiny_22k.pth").err


def test_help_answers_to_its_short_option(zooconv):
    assert zooconv("convert", "-h").out == zooconv("convert", "--help").out != ""


def test_show_of_what_is_no_model_says_what_to_do(zooconv):
    assert zooconv("show", "owner/repo").code == 2
    assert "did you mean" in zooconv("show", "convnext_tiny_22kk").err


def test_inspect_says_what_a_file_is(work, zooconv, official):
    import argparse

    save_pth(work / "s.pth", official, epoch=3, args=argparse.Namespace(lr=1), model_ema={"w": torch.ones(1)})
    seen = zooconv("inspect", "s.pth", "--json").json
    assert {k: seen[k] for k in ("format", "wrapper", "family", "dialect", "prefix", "tensors", "dtypes")} == {
        "format": "torch zip", "wrapper": ["model"], "family": "convnext", "dialect": "official", "prefix": "",
        "tensors": len(official), "dtypes": {"F32": len(official)}}
    assert seen["config"] == {"depths": [1, 2, 3, 1], "dims": [4, 8, 12, 16]}
    assert seen["dropped"] == {"head.weight": "classifier", "head.bias": "classifier"}
    assert "maskdino" in seen["layouts"]
    assert any("model_ema" in name for name in seen["beside"])
    assert "args (a argparse.Namespace)" in zooconv("inspect", "s.pth").out


def test_inspect_describes_a_stranger_as_far_as_it_goes(work, zooconv):
    torch.save({"conv.weight": torch.ones(2, 3)}, work / "s.pth")
    done = zooconv("inspect", "s.pth")
    assert done.code == 0
    assert "not recognised" in done.out
    assert zooconv("inspect", "s.pth", "--json").json["family"] is None


def test_inspect_of_a_file_that_is_refused_is_refused(work, zooconv):
    (work / "s.pth").write_bytes(b"\x80\x02}.")
    assert zooconv("inspect", "s.pth").code == 5


@pytest.mark.parametrize(("output", "name", "written"), [
    ([], "small/d2", "small_d2.pth"),
    (["-o", "out"], "small/d2", "out/small_d2.pth"),
    (["-o", "other.pth"], "small/d2/other.pth", "other.pth"),
    (["--format", "safetensors"], "small/d2/small_d2.safetensors", "small_d2.safetensors"),
    (["--name", "mine"], "mine/d2", "small_d2.pth"),
])
def test_where_an_artifact_goes_and_what_it_is_called(source, zooconv, output, name, written):
    source.with_name("out").mkdir()
    done = zooconv("convert", source, "--no-load-check", *output)
    assert done.out == f"{written}\n"
    record = json.loads(source.with_name("registry.json").read_text())["artifacts"][name]
    assert record["output"]["files"][0]["file"] == written


def test_a_file_elsewhere_is_recorded_beside_itself(source, zooconv, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert zooconv("convert", source, "--no-load-check", "-o", elsewhere).code == 0
    assert files_in(elsewhere) == ["registry.json", "small_d2.pth", "small_d2.pth.cert.json", "small_d2.pth.md"]
    assert zooconv("verify", "--registry", elsewhere / "registry.json").code == 0


def test_the_registry_can_be_named_in_the_environment(source, zooconv):
    zooconv("convert", source, "--no-load-check", env={"ZOOCONV_REGISTRY": "mine.json"})
    assert "mine.json" in files_in(source.parent)


def test_the_report_says_what_the_summary_says(source, zooconv):
    done = zooconv("convert", source, "-l", "kmax", "--note", "random weights")
    page = source.with_name("small_kmax.pth.md").read_text()
    assert "PIXEL_MEAN: [127.5, 127.5, 127.5]" in page
    for word in ("random weights", "classifier", "no final norm", "small/kmax"):
        assert word in page
        assert word in done.err
    assert zooconv("convert", source, "--no-report", "-q").code == 0
    assert "small_d2.pth.md" not in files_in(source.parent)


def test_completion_offers_names(zooconv):
    env = {"_ZOOCONV_COMPLETE": "complete_bash", "COMP_WORDS": "zooconv show convnext_tiny_2", "COMP_CWORD": "2"}
    code = "import sys; sys.argv[0] = 'zooconv'; from zooconv.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | env, capture_output=True, check=False)
    assert b"convnext_tiny_22k_1k_224" in done.stdout


HEAVY = ("torch", "numpy", "huggingface_hub", "safetensors")
RULES = ("zooconv.mapping", "zooconv_zoo.convnext", "zooconv_vgg", "pluggy")


@pytest.mark.parametrize(("command", "unwanted"), [
    (["list"], (*HEAVY, *RULES, "rich")),
    (["list", "--max-size", "100", "-q"], (*HEAVY, *RULES, "rich")),
    (["--version"], (*HEAVY, *RULES, "rich", "pydantic", "tomllib")),
    (["--help"], (*HEAVY, *RULES, "pydantic", "tomllib")),
    (["show", "convnext_tiny_22k"], HEAVY), (["layouts"], HEAVY), (["plugins"], HEAVY),
], ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_to_look_imports_only_what_it_needs(command, unwanted, work):
    code = (f"import sys; sys.argv = ['zooconv', *{command!r}]\nfrom zooconv.cli.app import main\n"
            f"try: main()\nexcept SystemExit: pass\n"
            f"print('UNWANTED', [m for m in {unwanted!r} if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "UNWANTED []"


def test_to_complete_a_name_imports_no_rules():
    code = ("import sys; from zooconv.cli.common import complete_name; assert complete_name('convnext_tiny_22k')\n"
            f"print([m for m in {(*HEAVY, *RULES, 'rich')!r} if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_to_convert_without_the_load_check_imports_no_torch(source):
    code = "import sys, zooconv; zooconv.convert(sys.argv[1], load_check=False); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, source], capture_output=True, check=True).stdout == b"False\n"


def test_the_public_names_are_all_there():
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError):
        package.nothing  # noqa: B018


def test_public_docstrings_are_there():
    import inspect

    bare = [name for name in package.__all__ if (inspect.isclass(v := getattr(package, name)) or inspect.isfunction(v))
            and not (v.__doc__ or "").strip()]
    assert bare == []


def test_errors_end_with_the_next_step(source, zooconv):
    err = zooconv("convert", source, "-l", "maskdinno").err
    assert re.search(r"^error: ConvNeXt has no layout 'maskdinno'\n  layouts: .*\n"
                     r"next: --layout maskdino\n$", err)
