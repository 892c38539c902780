"""The registry file: read strictly, written whole under a lock, replaced in one step."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zooconv import settings
from zooconv.atomic import drafting, locked
from zooconv.digest import canonical_json, strict_json
from zooconv.errors import UsageError
from zooconv.registry.record import Record, all_of, check_name, nulls

SCHEMA = 1


class Registry:
    """The records of a registry file, by name."""

    def __init__(self, path: Path, records: dict[str, Record]) -> None:
        self.path, self.records = path, records

    @classmethod
    def read(cls, path: Path) -> Registry:
        """The registry at `path`; an empty one where there is no file.

        Raises UsageError, saying what is wrong, for a file that is not a registry, is newer than this program, or
        holds the marks of an unfinished merge.
        """
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            return cls(path, {})
        except (OSError, UnicodeDecodeError) as error:
            raise _broken(path, str(error)) from None
        return cls(path, _parse(path, text))

    def artifact(self, record: Record) -> Path:
        """Where a record's file lies."""
        return self.path.parent / record.path

    def matching(self, *names: str) -> list[str]:
        """The artifacts that are meant by whole names (`convnext_tiny_22k/d2`), models, files, or patterns; or all.

        Raises UsageError for one that means none.
        """
        found = dict.fromkeys(full for name in names for full in self._matching(name))
        return list(found if names else self.records)

    def _matching(self, name: str) -> list[str]:
        found = [n for n, record in self.records.items()
                 if n == name or n.startswith(f"{name}/") or record.path == name or fnmatch.fnmatchcase(n, name)]
        if not found:
            known = ", ".join(list(self.records)[:12]) or "it is empty"
            raise UsageError(f"{self.path} has no artifact {name!r}", why=[f"it has {known}"], next="zooconv verify")
        return found

    def meant(self, what: str) -> list[str]:
        """The artifacts that `what` names, as `matching` reads it, or as a path to one; none if it names none."""
        if os.path.isfile(what):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            path = Path(what)
            return [name for name, record in self.records.items()
                    if self.artifact(record).exists() and self.artifact(record).samefile(path)]
        try:
            return self.matching(what)
        except UsageError:
            return []

    def owner(self, file: str) -> str | None:
        """The name under which a file is recorded."""
        return next((name for name, record in self.records.items() if record.path == file), None)

    def of(self, name: str, file: str) -> dict[str, Record]:
        """The records, by name, that a new artifact of this name and file has to do with."""
        return {n: self.records[n] for n in {name, self.owner(file)} if n is not None and n in self.records}

    def put(self, name: str, record: Record) -> None:
        """Record an artifact, in the place of any other record of the same file.

        What was proved of the very same bytes, from the same source, stays proved.
        """
        old = self.records.get(name)
        if old is not None and (old.source, old.filled, old.output) == (record.source, record.filled, record.output):
            record = record.model_copy(update={"checks": {**old.checks, **record.checks}})
        for other in [n for n, r in self.records.items() if r.path == record.path]:
            del self.records[other]
        self.records[name] = record

    def put_parity(self, name: str, against: str, outcome: Mapping[str, Any]) -> None:
        """Note how an artifact compares with an upstream. Raises KeyError for one that is not recorded."""
        record = self.records[name]
        known = record.checks.get("parity")
        check = all_of({**((known.against or {}) if known else {}), against: dict(outcome)})
        self.records[name] = record.model_copy(update={"checks": {**record.checks, "parity": check}})

    def text(self) -> str:
        """The canonical text: what is written, byte for byte."""
        return framed(",\n".join(line(name, record) for name, record in sorted(self.records.items())))


def line(name: str, record: Record) -> str:
    """A record's canonical line, without what separates it from the next."""
    return f"  {json.dumps(name)}: {canonical_json(record.model_dump(exclude_none=True))}"


def framed(lines: str) -> str:
    """The text of a registry around the lines of its records."""
    body = f"\n{lines}\n " if lines else ""
    return f'{{\n "schema": {SCHEMA},\n "artifacts": {{{body}}}\n}}\n'


def registry_near(what: str, given: Path | None = None) -> Registry:
    """The registry that is given, or the usual one, or that beside the file that `what` is a path to."""
    places = [given or settings.registry_path() or Path("registry.json"), Path(what).parent / "registry.json"]
    path = next((p for p in places if p.exists()), places[0])
    return Registry.read(path)


def update(path: Path, change: Callable[[Registry], None]) -> Registry:
    """Read, change and replace the registry under its lock; not written where nothing changed.

    Raises UsageError where the file is no registry or cannot be written.
    """
    with locked(path.with_name(f"{path.name}.update")):
        registry = Registry.read(path)
        change(registry)
        text = registry.text()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            with drafting(path) as draft:
                draft.write(text.encode())
                draft.commit()
    return registry


def _parse(path: Path, text: str) -> dict[str, Record]:
    if re.search(r"^(<{7}|={7}|>{7})", text, re.MULTILINE):
        raise _broken(path, "it holds the marks of a merge conflict",
                      "resolve the conflict, then: zooconv registry check --fix")
    try:
        table = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    if not isinstance(table, dict) or not isinstance(table.get("schema"), int):
        raise _broken(path, "it has no schema number")
    if table["schema"] > SCHEMA:
        raise _broken(path, f"it has schema {table['schema']}; this zooconv knows {SCHEMA}", "pip install -U zooconv")
    strange = table.keys() - {"$schema", "schema", "artifacts"}
    artifacts = table.get("artifacts")
    if table["schema"] != SCHEMA or strange or not isinstance(artifacts, dict):
        raise _broken(path, f"unknown keys: {', '.join(strange)}" if strange else "it has no artifacts")
    records = {}
    for name, data in artifacts.items():
        try:
            records[check_name(name)] = record = Record.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise _broken(path, f"{name}: {where}: {first['msg']}") from None
        except ValueError as error:
            raise _broken(path, f"{error} of an artifact") from None
        if null := next(nulls(record), None):
            raise _broken(path, f"{name}: {null} is null; a key without a value is left out")
    return records


def _broken(path: Path, why: str, next_: str = "") -> UsageError:
    return UsageError(f"{path} is no registry that zooconv can use", why=[why, "it was not touched"],
                      next=next_ or "mend it, or name another: --registry FILE")
