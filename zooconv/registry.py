"""registry.json: one record per artifact, and nothing in it that is not a function of its inputs.

    {
     "schema": 1,
     "artifacts": {
      "convnext_tiny_22k/d2": {"converter": …, "layout": "d2", "license": …, "output": …, "source": …, "checks": …},
     }
    }

Sorted, one line per artifact, so that `git diff` shows what changed. The file is read strictly, written whole under a
lock, and replaced in one step. No time, host or absolute path stands in it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from zooconv import settings
from zooconv.atomic import drafting, locked
from zooconv.digest import FileDigest, canonical_json, strict_json
from zooconv.errors import UsageError
from zooconv.options import CHOICES, Format
from zooconv.tensor import DTYPES

SCHEMA = 1
NAME = r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){0,2}"


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text) or ".." in text or len(text) > 128:
        raise ValueError(f"{text!r:.80} is no name")
    return text


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
Count = Annotated[int, Field(ge=1, le=2**53 - 1)]  # what any reader of JSON holds exactly
Name = Annotated[str, AfterValidator(_name)]
DType = Annotated[str, Field(pattern=rf"^({'|'.join(DTYPES)})\z")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(_Strict):
    """A file of a source or an artifact: its name (an artifact's is relative to the registry), bytes and SHA-256."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*\z",
                               max_length=512)]
    size: Count
    sha256: Sha256


class SourceContent(_Strict):
    """A set of tensors: its tree digest, how many there are, of how many elements, of which dtypes.

    `canonical` is the tree digest of the backbone in it under canonical names. A set that was not read whole has no
    `tree`.
    """

    tree: Sha256 | None = None
    tensors: Count
    params: Count
    dtypes: dict[DType, Count]
    canonical: Sha256 | None = None


class Content(SourceContent):
    """A set of tensors that was read whole."""

    tree: Sha256


class SourceRecord(_Strict):
    """Where the weights came from: a commit of a hub repository, an address, or a local file.

    Where the source was `verified` in part, only some of its tensors were fetched: the SHA-256 of its files is as the
    hub states it, and was not checked.
    """

    type: Literal["hf", "url", "local"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\z",
                               max_length=96)] | None = None
    url: Annotated[str, Field(pattern=r"^https://")] | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}\z")] | None = None
    files: Annotated[list[File], Field(min_length=1)]
    content: SourceContent | None = None
    verified: Literal["partial"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> SourceRecord:
        needs = {"hf": (self.repo, self.revision), "url": (self.url,), "local": ()}[self.type]
        if None in needs:
            raise ValueError(f"a source of type {self.type} says where it is: repo and revision, or url")
        if self.content and (self.content.tree is None) != (self.verified == "partial"):
            raise ValueError("a source has a tree digest, unless it was verified in part only")
        return self


class Converter(_Strict):
    """What made the artifact: family, its distribution, the digest of its rule tables, the options that mattered."""

    name: Name
    dist: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\z")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!_-]*\z", max_length=64)]
    rules: Sha256
    options: dict[str, Any] = {}

    @property
    def choices(self) -> dict[str, Any]:
        """The changes that were asked for, by option."""
        return {name: value for name, value in self.options.items() if name in CHOICES}


class Output(_Strict):
    """The artifact; `certificate` is the SHA-256 of the one beside it."""

    format: Format
    writer: str | None = None
    files: Annotated[list[File], Field(min_length=1)]
    content: Content
    dropped: Annotated[int, Field(ge=0)] | None = None
    certificate: Sha256 | None = None


class Check(BaseModel):
    """The outcome of a check, and what it measured.

    For finiteness, the tensors that hold NaN or Inf; for parity, the outcome against each upstream.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    status: Literal["pass", "skip", "fail"]
    nonfinite: list[str] | None = None
    against: dict[str, dict[str, Any]] | None = None


class Record(BaseModel):
    """One artifact. `changes` are the declared steps after which its weights are not the source's any more; `filled`
    is the original from which it has what the source had not.

    Keys that start with `x-` are the user's own.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    source: SourceRecord
    filled: SourceRecord | None = None
    converter: Converter
    layout: Name
    changes: Annotated[list[str], Field(min_length=1)] | None = None
    output: Output
    checks: dict[str, Check] = {}
    license: Annotated[str, Field(max_length=128)]

    @model_validator(mode="after")
    def _no_strangers(self) -> Record:
        strange = [key for key in self.model_extra or () if not key.startswith("x-")]
        if strange:
            raise ValueError(f"unknown key {', '.join(strange)}; a key of your own starts with x-")
        return self

    @property
    def path(self) -> str:
        """The artifact's file, relative to the registry."""
        return self.output.files[0].file


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


def all_of(outcomes: Mapping[str, dict[str, Any]]) -> Check:
    """The check that outcomes against several upstreams make: it fails where one of them does."""
    failed = any(one.get("status") == "fail" for one in outcomes.values())
    return Check(status="fail" if failed else "pass", against=dict(sorted(outcomes.items())))


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


def source_records(digests: tuple[FileDigest, ...]) -> list[File]:
    """A source's files as records; in names, what a registry cannot spell becomes an underscore."""
    return [File(file=re.sub(r"[^A-Za-z0-9_.+=@/-]|(?<![^/])[^A-Za-z0-9_]", "_", d.file), size=d.size, sha256=d.sha256)
            for d in digests]


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
            records[_name(name)] = record = Record.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise _broken(path, f"{name}: {where}: {first['msg']}") from None
        except ValueError as error:
            raise _broken(path, f"{error} of an artifact") from None
        if null := next(_nulls(record), None):
            raise _broken(path, f"{name}: {null} is null; a key without a value is left out")
    return records


def _nulls(model: BaseModel) -> Iterator[str]:
    for key in model.model_fields_set & type(model).model_fields.keys():
        value = getattr(model, key)
        if value is None:
            yield key
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        yield from (f"{key}.{null}" for part in parts if isinstance(part, BaseModel) for null in _nulls(part))


def _broken(path: Path, why: str, next_: str = "") -> UsageError:
    return UsageError(f"{path} is no registry that zooconv can use", why=[why, "it was not touched"],
                      next=next_ or "mend it, or name another: --registry FILE")
