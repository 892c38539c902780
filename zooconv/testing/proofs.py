"""The page of proofs, docs/proofs.md: what was found of members against upstreams, and of dialects into layouts.

A run tells of what it was asked for. Rows of earlier runs stay until they are proved anew, each with the upstream's
version that it was proved against.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zooconv.mapping.family import Family
from zooconv.testing.roads import roads

Row = tuple[str, str, str, str, str, str]  # family, member, upstream and version, difference, certificate, mutants
Key = tuple[str, str, str]  # family, member, upstream


def key(row: Sequence[str]) -> Key:
    """What a row is found by: all but what was measured."""
    return row[0], row[1], row[2].partition(" ")[0]


@dataclass(frozen=True)
class Page:
    """All that is told: rows of members, and each family's table of roads by the family's title."""

    rows: Mapping[Key, Row] = field(default_factory=dict)
    roads: Mapping[str, str] = field(default_factory=dict)

    def told(self, rows: Iterable[Row], walked: Iterable[Family[Any]], order: Sequence[Key]) -> Page:
        """The page after a run that found these `rows`; the roads of the families in `walked` are walked anew.

        Rows come in this `order`, those that it has not last.
        """
        merged = {**self.rows, **{key(row): row for row in rows}}
        rank = {known: at for at, known in enumerate(order)}
        tables = {**self.roads, **{family.title: _walk(family) for family in walked}}
        return Page(dict(sorted(merged.items(), key=lambda item: rank.get(item[0], len(rank)))),
                    dict(sorted(tables.items())))

    @property
    def text(self) -> str:
        rows = "".join(f"| {' | '.join(row)} |\n" for row in self.rows.values())
        tables = "".join(f"\n### {title}\n\n{table}\n" for title, table in self.roads.items())
        return f"""# Proofs

Written by `make prove`, with random weights. [proof.md](proof.md) tells what this means.

## Does it compute the same?

Each member is written as its upstream would write it, converted, certified, and held against the upstream's own module
in float64; wrong conversions of it, made on purpose, must be caught (all of them for the toys, a random choice for the
others). The limit is 1e-12. Members that an upstream cannot build, or has no names for, are not listed against it. A
row stays until its member is proved anew, with the version that it was proved against.

{_HEAD}
{rows}
## Was a byte lost?

Every dialect into every layout, with a toy. *Exact*: every source tensor that is not dropped comes back from the
artifact byte for byte; a number: the same but for the changes that stand below the table; `-`: refused.
{tables}"""


_HEAD = """\
| family | member | against | largest relative difference | certificate | wrong conversions caught |
|---|---|---|---|---|---|"""


def read_page(path: Path | None) -> Page:
    """The page at `path`, so that what it tells can be kept; an empty one where there is none."""
    if path is None or not path.exists():
        return Page()
    members, _, tables = path.read_text(encoding="utf-8").partition("## Was a byte lost?")
    rows = [line.strip("|").split("|") for line in members.partition(_HEAD)[2].split("\n") if line]
    cells = [tuple(cell.strip() for cell in row) for row in rows]
    sections = re.split(r"^### (.+)\n", tables, flags=re.MULTILINE)[1:]
    return Page({key(row): row for row in cells if len(row) == 6},
                {title: table.strip() for title, table in zip(sections[::2], sections[1::2], strict=True)})


def _walk(family: Family[Any]) -> str:
    """A family's table, dialects by layouts."""
    notes: list[str] = []
    lines = [f"| from, to | {' | '.join(layout.name for layout in family.layouts)} |",
             "|---" * (1 + len(family.layouts)) + "|"]
    for dialect in family.dialects:
        with tempfile.TemporaryDirectory() as folder:
            walked = list(roads(family, dialect, Path(folder)))
        notes += [one.why for one in walked if one.status in ("changed", "failed") and one.why not in notes]
        cells = [{"exact": "exact", "refused": "-"}.get(one.status) or f"{one.status}, {1 + notes.index(one.why)}"
                 for one in walked]
        lines.append(f"| {dialect.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, *([""] if notes else []), *(f"{n}. {note}" for n, note in enumerate(notes, 1))])
