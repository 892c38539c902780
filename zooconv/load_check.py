"""The load check: does torch itself load the file, every value a tensor of the right shape and dtype?

It runs in a helper process (`python -m zooconv.load_check`), started before the conversion so that torch's slow import
overlaps with it, and fed one JSON line when the file is there; a process that has torch in it already, as a training
does and the workers of a batch, does it itself. Only files that zooconv wrote come here.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from zooconv.errors import CheckFailed
from zooconv.options import Format
from zooconv.tensor import DTYPES, TensorSpec


class Loader(Protocol):
    """Whoever has torch load a file."""

    def check(self, path: Path, format_: str, specs: Sequence[TensorSpec], key: str = "model") -> str:
        """Have torch load the file, whose tensors stand under `key`, if any; the version of torch that did.

        Raises CheckFailed, listing every tensor that is not as specified, or with torch's own complaint.
        """


class LoadCheck:
    """The helper process, importing torch since it was made."""

    def __init__(self) -> None:
        # -P: a file named torch.py in the working directory must not be taken for torch
        self.process = subprocess.Popen([sys.executable, "-P", "-m", "zooconv.load_check"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def check(self, path: Path, format_: str, specs: Sequence[TensorSpec], key: str = "model") -> str:
        answer, noise = self.process.communicate(json.dumps(_request(path, format_, specs, key)))
        if self.process.returncode != 0:
            raise CheckFailed("torch could not be asked to load the file", why=noise.strip().splitlines()[-3:],
                              next="check the installation of torch, or leave this check out: --no-load-check")
        return _version(json.loads(answer))

    def end(self) -> None:
        """End the process, whether it was asked or not."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class OwnTorch:
    """This process's own torch, imported when it is first needed and kept."""

    def check(self, path: Path, format_: str, specs: Sequence[TensorSpec], key: str = "model") -> str:
        return _version(_report(_request(path, format_, specs, key)))


@contextmanager
def loading(*, wanted: bool, own: Loader | None = None) -> Iterator[Loader | None]:
    """Who loads the file written in the block: `own`, or this process if it has torch, or a helper; or nobody."""
    own = own or (OwnTorch() if "torch" in sys.modules else None)
    if own is not None or not wanted:
        yield own if wanted else None
        return
    helper = LoadCheck()
    try:
        yield helper
    finally:
        helper.end()


def main() -> None:
    """The helper: import torch, then answer the one request on standard input."""
    import torch  # noqa: F401 - before the request is there

    print(json.dumps(_report(json.loads(sys.stdin.read()))))


def _request(path: Path, format_: str, specs: Sequence[TensorSpec], key: str) -> dict[str, Any]:
    wanted = {spec.name: [DTYPES[spec.dtype].torch, list(spec.shape)] for spec in specs}
    return {"path": str(path), "format": format_, "key": key, "tensors": wanted}


def _version(report: dict[str, Any]) -> str:
    if report["wrong"]:
        raise CheckFailed("torch does not load the file as planned", why=report["wrong"][:20],
                          next="please report this: it is a fault of zooconv")
    return str(report["torch"])


def _report(request: dict[str, Any]) -> dict[str, Any]:
    """Load the file with torch, and compare."""
    import torch

    try:
        model = _LOADERS[request["format"]](request["path"], request["key"])
    except Exception as error:  # noqa: BLE001 - whatever torch raises is the answer
        wrong = [f"{type(error).__name__}: {error}".splitlines()[0]]
    else:
        wrong = [f"{name}: torch has {found}, must be {want}" for name, want in request["tensors"].items()
                 if (found := _form(torch.Tensor, model.get(name))) != want]
        wrong += [f"{name}: not in the plan" for name in model.keys() - request["tensors"].keys()]
    return {"torch": torch.__version__, "wrong": wrong}


def _pth(path: str, key: str) -> Any:
    import torch

    tree = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return tree[key] if key else tree


def _pkl(path: str, _: str) -> Any:
    with Path(path).open("rb") as file:
        return pickle.load(file, encoding="latin1")["model"]  # noqa: S301 - as Detectron2 does; our reader was there


def _safetensors(path: str, _: str) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


_LOADERS: dict[Format, Callable[[str, str], Any]] = {"pth": _pth, "pkl": _pkl, "safetensors": _safetensors}


def _form(kind: type, value: object) -> list[object]:
    if type(value) is not kind:
        return [f"a {type(value).__name__}"]
    return [str(value.dtype).removeprefix("torch."), list(value.shape)]  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
