"""An engine: where the tasks of a batch run. Plugins bring theirs by the hook `zooconv_engines`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Crew:
    """What is asked of an engine: how many tasks at once (None: as it sees fit), and where its scheduler is.

    `torch`: most tasks will need torch, so it is worth importing it before they start.
    """

    jobs: int | None = None
    scheduler: str | None = None
    torch: bool = True


class Pool(Protocol):
    """Running workers. `slots` tasks are kept with them; a future raises one of `lost` if its worker is gone."""

    slots: int
    lost: tuple[type[BaseException], ...]

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Have a worker call a function, as `concurrent.futures.Executor.submit` does."""

    def everywhere(self, function: Callable[[], Any]) -> Mapping[str, Any]:
        """What the function says on each worker, by the worker's name; nothing where workers are this program."""


@dataclass(frozen=True)
class Engine:
    """A way to run a batch's tasks.

    `start` makes a `Pool` for a block, and ends it with the block: at once if an exception leaves it. `remote` workers
    do not share the working folder, and may have other plugins.
    """

    name: str
    title: str
    start: Callable[[Crew], AbstractContextManager[Pool]]
    remote: bool = False
