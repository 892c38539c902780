"""What is being put in place, noted before it is, so that no process can be killed between an artifact and its record.

An artifact takes its final name in one rename, and its record follows, perhaps much later and in company: a batch
records many at once. So a note is left first, in `.zooconv/<registry>/` beside the registry: the record, and the texts
that lie beside the artifact. Recording takes the note away. A note that is found later is either true, and its artifact
is recorded after all, or its artifact never came, and it is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from zooconv.atomic import cannot_write, host, locked, sweep, write_text
from zooconv.digest import canonical_json, file_sha256
from zooconv.errors import UsageError
from zooconv.place import Place
from zooconv.registry import Record, Registry, update

TRIES = 20


class Note(BaseModel):
    """One artifact that is complete once its file is the recorded one. `texts` are the files that lie beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    host: str
    record: Record
    texts: dict[str, str]

    @property
    def text(self) -> str:
        return canonical_json(self.model_dump(exclude_none=True))


def folder(registry: Path) -> Path:
    """Where the notes of a registry lie."""
    return registry.parent / ".zooconv" / registry.name


def note_of(registry: Path, file: str) -> Path:
    """The note of an artifact, by its path relative to the registry."""
    return folder(registry) / f"{file.replace('/', ',')}.json"


def read_note(path: Path) -> Note | None:
    """A note, or None where there is none that this program can use."""
    try:
        return Note.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


@contextmanager
def noted(place: Place, record: Record, texts: Mapping[str, str]) -> Iterator[None]:
    """Leave a note for the block that gives the artifact its name; take it away if that fails before it has it.

    The caller holds the artifact's lock. Raises ZooError where the note cannot be written.
    """
    path = note_of(place.registry, place.file)
    _write(path, Note(name=place.name, host=host(), record=record, texts=dict(texts)).text)
    try:
        yield
    except BaseException:
        if not is_complete(place.path, record):
            _forget([path])
        raise


def settled(registry: Path) -> Registry:
    """The registry, after what killed processes left behind was recorded or removed.

    Raises UsageError where the file is no registry.
    """
    known = Registry.read(registry)  # nothing is touched for one that cannot be read
    if not folder(registry).is_dir():
        return known
    sweep(folder(registry))
    paths = sorted(folder(registry).glob("*.json"))
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(lambda path: _settle(registry, path), paths))
    _forget([path for path, state in zip(paths, states, strict=True) if state == "gone"])
    complete = {state.name: state.record for state in states if isinstance(state, Note)}
    return record(registry, complete) if complete else known


def record(registry: Path, records: Mapping[str, Record]) -> Registry:
    """Put records into the registry, all in one step, and take their notes away.

    A record whose artifact somebody else has replaced meanwhile is theirs to put. Raises UsageError where the registry
    cannot be read or written; then the notes stay.
    """
    taken: list[Path] = []

    def put(known: Registry) -> None:
        for name, made in records.items():
            path = note_of(registry, made.path)
            note = read_note(path)
            if note.record == made if note else _still(known, name, made):
                known.put(name, made)
                taken.append(path)

    result = update(registry, put)
    _forget(taken)
    return result


def is_complete(artifact: Path, record: Record) -> bool:
    """Is the file the recorded one, to the last byte?"""
    file = record.output.files[0]
    try:
        return artifact.stat().st_size == file.size and file_sha256(artifact).sha256 == file.sha256
    except OSError:
        return False


def _settle(registry: Path, path: Path) -> Note | Literal["gone", "busy"]:
    """What became of a noted artifact. Of a complete one, the texts are put in place."""
    note = read_note(path)
    if note is None:
        return "gone"
    artifact = registry.parent / note.record.path
    try:
        with locked(artifact, wait=False):
            if not is_complete(artifact, note.record):
                return "gone" if note.host == host() else "busy"  # of another machine's processes nothing is known
            for name, text in note.texts.items():
                _restore(artifact.with_name(name), text)
            return note
    except BlockingIOError:
        return "busy"


def _still(known: Registry, name: str, made: Record) -> bool:
    """Is an artifact without a note still as `made`? Looked at only where another record stands in the way."""
    other = known.records.get(name)
    return other is None or other.output == made.output or is_complete(known.artifact(made), made)


def _restore(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _write(path: Path, text: str) -> None:
    for _ in range(TRIES):  # another process may just be removing the empty folder
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return write_text(path, text)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise cannot_write(path, error) from None
        except UsageError:
            if path.parent.is_dir():
                raise
    raise UsageError(f"cannot write {path}: its folder goes away", why=["nothing was written"])


def _forget(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty yet
            path.parent.rmdir()
            path.parent.parent.rmdir()
