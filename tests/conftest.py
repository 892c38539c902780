"""What many tests need: a family, small checkpoints, a folder to work in, a hub, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start: several run side by side

from support import SMALL, Ran
from zooconv_zoo.convnext import FAMILY

from zooconv.mapping.family import Family
from zooconv.plugins import plugins
from zooconv.testing.checkpoints import Arrays, random_array, random_weights, save_pth
from zooconv.zoo import zoo

settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def zooconv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests fetch is not the user's affair."""
    folder = tmp_path_factory.mktemp("zooconv-cache")
    os.environ["ZOOCONV_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def convnext() -> Family[Any]:
    return FAMILY


@pytest.fixture(scope="session")
def weights() -> Arrays:
    """A small ConvNeXt's canonical tensors."""
    return random_weights(FAMILY, SMALL)


@pytest.fixture(scope="session")
def official(weights: Arrays) -> Arrays:
    """The same with a classifier, as the official release has it."""
    heads = {"head.weight": (10, 16), "head.bias": (10,)}
    return weights | {name: random_array(name, shape) for name, shape in heads.items()}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOOCONV_REGISTRY", raising=False)
    return tmp_path


@pytest.fixture
def source(work: Path, official: Arrays) -> Path:
    """The official file of the small ConvNeXt."""
    return save_pth(work / "small.pth", official)


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory,
            monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a module of tests/ as a plugin, by an entry point, as pip would; here and for processes to come."""
    folder = tmp_path_factory.mktemp("site")

    def install(module: str) -> None:
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zooconv]\n{module} = {module}\n")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parent)]))
        _forget()

    yield install
    _forget()


def _forget() -> None:
    plugins.cache_clear()
    zoo.cache_clear()


@pytest.fixture
def zooconv(work: Path) -> Callable[..., Ran]:
    """The command line in a process of its own: `zooconv("convert", path, env={…})`."""

    def run(*arguments: object, env: dict[str, str] | None = None, **more: Any) -> Ran:
        environment = {k: v for k, v in os.environ.items()
                       if k == "ZOOCONV_CACHE" or not k.startswith(("HF_", "ZOOCONV_"))} | (env or {})
        command = [sys.executable, "-m", "zooconv", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=work, **more)
        return Ran(done)

    return run


@pytest.fixture(scope="session")
def timm() -> Any:
    from zooconv.upstream import import_package

    return import_package("timm")
