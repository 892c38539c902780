"""One conversion, timed from inside: `python benchmarks/core.py SOURCE TARGET [--no-tensor-digests]`; prints JSON.

The core is what turns a file on disk into another one: opening, recognition, plan, and the pass with both file hashes,
finiteness and shapes. Reading back, and bringing the file onto the disk, are timed apart.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np  # noqa: F401 - imported before the clock starts, as in a warm process

from zooconv import execute as engine
from zooconv.atomic import drafting
from zooconv.audit import auditing
from zooconv.check import check_written
from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.write import writer_for
from zooconv.mapping.plan import make_plan
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise


class NoDigest:
    """In the place of a tensor's SHA-256, to see what the tensors' digests cost beside those of the files."""

    def update(self, data: memoryview) -> None:
        pass

    def hexdigest(self) -> str:
        return "0" * 64


class OnlyTheFile:
    """hashlib for the engine: its first hash is the file's, all others are tensors'."""

    def __init__(self, real: object) -> None:
        self.real, self.made = real, 0

    def sha256(self) -> object:
        self.made += 1
        return self.real.sha256() if self.made == 1 else NoDigest()


def main(source: str, target: str, tensor_digests: bool) -> None:
    known = families()
    if not tensor_digests:
        engine.hashlib = OnlyTheFile(engine.hashlib)
    start = perf_counter()
    with open_checkpoint(source) as checkpoint, auditing(checkpoint.files, wanted=True) as audit:
        found = recognise(checkpoint.specs, known, what=source)
        plan = make_plan(found, chosen_layout(found.family, "d2"))
        writer = writer_for("pth", plan.targets, plan.facts)
        with drafting(Path(target)) as draft:
            written = engine.execute(plan, checkpoint, draft, writer, audit)
            core = perf_counter()
            check_written(draft.path, plan, writer, written)
            check = perf_counter()
            draft.commit()
            commit = perf_counter()
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(json.dumps({"core": core - start, "check": check - core, "commit": commit - check, "peak": peak / 1024}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--no-tensor-digests" not in sys.argv)
