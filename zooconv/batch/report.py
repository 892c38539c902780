"""A batch in words and as data: what would be done, and what was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from zooconv.batch.plan import Planned
from zooconv.batch.run import Result
from zooconv.batch.task import Outcome, Task
from zooconv.names import LocalSource
from zooconv.output import table

HEADER = ("NAME", "", "MB", "SECONDS", "FILE")


def plan_data(planned: Planned) -> dict[str, Any]:
    """What would be done."""
    return {"engine": planned.engine.name, "jobs": planned.jobs, "megabytes": planned.megabytes,
            "tasks": [{"name": task.name, "source": _source(task), "mb": _mb(task), "file": task.shown,
                       "recorded": task.name in task.known} for task in planned.tasks]}


def plan_text(planned: Planned) -> str:
    """The same for people."""
    rows = [(task.name, _source(task), f"{_mb(task):,.0f}" if _mb(task) is not None else "", task.shown,
             "recorded" if task.name in task.known else "") for task in planned.tasks]
    total = sum(_mb(task) or 0 for task in planned.tasks)
    workers = f"{planned.jobs} at a time" if planned.jobs else f"as many at a time as {planned.engine.name} can"
    disk = f"; on the disk at most {planned.megabytes / 1e3:,.1f} GB" if planned.megabytes is not None else ""
    return (table(rows, ("NAME", "SOURCE", "MB", "FILE", ""))
            + f"\n\n{len(rows)} models, {total / 1e3:,.1f} GB of sources, {workers}{disk}")


def result_data(result: Result) -> dict[str, Any]:
    """What was done: an outcome a model, and the names that were not started."""
    return {"converted": len(result.of("converted")), "unchanged": len(result.of("unchanged")),
            "failed": len(result.of("failed")), "left": result.left, "seconds": result.seconds,
            "outcomes": [{**{k: v for k, v in asdict(outcome).items() if k != "record"}, "size": _size(outcome),
                          "sha256": outcome.record.output.files[0].sha256 if outcome.record else None}
                         for outcome in result.outcomes]}


def result_text(result: Result) -> str:
    """The table of all outcomes, the failures in full, and the sum."""
    rows = [(o.name, o.status, f"{size / 1e6:,.1f}" if (size := _size(o)) else "", f"{o.seconds:.1f}",
             "" if o.failure else o.file + (f"  ({o.remark})" if o.remark else ""))
            for o in sorted(result.outcomes, key=lambda o: (o.status == "failed", o.name))]
    return "\n".join([table(rows, HEADER), *_failures(result), "", total_line(result)])


def total_line(result: Result) -> str:
    """How many of each, and how long it took."""
    counts = {status: len(result.of(status)) for status in ("converted", "unchanged", "failed")}
    parts = [f"{n} {status}" for status, n in (counts | {"not started": len(result.left)}).items() if n]
    again = "" if result.ok else f"; {'once that is mended, ' if result.of('failed') else ''}go on with --resume"
    return f"{', '.join(parts)} in {result.seconds:,.1f} s{again}"


def _failures(result: Result) -> Iterator[str]:
    for outcome in result.of("failed"):
        if failure := outcome.failure:
            yield f"\n{outcome.name}: {failure.what}"
            yield from (f"  {line}" for line in failure.why)
            if failure.next:
                yield f"  next: {failure.next}"


def _source(task: Task) -> str:
    return str(task.source.path) if isinstance(task.source, LocalSource) else task.source.address


def _mb(task: Task) -> float | None:
    if task.mb is not None or isinstance(task.source, LocalSource):
        return task.mb
    return task.source.model.mb if task.source.model else None


def _size(outcome: Outcome) -> int | None:
    return outcome.record.output.files[0].size if outcome.record else None
