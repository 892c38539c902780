"""What tests share that is no fixture."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zooconv_zoo.convnext import FAMILY

from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import TensorSpec

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
SMALL = FAMILY.toy


class Ran:
    """A finished command."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def files_in(folder: Path) -> list[str]:
    """The names of everything in a folder, hidden files too."""
    return sorted(p.name for p in folder.iterdir())


def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """The headers of these tensors, torch's or numpy's, of float32."""
    return {name: TensorSpec(name, tuple(tensor.shape)) for name, tensor in tensors.items()}


def read(tensors: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """What these tensors are taken for: family, dialect, variant."""
    found = recognise(specs(tensors), families(), what="x")
    return found.family.name, found.dialect.name, found.variant
