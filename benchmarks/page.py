"""The pages that benchmarks write."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE / "data"
MACHINE = f"{os.cpu_count()} cores, {platform.machine()}, Linux, Python {platform.python_version()}"


def write(page: str, rows: Iterable[Sequence[str]], runs: int, machine: str = MACHINE) -> None:
    """Put the rows into the page's template; print it; remove the data, unless `--keep` was said."""
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    template = (HERE / f"{page}.template.md").read_text(encoding="utf-8")
    text = template.format(machine=machine, runs=runs, table=table)
    (HERE / f"{page}.md").write_text(text, encoding="utf-8")
    print(text)
    if "--keep" not in sys.argv:
        shutil.rmtree(DATA)
