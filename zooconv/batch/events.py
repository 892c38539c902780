"""What a batch tells while it runs: the events of `--progress jsonl`, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields

from zooconv.batch.task import Failure


@dataclass(frozen=True)
class Started:
    """The batch begins. Nothing has been fetched. `megabytes` is the disk it will take, where that was reckoned."""

    tasks: int
    engine: str
    workers: int
    layout: str
    names: list[str]
    megabytes: float | None = None


@dataclass(frozen=True)
class Submitted:
    """A task is with the workers."""

    name: str
    source: str


@dataclass(frozen=True)
class Lost:
    """The worker of a task is gone; the task is given to another, once."""

    name: str
    why: str


@dataclass(frozen=True)
class Finished:
    """A task is over: `converted`, `unchanged` (still what its record says), or `failed`, with the error.

    A converted artifact is in its place, and noted; the registry has it with the next `recorded`.
    """

    name: str
    status: str
    file: str
    seconds: float
    size: int | None = None
    sha256: str | None = None
    remark: str = ""
    error: Failure | None = None


@dataclass(frozen=True)
class Recorded:
    """The registry has these artifacts."""

    names: list[str]
    registry: str


@dataclass(frozen=True)
class Ended:
    """The batch is over. `left` were not started: after a failure, without `--keep-going`."""

    converted: int
    unchanged: int
    failed: list[str]
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0


Event = Started | Submitted | Lost | Finished | Recorded | Ended
Watcher = Callable[[Event], None]
KINDS: tuple[type, ...] = (Started, Submitted, Lost, Finished, Recorded, Ended)


def line(event: Event) -> str:
    """An event as a line of JSON. Every field is there, in its order, after `event`."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)}, ensure_ascii=False)


def schema() -> list[tuple[str, str, str]]:
    """Every event: its name, its fields, what it says."""
    return [(kind.__name__.lower(), ", ".join(f"`{f.name}`" for f in fields(kind)),
             " ".join((kind.__doc__ or "").split())) for kind in KINDS]
