"""What a batch may use: disk and memory, reckoned before the first byte is fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zooconv.errors import SourceUnavailable, UsageError
from zooconv.names import LocalSource, Source, UrlSource

if TYPE_CHECKING:
    from zooconv.batch.task import Task

CORE = 64e6
"""Bytes that a conversion needs besides torch, whatever the size of the file."""
TORCH = 300e6
"""Bytes that torch costs once; workers of one machine share them."""
LEAST_BUFFER = 64e6
"""Bytes below which Xet downloads crawl."""
# https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables; hf-xet sizes them by the machine
XET = "HF_XET_RECONSTRUCTION_DOWNLOAD_BUFFER_{}"


def megabytes_of(source: Source) -> float:
    """How large a source is: as the file says, else the zoo, else the hub. Raises SourceUnavailable."""
    if isinstance(source, LocalSource):
        return source.path.stat().st_size / 1e6
    if source.model is not None:
        return float(source.model.mb)
    from zooconv.hub import Hub

    if isinstance(source, UrlSource):
        raise SourceUnavailable(f"nothing says how large {source.url} is", next="leave out --max-disk")
    sizes = Hub().look(source).sizes
    chosen = next((name for name in source.files if name in sizes), None)
    if chosen is None:
        raise SourceUnavailable(f"{source.repo} has none of: {', '.join(source.files)}")
    shards = [size for name, size in sizes.items() if name.endswith(chosen.removesuffix(".index.json")[-4:])]
    return (sum(shards) if chosen.endswith(".index.json") else sizes[chosen]) / 1e6


class Disk:
    """Megabytes on the disk: of artifacts for good, and of sources while they are needed or for good."""

    def __init__(self, most: float | None, *, prune: bool) -> None:
        self.most, self.prune = most, prune
        self.used = 0.0

    def plan(self, tasks: Sequence[Task], at_once: int) -> float:
        """The most that a batch will have on the disk. Raises UsageError where that is too much."""
        kept = sum(_artifact(task) + (0 if self.prune else _source(task)) for task in tasks)
        passing = sorted((_source(task) for task in tasks), reverse=True)[:at_once] if self.prune else []
        least = kept + max(passing, default=0)
        if self.most is not None and least > self.most:
            advice = "" if self.prune else "drop each source after use: --prune-sources; or "
            raise UsageError(f"the batch takes {least / 1e3:,.1f} GB on the disk, and may take {self.most / 1e3:,.1f}",
                             why=[f"{len(tasks)} artifacts: {sum(map(_artifact, tasks)) / 1e3:,.1f} GB",
                                  f"sources to be fetched: {sum(map(_source, tasks)) / 1e3:,.1f} GB"],
                             next=f"{advice}raise --max-disk, or name fewer models")
        return kept + sum(passing)

    def admits(self, task: Task) -> bool:
        """May this task start now?"""
        return self.most is None or self.used + _artifact(task) + _source(task) <= self.most

    def started(self, task: Task) -> None:
        self.used += _artifact(task) + _source(task)

    def ended(self, task: Task, *, made: bool) -> None:
        """A task is over: its source may be gone; without an artifact, so is its room."""
        self.used -= (_source(task) if self.prune or not made else 0) + (0 if made else _artifact(task))


def _artifact(task: Task) -> float:
    """An artifact is at most as large as its source, near enough."""
    return task.mb or 0.0


def _source(task: Task) -> float:
    return (task.mb or 0.0) if task.fetches else 0.0


def workers_within(most: int | None, jobs: int, *, load_check: bool) -> tuple[int, dict[str, str]]:
    """How many workers fit into `most` bytes, and the environment that keeps their downloads within the rest.

    Raises UsageError where not even one fits.
    """
    if most is None:
        return jobs, {}
    torch = TORCH if load_check else 0
    least = torch + CORE + LEAST_BUFFER
    if most < least:
        raise UsageError(f"one worker takes {least / 1e9:.2f} GB, and the batch may take {most / 1e9:.2f}",
                         next="raise --max-memory" + (", or leave out torch: --no-load-check" if load_check else ""))
    jobs = max(1, min(jobs, int((most - torch) // (CORE + LEAST_BUFFER))))
    each = int((most - torch) / jobs - CORE)
    sizes = {"SIZE": each // 2, "PERFILE_SIZE": each // 2, "LIMIT": each}
    return jobs, {XET.format(name): str(size) for name, size in sizes.items()}


def default_jobs(*, fetching: bool) -> int:
    """A worker a core; two where sources are fetched, since half of them wait for bytes."""
    return (os.cpu_count() or 1) * (2 if fetching else 1)
