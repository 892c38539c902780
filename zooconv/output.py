"""Where words go: data to stdout, talk to stderr.

Every verb hands its result here once, as data and as text, and one of three modes decides what is seen: people get the
text, `--json` the data, `-q` only the line that a script needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zooconv.errors import ZooError
    from zooconv.pump import Watch, Watching


@dataclass(frozen=True)
class Output:
    """The sink of one command."""

    json: bool = False
    quiet: bool = False

    def result(self, data: Any, text: str, brief: str = "") -> None:
        """The command's result: `data` for machines, `text` for people, `brief` for `-q`."""
        if self.json:
            print(json.dumps(data, indent=1, ensure_ascii=False))
        elif shown := brief if self.quiet else text:
            print(shown)

    def say(self, text: str) -> None:
        """Something for the person who waits."""
        if not self.json and not self.quiet:
            print(text, file=sys.stderr)

    def error(self, error: ZooError) -> None:
        """A failure: what, why, and what to type next."""
        if self.json:
            kind = type(error).__name__
            told = {"kind": kind, "what": error.what, "why": error.why, "next": error.next}
            print(json.dumps({"error": told}, indent=1, ensure_ascii=False))
        lines = [f"error: {error.what}", *(f"  {line}" for line in error.why)]
        if error.next:
            lines.append(f"next: {error.next}")
        print("\n".join(lines), file=sys.stderr)

    @contextmanager
    def progress(self, label: str) -> Iterator[Watching]:
        """A progress bar on stderr, where that is a terminal and somebody looks."""
        if self.json or self.quiet or not sys.stderr.isatty():
            yield lambda total: lambda size: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None)

            def start(total: int) -> Watch:
                bar.update(task, total=total)
                return lambda size: bar.advance(task, size)

            yield start


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Columns, aligned; those of numbers, and of nothing else but blanks, to the right."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    numeric = [any(column) and all(cell.replace(",", "").replace(".", "").isdigit() for cell in column if cell)
               for column in zip(*rows, strict=True)]

    def cell(text: str, i: int) -> str:
        return text.rjust(widths[i]) if numeric[i] else text.ljust(widths[i])

    return "\n".join("  ".join(cell(text, i) for i, text in enumerate(line)).rstrip() for line in lines)


def facts(*rows: tuple[str, str]) -> str:
    """A label and its value a line, the values aligned; a value of several lines hangs under its first."""
    rows = tuple((label, value) for label, value in rows if value)
    width = max(len(label) for label, _ in rows) + 2
    indent = "\n" + " " * width
    return "\n".join(label.ljust(width) + value.replace("\n", indent) for label, value in rows)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def some(names: Sequence[str], most: int = 4) -> str:
    """A few of many names: `a, b, c … and 7 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" … and {more} more" if more > 0 else "")
