"""A batch before it starts: what is asked, and the tasks that come of it. Every objection is raised here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zooconv import journal
from zooconv.batch.budget import Disk, default_jobs, megabytes_of, workers_within
from zooconv.batch.store import REGISTRY, Store
from zooconv.batch.task import Task, versions
from zooconv.engine import Engine
from zooconv.errors import UsageError
from zooconv.names import HubSource, LocalSource, Source, UrlSource
from zooconv.options import Options
from zooconv.partial import must_be_distant
from zooconv.place import FOLDER, Place, place
from zooconv.plugins import engine
from zooconv.registry import Registry


@dataclass(frozen=True)
class Batch:
    """What is asked of a batch, besides the `options` of every conversion.

    `jobs` at once; `resume`: leave alone what is still as recorded; `keep_going` after a failure; `store`: the address
    that artifacts go to; `max_disk` and `max_memory`, in bytes; `prune`: remove each source that was not in the hub's
    cache once it is converted; `record=False` leaves the notes for a later batch to record.
    """

    sources: Sequence[Source]
    options: Options = field(default_factory=Options)
    store: Store | None = None
    engine: str = "local"
    scheduler: str | None = None
    jobs: int | None = None
    keep_going: bool = False
    resume: bool = False
    max_disk: int | None = None
    max_memory: int | None = None
    prune: bool = False
    record: bool = True

    @property
    def counts_sources(self) -> bool:
        """Does it matter which sources are in the hub's cache already?"""
        return self.prune or self.max_disk is not None


@dataclass(frozen=True)
class Planned:
    """The tasks, who does them, and the disk that they take."""

    tasks: tuple[Task, ...]
    engine: Engine
    jobs: int | None
    disk: Disk
    megabytes: float | None
    makes_room: bool

    @property
    def torch(self) -> bool:
        """Will torch be needed? Not for a batch that is resumed and has all its records."""
        return any(task.options.load_check and not (task.resume and task.name in task.known) for task in self.tasks)


def plan(batch: Batch, *, dry: bool = False) -> Planned:
    """Settle everything that can be settled before the first byte.

    What killed processes left behind is recorded first, where the batch records at all. Raises UsageError for places
    that collide, a registry that cannot be read, or a budget that is too small; SourceUnavailable where a size must be
    asked of the hub in vain.
    """
    for source in batch.sources if batch.options.partial else ():
        must_be_distant(source)
    crew = engine(batch.engine)
    near = [_place(batch, source) for source in batch.sources]
    places = [replace(p, path=p.path.absolute(), registry=p.registry.absolute()) for p in near] if (
        crew.remote and batch.store is None) else near  # workers work elsewhere
    _apart(places)
    settle = batch.record and not dry
    registries = {path: _registry(batch, path, settle=settle) for path in {p.registry for p in places}}
    fetching = [not isinstance(source, LocalSource) and not (batch.counts_sources and _cached(source))
                for source in batch.sources]
    jobs, environment = batch.jobs, dict[str, str]()
    if not crew.remote or batch.max_memory is not None:
        jobs, environment = workers_within(batch.max_memory, jobs or default_jobs(fetching=any(fetching)),
                                           load_check=batch.options.load_check)
        jobs = min(jobs, len(places))
    sized, mine = batch.max_disk is not None, versions() if crew.remote else {}
    tasks = tuple(
        Task(source, replace(batch.options, output=where.path, registry=where.registry), where,
             mb=megabytes_of(source) if sized else None, known=registries[where.registry].of(where.name, where.file),
             resume=batch.resume, fetches=fetch, prune=fetch and batch.prune, store=batch.store,
             versions=mine, environment=environment)
        for source, where, fetch in zip(batch.sources, places, fetching, strict=True))
    disk = Disk(batch.max_disk / 1e6 if batch.max_disk is not None else None, prune=batch.prune)
    return Planned(tasks, crew, jobs, disk, disk.plan(tasks, jobs or 1) if sized else None,
                   batch.store is None and any(p.path.parent == FOLDER for p in near))


def _place(batch: Batch, source: Source) -> Place:
    options = batch.options
    if options.output is not None and not options.output.is_dir():
        raise UsageError(f"there is no folder {options.output}", why=["a batch writes several files"],
                         next=f"mkdir -p {options.output}")
    where = place(source, options.layout, output=None if batch.store else options.output, format_=options.format,
                  registry=options.registry, name=options.name, marks=options.marks)
    if batch.store:
        return replace(where, path=Path(where.path.name), registry=Path(REGISTRY), file=where.path.name)
    return where


def _registry(batch: Batch, path: Path, *, settle: bool) -> Registry:
    if batch.store:
        return batch.store.settled() if settle else batch.store.registry()
    return journal.settled(path) if settle else Registry.read(path)


def _apart(places: Sequence[Place]) -> None:
    """Raises UsageError where two sources would become one file, or one record."""
    for what, keys in (("file", [str(p.path) for p in places]), ("record", [p.name for p in places])):
        if twice := sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []:
            raise UsageError(f"several sources would become the same {what}", why=twice[:20],
                             next="convert them in batches of their own, with another -o or --registry")


def _cached(source: HubSource | UrlSource) -> bool:
    from zooconv.hub import Hub
    from zooconv.sources.web import kept_at

    return kept_at(source).is_file() if isinstance(source, UrlSource) else Hub().is_cached(source)
