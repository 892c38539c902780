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
    """Install a module as a distribution of its own: `install("name", source)`; the environment to run with."""

    def installed(name, source, entry=None):
        site = work / "site"
        info = site / f"zooconv_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"zooconv_{name}.py").write_text(source)
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


def test_a_family_whose_zoo_is_malformed_keeps_its_dialects(install, zooconv, work):
    (work / "zoo.toml").write_text("[zoo]\nmodels = [{name = 1}]")
    zoo = f'zoo=__import__("pathlib").Path("{work}/zoo.toml")'
    source = GOOD.replace('"NAME"', '"toy"').replace('"nowhere")])', f'"nowhere")], {zoo})')
    done = zooconv("list", "-q", env=install("toy", source))
    assert "the models of family toy are left out" in done.err
    assert "convnext_tiny_22k" in done.out.splitlines()


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
