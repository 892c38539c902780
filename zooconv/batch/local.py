"""The engine of one machine: worker processes, each alone in a pool of its own.

A pool of several processes shares queues and locks, so that one killed process breaks them for all (the standard
library's is then given up whole). Alone in its pool a worker takes with it nothing but its own task, and the pool is
simply made anew. Workers come from a fork server that has torch and the tables in it already: they start in
milliseconds and share its memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from zooconv.engine import Crew

GRACE = 5.0
"""Seconds that a worker has to clear away its draft before it is killed."""

_AT_WORK = threading.Event()


class LocalPool:
    """One executor a worker. A worker that is gone is replaced when the next task comes."""

    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def __init__(self, jobs: int, *, torch: bool) -> None:
        self.slots = jobs
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["zooconv.batch.preload", *(["torch"] if torch else []),
                                              "zooconv.batch.freeze"])
        self._all: list[ProcessPoolExecutor] = []  # also one that an interruption finds between idle and busy
        self._idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(jobs):
            self._idle.put(self._alone())
        self._busy: dict[Future[Any], ProcessPoolExecutor] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        executor = self._idle.get()  # of no more tasks than slots, each finds one
        try:
            future = executor.submit(_call, function, *arguments)
        except BrokenExecutor:  # its worker died idle, which cost nobody anything
            executor = self._instead_of(executor)
            future = executor.submit(_call, function, *arguments)
        self._busy[future] = executor
        future.add_done_callback(self._free)
        return future

    def everywhere(self, function: Callable[[], Any]) -> Mapping[str, Any]:
        return {}

    def end(self, *, at_once: bool) -> None:
        """End all workers; at once, with the tasks that they are at."""
        processes = [process for e in self._all for process in list((e._processes or {}).values())]
        for process in processes if at_once else ():
            process.terminate()
        for process in processes if at_once else ():
            process.join(GRACE)
            process.kill()
        for executor in self._all:
            executor.shutdown(wait=not at_once, cancel_futures=True)

    def _free(self, future: Future[Any]) -> None:
        executor = self._busy.pop(future)
        if isinstance(future.exception(), BrokenExecutor):
            executor = self._instead_of(executor)
        self._idle.put(executor)

    def _instead_of(self, broken: ProcessPoolExecutor) -> ProcessPoolExecutor:
        broken.shutdown(wait=False)
        self._all.remove(broken)
        return self._alone()

    def _alone(self) -> ProcessPoolExecutor:
        executor = ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin,
                                       initargs=(str(Path.cwd()), dict(os.environ)))
        self._all.append(executor)
        return executor


@contextmanager
def start(crew: Crew) -> Iterator[LocalPool]:
    """Worker processes for a block."""
    pool = LocalPool(crew.jobs or os.cpu_count() or 1, torch=crew.torch)
    try:
        yield pool
    except BaseException:
        pool.end(at_once=True)
        raise
    pool.end(at_once=False)


def _begin(folder: str, environment: dict[str, str]) -> None:
    """Settle in as a worker: where the driver is, as it is told to, and gone when the driver is."""
    os.chdir(folder)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which decides
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_follow_the_driver, daemon=True).start()


def _interrupt(number: int, frame: Any) -> None:
    if not _AT_WORK.is_set():
        os._exit(0)
    raise KeyboardInterrupt  # so that the draft is cleared away


def _follow_the_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    wait([driver.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os._exit(1)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    _AT_WORK.set()
    try:
        return function(*arguments)
    except KeyboardInterrupt:  # the draft is gone; an executor would go on to wait for work
        os._exit(128 + signal.SIGTERM)
    finally:
        _AT_WORK.clear()
