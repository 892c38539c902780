"""Registries of several writers made one, artifact by artifact, and nothing of anyone's lost.

A record falls into cells: what was made, each check (parity: each upstream), each key of the user's own. Two records of
one name that say the same was made are one: their cells are united. Whatever else differs is a conflict, which is told,
and never decided here. With a common ancestor, as git has one, the side that did not change a cell gives way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zooconv.errors import CheckFailed, UsageError
from zooconv.registry.file import Registry
from zooconv.registry.record import Record, all_of

Prefer = Literal["first", "last"]
Records = Mapping[str, Record]
_MADE = ("made",)
_SKIPPED = {"status": "skip"}


@dataclass(frozen=True)
class Conflict:
    """A name that two sides record differently, in what; a side that has removed it is None."""

    name: str
    why: tuple[str, ...]
    ours: Record | None
    theirs: Record | None

    def __str__(self) -> str:
        return f"{self.name}: {'; '.join(self.why[:6])}" + (f" … and {len(self.why) - 6} more" if self.why[6:] else "")


def union(registries: Sequence[Registry], home: Path, *, prefer: Prefer | None = None) -> Registry:
    """One registry of all records, for the folder `home`, to which their files' names are rebased.

    Raises CheckFailed, naming every conflict, unless `prefer` says whose record is taken; UsageError for a file that
    a registry in `home` cannot name.
    """
    merged: dict[str, Record] = {}
    conflicts: list[Conflict] = []
    for records in _rebased(registries, home):
        merged, new = three_way({}, merged, records)
        conflicts += new
        for conflict in new:
            chosen = conflict.theirs if prefer == "last" else conflict.ours
            if chosen is not None:  # in the place of any other record of the same file, as Registry.put has it
                merged = {name: record for name, record in merged.items() if record.path != chosen.path}
                merged[conflict.name] = chosen
    if conflicts and prefer is None:
        raise CheckFailed("these artifacts are recorded differently", why=map(str, conflicts),
                          next="convert the one that is wrong again, or say whose record is taken: --prefer first|last")
    return Registry(home / "registry.json", merged)


def three_way(base: Records, ours: Records, theirs: Records) -> tuple[dict[str, Record], list[Conflict]]:
    """What both sides made of `base`, and what they do not agree on; a side that did not change a record gives way."""
    merged: dict[str, Record] = {}
    conflicts = []
    for name in sorted(ours.keys() | theirs.keys()):
        mine, yours = ours.get(name), theirs.get(name)
        record, why = _record(base.get(name), mine, yours)
        if why:
            conflicts.append(Conflict(name, tuple(why), mine, yours))
        elif record is not None:
            merged[name] = record
    clashes = list(_clashes(merged, ours, theirs))
    for clash in clashes:
        del merged[clash.name]
    return merged, [*conflicts, *clashes]


def _record(base: Record | None, ours: Record | None, theirs: Record | None) -> tuple[Record | None, list[str]]:
    if theirs in (ours, base):
        return ours, []
    if ours == base:
        return theirs, []
    if ours is None or theirs is None:
        return None, [f"{'ours' if ours is None else 'theirs'} removed it, the other side changed it"]
    old, mine, yours = _cells(base) if base else {}, _cells(ours), _cells(theirs)
    if mine[_MADE] != yours[_MADE]:
        return None, list(_differences(mine[_MADE], yours[_MADE]))
    cells: dict[tuple[str, ...], Any] = {}
    why: list[str] = []
    for key in sorted(mine.keys() | yours.keys()):
        value, agreed = _cell(old.get(key), mine.get(key), yours.get(key))
        if not agreed:
            why += _differences(mine.get(key), yours.get(key), ".".join(key))
        elif value is not None:
            cells[key] = value
    for key in {key[:2] for key in cells if len(key) == 3} & cells.keys():
        if cells.pop(key) != _SKIPPED:
            why.append(f"{'.'.join(key)}: on one side, it is no list of upstreams")
    return (None, why) if why else (_record_of(cells), [])


def _cell(base: Any, ours: Any, theirs: Any) -> tuple[Any, bool]:
    """The value of a cell, and whether both sides agree on it. A check that was skipped gives way to one that ran."""
    if theirs in (ours, base):
        return ours, True
    if ours in (base, _SKIPPED):
        return theirs, True
    return ours, theirs == _SKIPPED


def _cells(record: Record) -> dict[tuple[str, ...], Any]:
    data = record.model_dump(exclude_none=True)
    checks = data.pop("checks", {})
    cells: dict[tuple[str, ...], Any] = {(key,): data.pop(key) for key in list(data) if key.startswith("x-")}
    for name, check in checks.items():
        against = check.get("against")
        if against and check == all_of(against).model_dump(exclude_none=True):
            cells |= {("checks", name, upstream): outcome for upstream, outcome in against.items()}
        else:
            cells["checks", name] = check
    return {_MADE: data, **cells}


def _record_of(cells: Mapping[tuple[str, ...], Any]) -> Record:
    checks: dict[str, Any] = {key[1]: value for key, value in cells.items() if key[0] == "checks" and len(key) == 2}
    for name in {key[1] for key in cells if len(key) == 3}:
        outcomes = {key[2]: value for key, value in cells.items() if len(key) == 3 and key[1] == name}
        checks[name] = all_of(outcomes).model_dump(exclude_none=True)
    own = {key[0]: value for key, value in cells.items() if key[0].startswith("x-")}
    return Record.model_validate({**cells[_MADE], "checks": checks, **own})


def _differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Where two pieces of data differ: `converter.version: 0.1.0 | 0.2.0`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(key), theirs.get(key), f"{where}.{key}" if where else key)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(mine, yours, f"{where}[{i}]")
    elif ours != theirs:
        yield f"{where}: {_short(ours)} | {_short(theirs)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _clashes(merged: Records, ours: Records, theirs: Records) -> Iterator[Conflict]:
    """Names of one side whose file is another artifact's on the other side: a file has one record."""
    owners: dict[str, str] = {}
    for name, record in sorted(merged.items(), key=lambda item: (item[0] not in ours, item[0])):
        other = owners.setdefault(record.path, name)
        if other != name and not any(name in side and other in side for side in (ours, theirs)):
            yield Conflict(name, (f"{record.path} is the file of {other}, too",), None, record)


def _rebased(registries: Sequence[Registry], home: Path) -> Iterator[Records]:
    """Each registry's records, with the names of their files as they are seen from `home`."""
    for registry in registries:
        way = os.path.relpath(registry.path.parent.resolve(), home.resolve())
        yield {name: _seen_along(way, record, registry, home) for name, record in registry.records.items()}


def _seen_along(way: str, record: Record, registry: Registry, home: Path) -> Record:
    if way == ".":
        return record
    files = [{**file.model_dump(), "file": os.path.normpath(f"{way}/{file.file}")} for file in record.output.files]
    try:
        output = type(record.output).model_validate({**record.output.model_dump(exclude_none=True), "files": files})
    except ValueError:
        raise UsageError(f"{files[0]['file']} is no name that a registry in {home} can have",
                         why=[f"{registry.path} has it as {record.path}",
                              "a registry names files in its own folder and below, so that both can move together"],
                         next=f"zooconv registry merge … -o {_common(registry.path, home)}") from None
    return record.model_copy(update={"output": output})


def _common(path: Path, home: Path) -> Path:
    return Path(os.path.commonpath([path.parent.resolve(), home.resolve()])) / "registry.json"
