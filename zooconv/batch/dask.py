"""The engine of a cluster: Dask distributed, on a scheduler of the user's or on workers of this machine.

https://distributed.dask.org; LocalCluster, SSHCluster, dask-jobqueue and dask-kubernetes all end in a scheduler.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from zooconv.engine import Crew
from zooconv.errors import SourceUnavailable, UsageError

LEAST = 32
"""Tasks that are kept with a scheduler, so that a cluster which grows on demand sees the demand."""


class DaskPool:
    """A client of a scheduler. A task whose worker is gone runs elsewhere; the scheduler gives up after a few."""

    def __init__(self, client: Any, jobs: int | None) -> None:
        from distributed.scheduler import KilledWorker

        self.lost: tuple[type[BaseException], ...] = (KilledWorker,)
        self._client, self._executor = client, client.get_executor(pure=False)
        self.slots = jobs or max(LEAST, 2 * sum(client.nthreads().values()))

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(function, *arguments)
        return future

    def everywhere(self, function: Callable[[], Any]) -> Mapping[str, Any]:
        answers: dict[str, Any] = self._client.run(function, on_error="return")
        return answers


@contextmanager
def start(crew: Crew) -> Iterator[DaskPool]:
    """A client of the scheduler at `crew.scheduler`; without one, of a cluster of processes on this machine.

    Raises UsageError where Dask is not installed, SourceUnavailable where the scheduler does not answer.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise UsageError("the engine dask is not installed", next="pip install 'zooconv[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if crew.scheduler is None:
        with (distributed.LocalCluster(n_workers=crew.jobs or os.cpu_count() or 1, threads_per_worker=1,
                                       dashboard_address=None, silence_logs=logging.CRITICAL) as cluster,
              distributed.Client(cluster) as client):
            yield DaskPool(client, crew.jobs and 2 * crew.jobs)
        return
    try:
        client = distributed.Client(crew.scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise SourceUnavailable(f"no Dask scheduler answers at {crew.scheduler}",
                                why=[f"{type(error).__name__}: {error}".splitlines()[0]],
                                next="name the one that runs: --scheduler tcp://HOST:8786") from None
    with client:
        yield DaskPool(client, crew.jobs)
