"""The engines that come with zooconv, through the same door as anyone's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from zooconv.engine import Crew, Engine, Pool
from zooconv.hookspecs import hookimpl


def _local(crew: Crew) -> AbstractContextManager[Pool]:
    from zooconv.batch.local import start

    return start(crew)


def _dask(crew: Crew) -> AbstractContextManager[Pool]:
    from zooconv.batch.dask import start

    return start(crew)


@hookimpl
def zooconv_engines() -> Iterator[Engine]:
    yield Engine("local", "processes on this machine", _local)
    yield Engine("dask", "a cluster of Dask distributed", _dask, remote=True)
