"""The load check: does torch itself load the file, every value a tensor of the right shape and dtype?

It runs in a helper process (`python -m zooconv.load_check`), started before the conversion so that torch's slow import
overlaps with it, and fed one JSON line when the file is there. Only files that zooconv wrote come here.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zooconv.errors import CheckFailed
from zooconv.options import Format
from zooconv.tensor import DTYPES, TensorSpec


class LoadCheck:
    """The helper process, importing torch since it was made."""

    def __init__(self) -> None:
        # -P: a file named torch.py in the working directory must not be taken for torch
        self.process = subprocess.Popen([sys.executable, "-P", "-m", "zooconv.load_check"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def check(self, path: Path, format_: str, specs: Sequence[TensorSpec], key: str = "model") -> str:
        """Have torch load the file, whose tensors stand under `key`, if any; the version of torch that did.

        Raises CheckFailed, listing every tensor that is not as specified, or with torch's own complaint.
        """
        wanted = {spec.name: [DTYPES[spec.dtype].torch, list(spec.shape)] for spec in specs}
        request = {"path": str(path), "format": format_, "key": key, "tensors": wanted}
        answer, noise = self.process.communicate(json.dumps(request))
        if self.process.returncode != 0:
            raise CheckFailed("torch could not be asked to load the file", why=noise.strip().splitlines()[-3:],
                              next="check the installation of torch, or leave this check out: --no-load-check")
        report = json.loads(answer)
        if report["wrong"]:
            raise CheckFailed("torch does not load the file as planned", why=report["wrong"][:20],
                              next="please report this: it is a fault of zooconv")
        return str(report["torch"])

    def end(self) -> None:
        """End the process, whether it was asked or not."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextmanager
def loading(*, wanted: bool) -> Iterator[LoadCheck | None]:
    """A helper process for the block, or none."""
    helper = LoadCheck() if wanted else None
    try:
        yield helper
    finally:
        if helper is not None:
            helper.end()


def main() -> None:
    """The helper: import torch, then answer the one request on standard input."""
    import torch

    request = json.loads(sys.stdin.read())
    try:
        model = _LOADERS[request["format"]](request["path"], request["key"])
    except Exception as error:  # noqa: BLE001 - whatever torch raises is the answer
        wrong = [f"{type(error).__name__}: {error}".splitlines()[0]]
    else:
        wrong = [f"{name}: torch has {found}, must be {want}" for name, want in request["tensors"].items()
                 if (found := _form(torch.Tensor, model.get(name))) != want]
        wrong += [f"{name}: not in the plan" for name in model.keys() - request["tensors"].keys()]
    print(json.dumps({"torch": torch.__version__, "wrong": wrong}))


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
