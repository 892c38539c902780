"""What tests share that is no fixture."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from zooconv_zoo.convnext import FAMILY

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
