"""Plugins come in through one door, and a broken one harms nobody."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent.parent / "plugins"


@pytest.fixture
def install(work):
    """Install a package as a distribution of its own: `install("name", source)`; the environment to run with."""

    def installed(name, source, entry=None, **files):
        site = work / "site"
        info = site / f"zooconv_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        package = site / f"zooconv_{name}"
        package.mkdir()
        for file, text in {"__init__.py": source, **files}.items():
            (package / file).write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: zooconv-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zooconv]\n{entry or name} = zooconv_{name}\n")
        return {"PYTHONPATH": str(site)}

    return installed


GOOD = '''
from dataclasses import dataclass
from zooconv import Dialect, Family, Layout, TensorSpec, hookimpl, keep

@dataclass(frozen=True)
class Count:
    n: int

NAMES = keep("w.{i}")
FAMILY = Family(name="NAME", title="Toy", infer=lambda shapes: Count(len(shapes)),
                tensors=lambda c: (TensorSpec(f"w.{i}", (2,)) for i in range(c.n)), variants={"one": Count(1)},
                dialects=[Dialect("toy", NAMES)], layouts=[Layout(("d2",), "backbone.", NAMES, "nowhere")])

@hookimpl
def zooconv_families():
    yield FAMILY
'''
BROKEN = {
    "raises": ("raise RuntimeError('no GPU here')", "RuntimeError: no GPU here"),
    "imports what is not there": ("import nothing_like_this", "ModuleNotFoundError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "is no Python": ("def (", "SyntaxError"),
    "has no hook": ("x = 1", "implements no hook"),
    "gives nonsense": (GOOD.replace("yield FAMILY", "yield 42"), "gave int, not a Family"),
    "gives nothing iterable": (GOOD.replace("yield FAMILY", "return 42"), "TypeError"),
    "raises in its hook": (GOOD.replace("yield FAMILY", "raise OSError('disk')"), "OSError: disk"),
    "takes another's name": (GOOD.replace("NAME\"", 'convnext"'), "is another plugin's already"),
}


def test_a_third_party_family_is_listed_and_used(install, zooconv, work):
    import torch

    env = install("toy", GOOD.replace('"NAME"', '"toy"'))
    listed = {p["name"]: p for p in zooconv("plugins", "--json", env=env).json}
    assert listed["toy"] == {"name": "toy", "dist": "zooconv-toy", "version": "1.0", "families": ["toy"],
                             "engines": [], "problem": ""}
    torch.save({"w.0": torch.ones(2)}, work / "x.pth")
    assert zooconv("convert", "x.pth", "--no-load-check", env=env).code == 0


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_one_warning_line_and_the_others_work(install, zooconv, kind):
    source, problem = BROKEN[kind]
    env = install("zz", source)
    done = zooconv("plugins", "--json", env=env)
    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("warning: plugin zz (zooconv-zz) is left out: ")
    assert problem in done.err
    listed = {p["name"]: p for p in done.json}
    assert listed["zz"]["families"] == []
    assert problem in listed["zz"]["problem"]
    assert listed["convnext"]["families"] == ["convnext"]


def test_a_plugin_can_be_shut_out(install, zooconv):
    env = install("bad", "raise RuntimeError") | {"ZOOCONV_DISABLE_PLUGINS": "bad, convnext"}
    done = zooconv("plugins", "--json", env=env)
    assert done.err == ""
    assert {"bad", "convnext"} & {p["name"] for p in done.json} == set()


ZOO = {"zoo.toml": 'family = "toy"\ndefaults.license = "mit"\n'
                   "pixels.half = { mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }\n",
       "models.tsv": "name\tvariant\trepo\tmb\tinput\tpixels\taliases\ntoy_one\tone\tme/toy\t1\t8\thalf\ttoy_1 toy-1\n"}


def test_the_models_of_a_third_partys_zoo_are_known_by_all_their_names(install, zooconv):
    env = install("toy", GOOD.replace('"NAME"', '"toy"'), **ZOO)
    model, = zooconv("list", "toy-1", "--json", env=env).json
    expected = {"name": "toy_one", "family": "toy", "repo": "me/toy", "license": "mit", "mb": 1, "mean": [0.5] * 3,
                "aliases": ["toy_1", "toy-1"], "layouts": ["d2"]}
    assert {key: model[key] for key in expected} == expected


def test_models_are_listed_without_importing_their_plugin(install, zooconv):
    done = zooconv("list", "toy*", env=install("toy", "raise RuntimeError('imported')", **ZOO))
    assert "toy_one" in done.out
    assert done.err == ""
    model, = zooconv("list", "toy*", "--json", env={"PYTHONPATH": "site"}).json
    assert model["layouts"] == []


@pytest.mark.parametrize("arguments", [["fetch-convert", "toy_one"], ["fetch-convert", "toy_one", "--dry-run"],
                                       ["batch", "toy_one"], ["layouts", "toy"]], ids=" ".join)
def test_a_listed_model_whose_plugin_is_broken_is_refused_with_the_reason(install, zooconv, work, arguments):
    env = install("toy", "raise RuntimeError('no GPU here')", **ZOO)
    done = zooconv(*arguments, env=env)
    assert done.code in (1, 2)
    assert "RuntimeError: no GPU here" in done.err
    assert "Traceback" not in done.err
    assert "there is no family 'toy'" in done.err
    assert not list(work.glob("weights/*"))


@pytest.mark.parametrize("spoil", [
    ("zoo.toml", 'family = "toy"', ""), ("zoo.toml", "mean", "men"), ("zoo.toml", "= [", "=, ["),
    ("models.tsv", "variant", "variety"), ("models.tsv", "\t8\t", "\teight\t"), ("models.tsv", "\tme/toy", ""),
    ("models.tsv", "half", "quarter"), ("models.tsv", "toy_1 ", "convnext_tiny_22k "),
], ids=repr)
def test_a_plugin_whose_zoo_is_malformed_keeps_its_family(install, zooconv, spoil):
    file, right, wrong = spoil
    env = install("toy", GOOD.replace('"NAME"', '"toy"'), **ZOO | {file: ZOO[file].replace(right, wrong)})
    done = zooconv("list", "-q", env=env)
    assert done.err.startswith("warning: the models of toy are left out: ")
    assert len(done.err.splitlines()) == 1
    assert {"convnext_tiny_22k", "toy_one"} & set(done.out.splitlines()) == {"convnext_tiny_22k"}
    assert "toy" in zooconv("plugins", "-q", env=env).out.splitlines()


def test_a_plugin_that_is_shut_out_has_no_models(zooconv):
    assert zooconv("list", "convnext_tiny_22k", env={"ZOOCONV_DISABLE_PLUGINS": "convnext,timm"}).out == ""


def test_the_official_zoo_comes_in_through_the_same_door():
    entries = tomllib.loads((PLUGINS.parent / "pyproject.toml").read_text())["project"]["entry-points"]["zooconv"]
    folders = sorted(p.name for p in (PLUGINS / "zooconv_zoo").iterdir() if (p / "__init__.py").exists())
    assert entries == {name: f"zooconv_zoo.{name}" for name in folders} | {"engines": "zooconv.batch.engines"}


def test_plugins_import_nothing_but_the_public_api():
    for path in PLUGINS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("zooconv"):
                assert node.module == "zooconv" or node.module.startswith(("zooconv.testing", "zooconv_")), path


def test_a_plugin_fits_on_one_screen():
    tables, proof = (PLUGINS / "example" / "zooconv_vgg.py").read_text().split("# -- what the proof runs")
    lines = tables.splitlines()
    assert "def build(config)" in proof
    assert len([line for line in lines if line.strip()]) <= 50


@pytest.mark.parametrize("module", ["zooconv_zoo.convnext", "zooconv_vgg"])
def test_importing_a_plugin_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "huggingface_hub", "pydantic"} & set(ast.literal_eval(done.stdout))
