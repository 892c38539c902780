"""A registry as a file: readable, canonical, and with every artifact's file in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zooconv.errors import UsageError
from zooconv.registry.file import Registry, update
from zooconv.registry.record import Record


class Fault(NamedTuple):
    """What is wrong with a registry (`name` is empty) or with an artifact of it."""

    name: str
    problem: str


def check(path: Path, *, files: bool = True) -> list[Fault]:
    """What is wrong with the registry at `path`, from its text alone and, with `files`, from its files' sizes.

    No byte of an artifact is read: that is what `zooconv.verify` is for. Raises UsageError where there is no file.
    """
    try:
        text = path.read_bytes()
        registry = Registry.read(path)
    except UsageError as error:
        return [Fault("", why) for why in error.why[:1]]
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from None
    faults = [] if text == registry.text().encode() else [
        Fault("", "its text is not canonical: zooconv registry check --fix rewrites it")]
    seen: dict[str, str] = {}
    for name, record in registry.records.items():
        other = seen.setdefault(record.path, name)
        if other != name:
            faults.append(Fault(name, f"its file {record.path} is {other}'s, too"))
        faults += [Fault(name, problem) for problem in (_missing(registry, record) if files else ())]
    return faults


def fix(path: Path) -> None:
    """Rewrite the registry in its canonical text. Raises UsageError where it is none."""
    update(path, lambda registry: None)


def _missing(registry: Registry, record: Record) -> Iterator[str]:
    for file in record.output.files:
        path = registry.path.parent / file.file
        if not path.is_file():
            yield f"no file {path}"
        elif (size := path.stat().st_size) != file.size:
            yield f"{path} has {size:,} bytes, recorded {file.size:,}"
