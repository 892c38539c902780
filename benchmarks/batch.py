"""`make bench-batch`: what batches cost, as ratios of runs that take turns, written to benchmarks/batch.md.

Every contender is a process of its own, and what is measured begins with its second model: start-up is told apart. The
yardstick is the same work in one process that is kept on one core, one model after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING

from page import DATA, MACHINE, write

if TYPE_CHECKING:
    from zooconv.batch.events import Watcher

RUNS = int(os.environ.get("RUNS", "3"))
BLOCKS = 7767  # of a ConvNeXt with 70,000 tensors
LARGE, TINY, WORKERS = 20, int(os.environ.get("TINY", "1000")), 2


# -- contenders, each in a process of its own ------------------------------------------------------------------------


def steady(ends: list[tuple[float, float]], workers: int) -> dict[str, float]:
    """Seconds a model, by the clock and of processors, from the moment at which every worker has done one."""
    first, last, count = ends[workers - 1], ends[-1], len(ends) - workers
    return {"each": (last[0] - first[0]) / count, "cpu": (last[1] - first[1]) / count}


def now() -> tuple[float, float]:
    """The clock, and the processor time of this process and all its children."""
    import psutil

    me, spent = psutil.Process(), 0.0
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):
            spent += sum(process.cpu_times()[:2])
    return perf_counter(), spent


def one_by_one(folder: str) -> dict[str, float]:
    """The road itself, on one core: no workers, no registry."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from zooconv.load_check import OwnTorch
    from zooconv.names import local
    from zooconv.options import Options
    from zooconv.pipeline import make
    from zooconv.registry import Registry

    out, ends, torch = Path(folder, "out"), [], OwnTorch()
    paths = sorted(Path(folder).glob("*.pth"))
    for path in paths:
        make(local(path), Options(output=out, registry=out / "registry.json", force=True), torch=torch,
             registry=Registry(out / "registry.json", {}))
        ends.append(now() if len(ends) + 1 in (1, len(paths)) else (perf_counter(), 0.0))
    return steady(ends, 1)


def batch(folder: str, engine: str, watch: Watcher | None = None) -> dict[str, float]:
    """A whole batch, registry included; `watch` is told its events instead of a clock."""
    from zooconv.batch.events import Ended, Finished
    from zooconv.batch.plan import Batch
    from zooconv.batch.run import run_batch
    from zooconv.batch.select import select
    from zooconv.options import Options

    start, ends = perf_counter(), []
    out = Path(folder, "out")
    names = [str(path) for path in sorted(Path(folder).glob("*.pth"))]
    options = Options(output=out, registry=out / "registry.json", force=True)

    def clock(event: object) -> None:
        if isinstance(event, Finished | Ended):
            counted = len(ends) + 1 in (WORKERS, len(names), len(names) + 1)  # looking at every process takes a while
            ends.append(now() if counted else (perf_counter(), 0.0))

    result = run_batch(Batch(select(names), options, engine=engine, jobs=WORKERS), watch or clock)
    assert result.ok
    if watch:
        return {}
    recorded = steady([*ends[:-2], ends[-1]], WORKERS)
    return {**steady(ends[:-1], WORKERS), "recorded": recorded["each"], "first": ends[0][0] - start}


def memory(folder: str, engine: str) -> dict[str, float]:
    """The most memory of a batch, all processes, in MiB. It is a run of its own: looking takes processor time."""
    from zooconv.batch.events import Finished

    finished, over, most = [], Event(), {"held": 0.0, "pss": 0.0}

    def watch(event: object) -> None:
        if isinstance(event, Finished):
            finished.append(event)

    def look() -> None:
        import psutil

        me = psutil.Process()
        while not over.wait(0.2):
            looks = []
            for process in [me, *me.children(recursive=True)]:
                with suppress(OSError):
                    looks.append(shared_out(process.pid))
            if len(finished) >= WORKERS:  # all workers are there: a look at a fork sees twice what it shares out
                most.update({key: max(value, sum(seen[key] for seen in looks)) for key, value in most.items()})

    thread = Thread(target=look)
    thread.start()
    try:
        batch(folder, engine, watch)
    finally:
        over.set()
        thread.join()
    return most


def shared_out(process: int | str) -> dict[str, float]:
    """A process's memory in MiB, shared pages shared out (PSS), and what of it is held: no copy of it is in a file.

    https://docs.kernel.org/filesystems/proc.html (smaps_rollup)
    """
    fields = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]:
        name, size = line.split()[:2]
        fields[name] = int(size) / 1024
    return {"pss": fields["Pss:"], "held": fields["Pss_Anon:"] + fields["Pss_Shmem:"]}


def torch_alone() -> dict[str, float]:
    """What torch costs: this process with it, less this process without it."""
    import zooconv.batch.preload  # noqa: F401

    before = shared_out("self")
    import torch  # noqa: F401

    after = shared_out("self")
    return {f"base {key}": before[key] for key in before} | {f"torch {key}": after[key] - before[key] for key in after}


def planning() -> dict[str, float]:
    """A file's names and shapes, recognised among all families, and the plan of its conversion proved."""
    import gc
    from dataclasses import replace

    from zooconv_zoo.convnext import FAMILY

    from zooconv.mapping.plan import make_plan
    from zooconv.plugins import families
    from zooconv.recognise import recognise
    from zooconv.tensor import TensorSpec

    gc.set_threshold(100_000)  # as the command line does
    known, taken = families(), {}
    for blocks in (9, BLOCKS):
        config = replace(FAMILY.toy, depths=(3, 3, blocks, 3))
        file = {spec.name: TensorSpec(spec.name, spec.shape) for spec in FAMILY.tensors(config)}
        begin = perf_counter()
        found = recognise(file, known, what="the file")
        middle = perf_counter()
        make_plan(found, FAMILY.layouts[0])
        taken = {"tensors": len(file), "recognised": middle - begin, "planned": perf_counter() - middle}
    return taken


