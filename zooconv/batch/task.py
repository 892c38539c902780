"""One model of a batch, as plain data, and the pure function that every engine calls on it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from zooconv.atomic import locked
from zooconv.batch.current import outdated
from zooconv.batch.store import Store
from zooconv.errors import CheckFailed, ZooError
from zooconv.journal import note_of, read_note
from zooconv.load_check import OwnTorch
from zooconv.names import HubSource, Source
from zooconv.options import Options
from zooconv.pipeline import make
from zooconv.place import Place
from zooconv.plugins import plugins
from zooconv.registry import Record, Registry

Status = Literal["converted", "unchanged", "failed"]
TORCH = OwnTorch()


@dataclass(frozen=True)
class Failure:
    """Why a model could not be had, in the words of the error."""

    kind: str
    what: str
    why: tuple[str, ...] = ()
    next: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """A known error in its own words; an unknown one, a bug, with the end of its traceback."""
        if isinstance(error, ZooError):
            return cls(type(error).__name__, error.what, error.why, error.next)
        trace = "".join(traceback.format_exception(error)).splitlines()
        return cls(type(error).__name__, f"{type(error).__name__}: {error}".splitlines()[0], tuple(trace[-12:]),
                   "please report this: it is a bug")


@dataclass(frozen=True)
class Task:
    """What a worker is told: the source, the choices, and where the artifact goes.

    `mb` is how large the source is, where that matters. `known` are the records, by name, of this artifact and of its
    file so far. `fetches`: the source is not in the hub's cache yet; `prune`: and need not stay there. `versions` are
    those of the driver's plugins; `environment` is set before the hub's client is imported.
    """

    source: Source
    options: Options
    place: Place
    mb: float | None = None
    known: Mapping[str, Record] = field(default_factory=dict)
    resume: bool = False
    fetches: bool = False
    prune: bool = False
    store: Store | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The artifact's name in the registry."""
        return self.place.name

    @property
    def shown(self) -> str:
        """The artifact's path, or its address in a store."""
        return self.store.address(self.place.file) if self.store else str(self.place.path)


@dataclass(frozen=True)
class Outcome:
    """What became of a task. `record` is to be recorded, if it is not already; `remark` says what was not looked at."""

    name: str
    status: Status
    file: str
    seconds: float
    record: Record | None = None
    failure: Failure | None = None
    remark: str = ""


def versions() -> dict[str, str]:
    """The distribution and version of every plugin that works here."""
    return {plugin.name: f"{plugin.dist} {plugin.version}" for plugin in plugins() if not plugin.problem}


def work(task: Task) -> Outcome:
    """Make one artifact, or see that it is still what its record says. Never raises but for an interruption."""
    start = perf_counter()
    os.environ.update(task.environment)

    def outcome(status: Status, **more: Any) -> Outcome:
        return Outcome(task.name, status, task.shown, perf_counter() - start, **more)

    try:
        _same_plugins(task.versions)
        with locked(Path(f"{task.shown}.batch")) as waited:  # for another batch, which may have made it
            looks = task.resume or waited
            record, remark = _kept(task, task.known) if looks else (None, "")
            known = task.known if record else _known_now(task, looks=looks)
            if looks and record is None and known != task.known:
                record, remark = _kept(task, known)
            if record is not None:
                return outcome("unchanged", record=record, remark=remark)
            task = replace(task, known=known)
            return outcome("converted", record=task.store.make(task, TORCH) if task.store else _made(task))
    except Exception as error:  # noqa: BLE001 - one failure is one failure, whatever it is
        return outcome("failed", failure=Failure.of(error))


def _kept(task: Task, known: Mapping[str, Record]) -> tuple[Record | None, str]:
    """The artifact's record if it is as good as a new one, and what could not be looked at."""
    record = known.get(task.name)
    if record is None or record.path != task.place.file:
        return None, ""
    why, remark = outdated(record, task.source, task.options, task.place, task.store)
    return (None, "") if why else (record, remark)


def _known_now(task: Task, *, looks: bool) -> Mapping[str, Record]:
    """The records of the artifact and of its file, as others may have put or noted them since the batch began.

    Where there is no file, or its record is known and nobody asks whether it is current, nothing is read.
    """
    place, store = task.place, task.store
    there = store.exists(place.file) if store else place.path.exists()
    if not there or (not looks and task.name in task.known):
        return task.known
    registry = store.registry() if store else Registry.read(place.registry)
    note = store.note(place.file) if store else read_note(note_of(place.registry, place.file))
    return registry.of(place.name, place.file) | ({task.name: note.record} if note else {})


def _made(task: Task) -> Record:
    known = Registry(task.place.registry, dict(task.known))
    conversion = make(task.source, task.options, registry=known, torch=TORCH)
    fetched = conversion.preview.fetched
    if task.prune and fetched and not fetched.transfer and isinstance(task.source, HubSource):
        from zooconv.hub import Hub

        Hub().forget(fetched)
    return conversion.record


def _same_plugins(wanted: Mapping[str, str]) -> None:
    """Raises CheckFailed where a plugin of the driver's is missing here, or another version."""
    here = versions() if wanted else {}
    if wrong := different(wanted, here):
        raise CheckFailed("this worker has other plugins than the driver", why=wrong,
                          next="install the same versions on every worker")


def different(wanted: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """How a worker's plugins differ from the driver's. It may have more."""
    return [f"plugin {name}: the driver has {version}, the worker {here.get(name, 'has none')}"
            for name, version in wanted.items() if here.get(name) != version]
