"""A new plugin works from the start, installed as its readers will install it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, files_in

from zooconv.scaffold import EXAMPLE, rendered


def test_a_new_plugin_is_a_package_with_one_module_and_one_test(work, zooconv):
    ran = zooconv("plugins", "new", "my-net", "--title", "MyNet")
    assert ran.out.split() == [f"zooconv-my-net/{name}" for name in (
        "README.md", "zooconv_my_net.py", "pyproject.toml", "tests/test_my_net.py")]
    assert "next: cd zooconv-my-net" in ran.err
    module = Path("zooconv-my-net/zooconv_my_net.py").read_text()
    assert 'name="my-net", title="MyNet"' in module
    assert "$" not in module


@pytest.mark.parametrize(("arguments", "told"), [
    (["My Net"], "no name of a family"), (["9net"], "no name of a family"), (["../evil"], "no name of a family"),
    (["taken", "--into", "taken"], "taken exists"), (["x", "--into", "file/x"], "cannot make file/x"),
])
def test_what_cannot_be_made_is_told_and_nothing_is_written(work, zooconv, arguments, told):
    (work / "taken").mkdir()
    (work / "file").write_text("")
    ran = zooconv("plugins", "new", *arguments)
    assert (ran.code, told in ran.err) == (2, True)
    assert files_in(work) == ["file", "taken"]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "disable"), [(EXAMPLE, ""), ({"name": "my-net", "title": "MyNet"}, "vgg")],
                         ids=["the example", "a new one"])
def test_it_passes_its_own_test_as_an_installed_wheel(work, zooconv, words, disable):
    """Wheels of zooconv and of the plugin, nothing of this checkout, in front of everything else that is installed."""
    if words is EXAMPLE:
        folder = ROOT / "plugins" / "example"
    else:
        zooconv("plugins", "new", words["name"], "--title", words["title"], "--into", "new")
        folder = work / "new"
    pip(work, "wheel", "--no-deps", "--wheel-dir", "wheels", ROOT, folder)
    pip(work, "install", "--no-deps", "--target", "site", *(work / "wheels").iterdir())
    name = next(n for n in rendered(**words) if n.startswith("tests/"))
    (work / "test_it.py").write_text((folder / name).read_text())
    environment = os.environ | {"PYTHONPATH": str(work / "site"), "ZOOCONV_DISABLE_PLUGINS": disable}
    def python(*arguments):
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True,
                              check=False, cwd=work)

    assert python("-c", "import zooconv; print(zooconv.__file__)").stdout.startswith(str(work / "site"))
    done = python("-m", "pytest", "-q", "test_it.py")
    assert done.returncode == 0, done.stdout
    assert "ok          computes what torchvision computes, and wrong conversions are caught" in done.stdout


def pip(work, *arguments):
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True, cwd=work)
