"""An engine as a third party would bring it, by an entry point: threads of this process."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import contextmanager

from zooconv import Engine, hookimpl


class Threads:
    lost = (BrokenExecutor,)

    def __init__(self, jobs, pool):
        self.slots, self.submit = jobs, pool.submit

    def everywhere(self, function):
        return {}


@contextmanager
def start(crew):
    with ThreadPoolExecutor(crew.jobs) as pool:
        yield Threads(crew.jobs, pool)


@hookimpl
def zooconv_engines():
    yield Engine("threads", "threads of this process", start)
