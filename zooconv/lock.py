"""Conversions held to the registry (`--locked`): it says what comes in, by which rules, and what must come out.

As in pip's hash-checking mode, it is all or nothing: what has no record is refused, and so is every source, table of
rules or result whose digest is another than the recorded one. The commit that is fetched is the recorded one, wherever
a branch may be by now. https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from zooconv.errors import CheckFailed, WrongBytes
from zooconv.mapping.plan import Plan
from zooconv.names import HubSource, LocalSource, Source, UrlSource
from zooconv.place import Place
from zooconv.registry import Record, Registry, SourceRecord


@dataclass(frozen=True)
class Pin:
    """An artifact's record, and what is refused in its name."""

    name: str
    record: Record
    again: str

    def source(self, source: Source) -> Source:
        """The source as it was when it was recorded. Raises CheckFailed where another one is asked for."""
        if isinstance(source, LocalSource):
            return source
        recorded = self.record.source
        asked = (source, *source.mirrors)
        there = next((one for one in asked if one.address in (recorded.repo, recorded.url)), None)
        if there is None:
            found = recorded.repo or recorded.url or recorded.files[0].file
            self.refuse([f"source: recorded {found}, asked for {source.address}"])
        if isinstance(there, UrlSource):
            return replace(there, sha256=recorded.files[0].sha256, name=source.name, model=source.model)
        assert isinstance(there, HubSource)
        assert recorded.revision is not None
        if len(there.revision) == 40 and there.revision != recorded.revision:
            self.refuse([f"commit: recorded {recorded.revision}, asked for {there.revision}"])
        return replace(there, revision=recorded.revision, files=(recorded.files[0].file,), name=source.name,
                       model=source.model, sha256=recorded.files[0].sha256)

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Bytes that are not the recorded ones are no matter of the network: they are refused."""
        try:
            yield
        except WrongBytes as error:
            self.refuse([f"source: {error}"])

    def check_plan(self, plan: Plan, layout: str, options: Mapping[str, Any]) -> None:
        """Refuse, before anything is written, what other rules or options would make."""
        made = self.record.converter
        self._compare(("family", made.name, plan.family.name), ("rules", made.rules, plan.rules),
                      ("layout", self.record.layout, layout), ("options", made.options, dict(options)),
                      ("changes", self.record.changes or [], list(plan.changes)))

    def check_made(self, made: Record) -> None:
        """Refuse, before it has its name, a file that is not the recorded one."""
        was = self.record
        self._compare(("source", _digests(was.source), _digests(made.source)),
                      ("original", _digests(was.filled), _digests(made.filled)),
                      ("result", was.output.files[0].sha256, made.output.files[0].sha256),
                      ("certificate", was.output.certificate, made.output.certificate))

    def _compare(self, *facts: tuple[str, Any, Any]) -> None:
        wrong = [f"{what}: recorded {_told(recorded)}, now {_told(now)}" for what, recorded, now in facts
                 if recorded != now]
        if wrong:
            self.refuse(wrong)

    def refuse(self, why: list[str]) -> None:
        raise CheckFailed(f"{self.name} is not what the registry pins", why=[*why, "nothing was written"],
                          next=f"{self.again}  (without --locked: records what there is now)")


def pin(source: Source, target: Place, typed: list[str]) -> Pin:
    """What the registry pins an artifact to, whose options are `typed`. Raises CheckFailed where it does not."""
    if isinstance(source, LocalSource):
        again = shlex.join(["zooconv", "convert", str(source.path), *typed])
    else:
        model = source.model.name if source.model else source.address
        again = shlex.join(["zooconv", "fetch-convert", model, *typed])
    record = Registry.read(target.registry).records.get(target.name)
    if record is None:
        raise CheckFailed(f"{target.name} is not pinned: {target.registry} has no record of it", next=again)
    if record.source.verified == "partial":
        raise CheckFailed(f"{target.name} is not pinned: {target.registry} has a record of it, but its source was "
                          "fetched in part, and its digest not checked", next=again)
    return Pin(target.name, record, again)


def _digests(source: SourceRecord | None) -> set[str]:
    return {file.sha256 for file in source.files} if source else set()


def _told(value: Any) -> str:
    return ", ".join(sorted(map(str, value))) if isinstance(value, set | list) else str(value)
