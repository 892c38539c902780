"""`make bench`: speed and memory, as ratios of runs that take turns, written to benchmarks/README.md.

Every figure is a median of at least five runs. Ratios are taken run by run, so that a machine whose speed drifts does
not decide. Nothing heavy is imported here: a child's peak memory starts at its parent's.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from page import DATA, write

HERE = Path(__file__).parent
RUNS = int(os.environ.get("RUNS", "7"))
PYTHON = sys.executable
CLI = [PYTHON, "-m", "zooconv"]


def timed(command: list[object], **options: object) -> float:
    start = perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    return perf_counter() - start


def core(size: str, *flags: str) -> dict[str, float]:
    """One core conversion in a process of its own."""
    done = subprocess.run([PYTHON, HERE / "core.py", DATA / f"{size}.pth", DATA / "core.pth", *flags], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)


def copy_and_hash(source: Path) -> float:
    """The yardstick: cp, then one SHA-256 of the copy with hashlib."""
    start = perf_counter()
    subprocess.run(["cp", source, DATA / "copy.pth"], check=True)
    with (DATA / "copy.pth").open("rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")
    return perf_counter() - start


def turns(runs: int, **contenders: Callable[[], float]) -> dict[str, list[float]]:
    """Each contender once a round; the first round warms the cache and does not count."""
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(runs + 1):
        for name, run in contenders.items():
            value = run()
            if number:
                seen[name].append(value)
    return seen


def ratio(a: list[float], b: list[float]) -> float:
    return median(x / y for x, y in zip(a, b, strict=True))


def seconds(values: list[float]) -> str:
    return f"{median(values):.2f} s"


def verdict(value: float, goal: float, *, least: bool = False) -> str:
    met = value >= goal if least else value <= goal
    return "met" if met else f"missed by {abs(value / goal - 1):.0%}"


def large_file() -> list[tuple[str, ...]]:
    """951 MB, float32, .pth to .pth, warm cache."""
    parts: list[dict[str, float]] = []
    whole: list[dict[str, float]] = []

    def files_only() -> float:
        parts.append(core("951", "--no-tensor-digests"))
        return parts[-1]["core"]

    def as_shipped() -> float:
        whole.append(core("951"))
        return whole[-1]["core"]

    seen = turns(RUNS, yardstick=lambda: copy_and_hash(DATA / "951.pth"), core=files_only, shipped=as_shipped)
    usual = turns(5, usual=lambda: timed([PYTHON, HERE / "usual.py", DATA / "951.pth", DATA / "usual.pth"]),
                  shipped=lambda: core("951")["core"])
    check, commit = ([p[k] for p in whole[1:]] for k in ("check", "commit"))
    value, full = ratio(seen["core"], seen["yardstick"]), ratio(seen["shipped"], seen["yardstick"])
    faster = ratio(usual["usual"], usual["shipped"])
    return [
        ("core, 951 MB: both file hashes, finiteness, shapes", seconds(seen["core"]),
         f"{value:.2f} × (cp + SHA-256, {seconds(seen['yardstick'])})", "≤ 1.15 ×", verdict(value, 1.15)),
        ("the same and a SHA-256 per tensor, as zooconv does it", seconds(seen["shipped"]), f"{full:.2f} ×", "", ""),
        ("the usual script, whole process", seconds(usual["usual"]), f"{faster:.1f} × what zooconv takes", "≥ 5 ×",
         verdict(faster, 5, least=True)),
        ("apart: reading back, CRC-32 of every record", seconds(check), "", "", ""),
        ("apart: waiting for the disk (fsync, rename)", seconds(commit), "", "", ""),
    ]


def memory() -> list[tuple[str, ...]]:
    rows = []
    for size, what in (("951", "1 GB"), ("6000", "6 GB, sparse")):
        peak = median(core(size)["peak"] for _ in range(5 if size == "951" else 1))
        rows.append((f"peak memory at {what}", f"{peak:.0f} MiB", "", "≤ 64 MiB", verdict(peak, 64)))
    return rows


def command_line() -> list[tuple[str, ...]]:
    rows = []
    convert = [*CLI, "convert", DATA / "105.pth", "--force", "--quiet", "--registry", DATA / "registry.json",
               "-o", DATA / "cli.pth"]
    seen = turns(RUNS, without=lambda: timed([*convert, "--no-load-check"]), with_=lambda: timed(convert))
    for name, label, goal in (("without", "without the load check", 0.45), ("with_", "with the load check", 1.8)):
        value = median(seen[name])
        rows.append((f"`zooconv convert`, 105 MB, a fresh process, {label}", f"{value:.2f} s", "", f"≤ {goal} s",
                     verdict(value, goal)))
    for verb, goal in (("list", 20), ("--help", 15)):
        seen = turns(2 * RUNS, python=lambda: timed([PYTHON, "-c", "pass"]),
                     zooconv=lambda verb=verb: timed([*CLI, verb]))
        value = ratio(seen["zooconv"], seen["python"])
        rows.append((f"`zooconv {verb}`", f"{median(seen['zooconv']) * 1000:.0f} ms",
                     f"{value:.1f} × `python -c pass`", f"≤ {goal} ×", verdict(value, goal)))
    return rows


def proof(variant: str) -> dict[str, float]:
    done = subprocess.run([PYTHON, HERE / "proof.py", DATA / f"{variant}.safetensors", DATA / f"{variant}_d2.pth"],
                          check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def proofs() -> list[tuple[str, ...]]:
    """Parity with timm: a fresh process, once more in the same process, and what the largest needs."""
    command = [*CLI, "parity", DATA / "tiny_d2.pth", "--against", "timm", "--quiet"]
    fresh = median(timed(command) for _ in range(5))
    again = median(proof("tiny")["second"] for _ in range(5))
    most = proof("xlarge")
    times = most["peak"] * 2 ** 20 / (DATA / "xlarge.safetensors").stat().st_size
    return [
        ("`zooconv parity`, ConvNeXt-T against timm, a fresh process", f"{fresh:.1f} s", "", "≤ 6 s",
         verdict(fresh, 6)),
        ("the same once more in one process", f"{again:.2f} s", "", "≤ 1 s", verdict(again, 1)),
        ("ConvNeXt-XL, once more in one process", f"{most['second']:.1f} s", "", "", ""),
        ("its peak memory", f"{most['peak'] / 1024:.1f} GiB", f"{times:.1f} × its file", "≤ 4 ×", verdict(times, 4)),
    ]


def main() -> None:
    subprocess.run([PYTHON, HERE / "data.py", DATA], check=True)
    rows = [*large_file(), *memory(), *command_line(), *proofs()]
    for left in ("core.pth", "copy.pth", "usual.pth", "cli.pth", "cli.pth.md", "registry.json"):
        (DATA / left).unlink(missing_ok=True)
    write("README", rows, RUNS)


if __name__ == "__main__":
    main()
