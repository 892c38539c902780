"""The driver: tasks to the workers, outcomes back, records into the registry in groups.

Nobody who is killed takes a record along. A worker leaves a note before it gives an artifact its name
(`zooconv.journal`); the driver takes notes away only after the registry has the records, and the next batch begins with
the notes that are left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from zooconv import journal
from zooconv.atomic import sweep
from zooconv.batch.events import Ended, Finished, Lost, Recorded, Started, Submitted, Watcher
from zooconv.batch.plan import Batch, Planned, plan
from zooconv.batch.select import select
from zooconv.batch.task import Failure, Outcome, Task, different, versions, work
from zooconv.engine import Crew, Pool
from zooconv.errors import UsageError
from zooconv.names import LocalSource
from zooconv.options import Options
from zooconv.place import FOLDER
from zooconv.registry import Record

TRIES = 2
"""How often a task is given to a worker before it counts as the one that kills them."""
PAUSE = 0.5
"""Seconds between two groups of records, at least."""
SHARE = 30
"""Of the time, no more than one part in this many goes into recording: a registry is written as a whole."""


@dataclass
class Result:
    """What became of a batch: an outcome a task, in the order in which they ended; the names that were not started."""

    outcomes: list[Outcome] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, status: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def ok(self) -> bool:
        """Did every model end well?"""
        return not self.of("failed") and not self.left


def convert_many(names: Iterable[str], *, jobs: int | None = None, engine: str = "local", scheduler: str | None = None,
                 keep_going: bool = True, resume: bool = False, **options: Any) -> Result:
    """Fetch and convert many models, several at once. `options` are those of `Options`.

    `names` are names of the zoo, patterns, hub repositories or files. One failure is one failure: it is in the result,
    and raises nothing. Raises UsageError where a name means nothing; then nothing was started. As with every use of
    worker processes, a script that calls this does so below `if __name__ == "__main__":`.
    """
    return run_batch(Batch(select(list(names)), Options(**options), engine=engine, scheduler=scheduler, jobs=jobs,
                           keep_going=keep_going, resume=resume))


def run_batch(batch: Batch, watch: Watcher = lambda event: None) -> Result:
    """Plan a batch and run it. Raises UsageError before anything is started; afterwards nothing but interruptions."""
    return run_planned(batch, plan(batch), watch)


def run_planned(batch: Batch, planned: Planned, watch: Watcher = lambda event: None) -> Result:
    """Run the tasks of a plan. An interruption ends the workers at once; what they have put in place is recorded."""
    tasks, engine = planned.tasks, planned.engine
    start = monotonic()
    ledger, result = _Ledger(batch, watch), Result()
    if planned.makes_room:
        FOLDER.mkdir(exist_ok=True)
    try:
        with engine.start(Crew(planned.jobs, batch.scheduler, planned.torch)) as pool:
            _same_everywhere(pool)
            watch(Started(len(tasks), engine.name, planned.jobs or pool.slots, batch.options.layout,
                          [task.name for task in tasks], planned.megabytes))
            _Driver(batch, planned, pool, ledger, result, watch).run()
    except BaseException:
        ledger.take_up(tasks)
        raise
    finally:
        for folder in {task.place.path.parent for task in tasks} if batch.store is None else ():
            sweep(folder)
        ledger.record()
        ended = {outcome.name for outcome in result.outcomes}
        result.left = [task.name for task in tasks if task.name not in ended]
        result.seconds = monotonic() - start
        watch(Ended(len(result.of("converted")), len(result.of("unchanged")), [o.name for o in result.of("failed")],
                    result.left, result.seconds))
    return result


class _Ledger:
    """Records on their way into the registry."""

    def __init__(self, batch: Batch, watch: Watcher) -> None:
        self.batch, self.watch = batch, watch
        self.waiting: dict[Path, dict[str, Record]] = {}
        self.due = monotonic() + PAUSE

    def add(self, task: Task, outcome: Outcome) -> None:
        old = outcome.status == "unchanged" and task.known.get(task.name) == outcome.record
        if outcome.record is not None and self.batch.record and not old:
            self.waiting.setdefault(task.place.registry, {})[task.name] = outcome.record

    def take_up(self, tasks: Iterable[Task]) -> None:
        """Record what workers have put in place without having been able to say so."""
        if self.batch.record and self.batch.store is None:
            for path in {task.place.registry for task in tasks}:
                journal.settled(path)

    def record(self) -> None:
        """Put what waits into the registry."""
        start = monotonic()
        for path in list(self.waiting):
            records = self.waiting[path]
            if self.batch.store:
                self.batch.store.record(records)
            else:
                journal.record(path, records)
            del self.waiting[path]
            where = self.batch.store.address(path.name) if self.batch.store else str(path)
            self.watch(Recorded(list(records), where))
        self.due = monotonic() + max(PAUSE, SHARE * (monotonic() - start))


class _Driver:
    """The state of a running batch."""

    def __init__(self, batch: Batch, planned: Planned, pool: Pool, ledger: _Ledger, result: Result,
                 watch: Watcher) -> None:
        self.batch, self.pool, self.ledger, self.result, self.watch = batch, pool, ledger, result, watch
        self.disk, self.queue = planned.disk, deque(planned.tasks)
        self.running: dict[Future[Outcome], Task] = {}
        self.tries: Counter[str] = Counter()

    def run(self) -> None:
        while self.running or (self.queue and not self.stopping):
            while self.queue and not self.stopping and self.has_room(self.queue[0]):
                self.submit(self.queue.popleft())
            done, _ = wait(self.running, timeout=max(0.0, self.ledger.due - monotonic()), return_when=FIRST_COMPLETED)
            for future in done:
                self.take(future, self.running.pop(future))
            if monotonic() >= self.ledger.due:
                self.ledger.record()

    def has_room(self, task: Task) -> bool:
        """May this task start now? If no other runs it may: the plan has seen that there is room for each alone."""
        return not self.running or (len(self.running) < self.pool.slots and self.disk.admits(task))

    @property
    def stopping(self) -> bool:
        return not self.batch.keep_going and bool(self.result.of("failed"))

    def submit(self, task: Task) -> None:
        self.disk.started(task)
        self.tries[task.name] += 1
        source = str(task.source.path) if isinstance(task.source, LocalSource) else task.source.address
        self.watch(Submitted(task.name, source))
        self.running[self.pool.submit(work, task)] = task

    def take(self, future: Future[Outcome], task: Task) -> None:
        try:
            outcome = future.result()
        except self.pool.lost as error:
            self.disk.ended(task, made=False)
            why = f"its worker was killed or crashed ({type(error).__name__})"
            if self.tries[task.name] < TRIES:
                self.watch(Lost(task.name, why))
                self.queue.appendleft(task)
                return
            outcome = Outcome(task.name, "failed", task.shown, 0.0, failure=Failure(
                "WorkerLost", f"{task.name}: {why}, {TRIES} times",
                next="is there memory enough? fewer at once: -j 1, or --max-memory"))
        except Exception as error:  # noqa: BLE001 - what the engine could not carry is this task's failure
            self.disk.ended(task, made=False)
            outcome = Outcome(task.name, "failed", task.shown, 0.0, failure=Failure.of(error))
        else:
            self.disk.ended(task, made=outcome.status != "failed")
        self.result.outcomes.append(outcome)
        self.ledger.add(task, outcome)
        file = outcome.record.output.files[0] if outcome.record else None
        size, sha256 = (file.size, file.sha256) if file else (None, None)
        self.watch(Finished(outcome.name, outcome.status, outcome.file, outcome.seconds, size, sha256, outcome.remark,
                            outcome.failure))


def _same_everywhere(pool: Pool) -> None:
    """Raises UsageError, naming worker, plugin and versions, where workers have other plugins than the driver."""
    mine, wrong = versions(), list[str]()
    for worker, theirs in pool.everywhere(versions).items():
        if isinstance(theirs, BaseException):
            wrong.append(f"{worker}: zooconv does not work there: {type(theirs).__name__}: {theirs}".splitlines()[0])
        else:
            wrong += [f"{worker}: {line}" for line in different(mine, theirs)]
    if wrong:
        raise UsageError("workers have other plugins than this program", why=wrong[:20],
                         next="install the same versions of zooconv and its plugins on every worker")
