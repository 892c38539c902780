"""A registry as a table: one row an artifact, as CSV or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from zooconv.registry.file import Registry
from zooconv.registry.record import Record, SourceRecord

Format = Literal["csv", "md"]
COLUMNS = ("name", "layout", "source", "licence", "size", "sha256", "checks")


def rows(registry: Registry) -> list[dict[str, str | int]]:
    """What the table says of each artifact, by column."""
    return [dict(zip(COLUMNS, _row(name, record), strict=True)) for name, record in sorted(registry.records.items())]


def export(registry: Registry, format_: Format) -> str:
    """The table as text, with a header."""
    cells = [[str(value) for value in row.values()] for row in rows(registry)]
    return WRITERS[format_](cells)


def _row(name: str, record: Record) -> tuple[str | int, ...]:
    file = record.output.files[0]
    checks = ", ".join(f"{check} {found.status}" for check, found in sorted(record.checks.items()))
    checks += ", source fetched in part" if record.source.verified == "partial" else ""
    return name, record.layout, _source(record.source), record.license, file.size, file.sha256, checks


def _source(source: SourceRecord) -> str:
    if source.type == "hf":
        return f"{source.repo}@{source.revision}:{source.files[0].file}"
    return source.url or source.files[0].file


def _csv(cells: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_no_formula(value) for value in row] for row in cells)
    return text.getvalue()


def _no_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection"""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _md(cells: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *([_md_cell(value) for value in row] for row in cells)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _md_cell(text: str) -> str:
    for char in "\\|`*_<>[]":
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split()).replace("&", "&amp;")


WRITERS: dict[Format, Callable[[Sequence[Sequence[str]]], str]] = {"csv": _csv, "md": _md}
