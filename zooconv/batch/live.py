"""A running batch, shown: one live table on a terminal, a line a model elsewhere, an event a line for machines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from zooconv.batch.events import Event, Finished, Lost, Started, Submitted, Watcher, line
from zooconv.output import Output, megabytes

SHOWN = 12
"""Running tasks in the table; a cluster has many more."""


@contextmanager
def watching(out: Output, *, jsonl: bool) -> Iterator[Watcher]:
    """Who is told the events of the block."""
    if jsonl:
        yield lambda event: print(line(event), flush=True)
    elif out.json or out.quiet:
        yield lambda event: None
    elif sys.stderr.isatty():
        with _live() as watch:
            yield watch
    else:
        yield lambda event: out.say(said) if (said := told(event)) else None


def told(event: Event) -> str:
    """An event in a line, where it is one that people want to know."""
    if isinstance(event, Finished):
        size = f", {megabytes(event.size)}" if event.size else ""
        return f"{event.status:<10}{event.name}  " + (event.error.what if event.error else
                                                      f"({event.seconds:.1f} s{size})")
    return f"{'again':<10}{event.name}  {event.why}" if isinstance(event, Lost) else ""


@contextmanager
def _live() -> Iterator[Watcher]:
    from rich.console import Console
    from rich.live import Live

    state = _State()
    console = Console(stderr=True)
    with Live(console=console, get_renderable=state.table, refresh_per_second=4, transient=True):
        def watch(event: Event) -> None:
            state.take(event)
            if (isinstance(event, Finished) and event.error) or isinstance(event, Lost):
                console.print(told(event), style="red", markup=False, highlight=False)

        yield watch


class _State:
    """What the table shows."""

    def __init__(self) -> None:
        self.start, self.total, self.counts = monotonic(), 0, Counter[str]()
        self.running: dict[str, tuple[str, float]] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, Started):
            self.total = event.tasks
        elif isinstance(event, Submitted):
            self.running[event.name] = event.source, monotonic()
        elif isinstance(event, Lost | Finished):
            self.running.pop(event.name, None)
            self.counts[event.status if isinstance(event, Finished) else "again"] += 1

    def table(self) -> Any:
        from rich.table import Table

        done = sum(n for status, n in list(self.counts.items()) if status != "again")
        counts = " · ".join(f"{n} {status}" for status, n in list(self.counts.items()))
        table = Table(box=None, title=f"{done} of {self.total}  {counts}  {monotonic() - self.start:.0f} s",
                      title_justify="left", pad_edge=False)
        for heading in ("NAME", "SOURCE", "SECONDS"):
            table.add_column(heading, justify="right" if heading == "SECONDS" else "left", no_wrap=True)
        for name, (source, since) in list(self.running.items())[:SHOWN]:
            table.add_row(name, source, f"{monotonic() - since:.0f}")
        return table