# -- the page --------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> dict[str, float]:
    """A contender's numbers. Its sources are in the page cache, and so are the large artifacts that it makes anew.

    So it takes up no memory but what the artifacts before let go of: a virtual machine may have to get new memory from
    its host, which takes longer than all the rest and as long as it happens to.
    """
    folder = DATA / str(arguments[1]) if len(arguments) > 1 else DATA
    if "tiny" in arguments:
        shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir(parents=True, exist_ok=True)
    for path in [*folder.glob("*.pth"), *folder.glob("out/*.pth")]:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass
    os.sync()
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {
        "OPENBLAS_NUM_THREADS": "1", "DATA": str(DATA)})
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def files() -> None:
    """Twenty models of 105 MB, apart on the disk; a thousand tiny ones that are links to one."""
    from data import SIZES, random_file
    from zooconv_zoo.convnext import FAMILY

    for folder, config, count in (("large", SIZES["105"], LARGE), ("tiny", FAMILY.toy, TINY)):
        (DATA / folder).mkdir(parents=True, exist_ok=True)
        first = DATA / folder / "m0000.pth"
        if not first.exists():
            random_file(first, config)
        for i in range(1, count):
            path = DATA / folder / f"m{i:04}.pth"
            if not path.exists():
                shutil.copyfile(first, path) if folder == "large" else os.link(first, path)


def verdict(value: float, goal: float, *, least: bool = False) -> str:
    met = value >= goal if least else value <= goal
    return "met" if met else f"missed by {abs(value / goal - 1):.0%}"


def main() -> None:
    files()
    used = run("memory", "large", "local")  # also makes the artifacts that the others make anew
    seen: dict[str, list[dict[str, float]]] = {"one": [], "local": [], "dask": []}
    for _ in range(RUNS):
        seen["one"].append(run("one", "large"))
        seen["local"].append(run("batch", "large", "local"))
        seen["dask"].append(run("batch", "large", "dask"))
    tiny, tiny_alone, torch = run("batch", "tiny", "local"), run("one", "tiny"), run("torch")
    plans = [run("plan") for _ in range(RUNS)]
    plan = {key: median(one[key] for one in plans) for key in plans[0]}

    def turns(a: str, b: str) -> float:
        return median(x["each"] / y["each"] for x, y in zip(seen[a], seen[b], strict=True))

    def of(name: str, key: str) -> float:
        return median(r[key] for r in seen[name])

    rate, dask = turns("one", "local") / WORKERS, turns("dask", "local")
    overhead, work = (tiny["recorded"] - tiny_alone["each"] / WORKERS) * 1000, (tiny["cpu"] - tiny_alone["cpu"]) * 1000
    processors = median(x["cpu"] / y["cpu"] for x, y in zip(seen["local"], seen["one"], strict=True))
    first = f"{of('local', 'first'):.1f} s; Dask {of('dask', 'first'):.1f} s"
    parts = f"{tiny['recorded'] * 1000:.0f} ms a model; alone {tiny_alone['each'] * 1000:.0f} ms on one core"
    spent = f"{tiny['cpu'] * 1000:.0f} ms a model; alone {tiny_alone['cpu'] * 1000:.0f} ms"
    rows = [
        (f"{LARGE} models of 105 MB, {WORKERS} workers", f"{of('local', 'each') * 1000:.0f} ms a model",
         f"{rate:.2f} × {WORKERS} × one core ({of('one', 'each') * 1000:.0f} ms)", "≥ 0.9 ×",
         verdict(rate, 0.9, least=True)),
        ("processor time of the same", f"{of('local', 'cpu') * 1000:.0f} ms a model",
         f"{processors:.2f} × one core ({of('one', 'cpu') * 1000:.0f} ms)", "≤ 1.1 ×", verdict(processors, 1.1)),
        ("the models of 105 MB with Dask on this machine", f"{of('dask', 'each') * 1000:.0f} ms a model",
         f"{dask:.2f} × local workers", "≤ 1.15 ×", verdict(dask, 1.15)),
        ("until the first model is there", first, "", "", ""),
        (f"{TINY:,} tiny models: what a batch adds to each", f"{overhead:.1f} ms", parts, "≤ 15 ms",
         verdict(overhead, 15)),
        ("the same in processor time", f"{work:.1f} ms", spent, "≤ 15 ms", verdict(work, 15)),
        (f"planning a file of {plan['tensors']:,} tensors", f"{plan['planned']:.2f} s",
         f"after {plan['recognised']:.2f} s to recognise it", "≤ 1 s", verdict(plan["planned"], 1)),
        *[(what, f"{used[key]:.0f} MiB",
           f"torch {torch[f'torch {key}']:.0f} MiB, Python and the tables {torch[f'base {key}']:.0f} MiB",
           f"≤ {WORKERS} × 64 MiB + those",
           verdict(used[key], WORKERS * 64 + torch[f"base {key}"] + torch[f"torch {key}"]))
          for what, key in (("peak memory of the batch, all processes", "pss"),
                            ("of it held, with no copy in a file", "held"))],
    ]
    write("batch", rows, RUNS, f"{MACHINE}, a load of {os.getloadavg()[1]:.0f} over five minutes")


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--keep"]
    if not arguments:
        main()
    else:
        contender = {"one": one_by_one, "batch": batch, "torch": torch_alone,
                     "memory": memory, "plan": planning}[arguments[0]]
        print(json.dumps(contender(*[str(DATA / a) if a in ("large", "tiny") else a for a in arguments[1:]])))
