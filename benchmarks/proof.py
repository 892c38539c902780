"""Parity in one process, twice: `python benchmarks/proof.py SOURCE ARTIFACT`; prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

from zooconv.checkpoint.open import open_checkpoint
from zooconv.parity import parity
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.subject import read_layout


def once(source_path: str, artifact_path: str) -> float:
    start = perf_counter()
    with open_checkpoint(source_path) as source, open_checkpoint(artifact_path) as artifact:
        found = recognise(source.specs, families(), what=source_path)
        ours = read_layout(artifact, found.family, chosen_layout(found.family, "d2"))
        result = parity(source, found, artifact, ours, "timm")
    if not result.passed:
        sys.exit("not the same function")
    return perf_counter() - start


if __name__ == "__main__":
    first, second = once(*sys.argv[1:]), once(*sys.argv[1:])
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(json.dumps({"first": first, "second": second, "peak": peak / 1024}))
