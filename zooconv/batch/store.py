"""Artifacts in an object store or on any file system that fsspec knows: `s3://bucket/zoo`, `gs://…`, `file:///…`.

An artifact is made in a temporary folder of the worker, uploaded under a temporary name, compared in size, and only
then given its final name. Notes and registry lie beside the artifacts, as on a disk; only the driver writes the
registry. https://filesystem-spec.readthedocs.io
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.errors import UsageError, ZooError
from zooconv.journal import Note
from zooconv.load_check import Loader
from zooconv.pipeline import beside, make
from zooconv.registry import Record, Registry

if TYPE_CHECKING:
    from zooconv.batch.task import Task

REGISTRY = "registry.json"
_NOTES = f".zooconv/{REGISTRY}"


def is_url(text: str) -> bool:
    """Is this the address of a store, and no path?"""
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None


@dataclass(frozen=True)
class Store:
    """A folder at an fsspec address."""

    url: str

    def address(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{name}"

    # -- what is there -----------------------------------------------------------------------------------------------

    def text(self, name: str) -> str | None:
        """A small file's text, or None where there is none."""
        with self._files(name) as (files, path):
            return files.cat_file(path).decode() if files.exists(path) else None

    def exists(self, name: str) -> bool:
        with self._files(name) as (files, path):
            return bool(files.exists(path))

    def has(self, record: Record) -> bool:
        """Is the artifact there, with its recorded size? What has its final name was compared before."""
        file = record.output.files[0]
        with self._files(file.file) as (files, path):
            return bool(files.exists(path)) and files.info(path)["size"] == file.size

    def registry(self) -> Registry:
        """The registry. Raises UsageError for a broken one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, REGISTRY)
            if text := self.text(REGISTRY):
                path.write_text(text, encoding="utf-8")
            return Registry(Path(REGISTRY), Registry.read(path).records)

    def settled(self) -> Registry:
        """The registry, after what killed processes left behind was recorded."""
        notes = [note for name in self._notes() if (note := self.note(name)) is not None]
        complete = {note.name: note.record for note in notes if self.has(note.record)}
        return self.record(complete) if complete else self.registry()

    def note(self, file: str) -> Note | None:
        """The note of an artifact, if one was left."""
        text = self.text(f"{_NOTES}/{file}.json")
        return Note.model_validate_json(text) if text is not None else None

    # -- what is put there -------------------------------------------------------------------------------------------

    def make(self, task: Task, torch: Loader) -> Record:
        """Make a task's artifact on this machine, and put it there with the texts that lie beside it.

        Raises UsageError where the name is taken by something else, ZooError where the store refuses.
        """
        place = task.place
        known = task.known.get(task.name)
        mine = known is not None and known.path == place.file
        if not mine and not task.options.force and self.exists(place.file):
            raise UsageError(f"{task.shown} exists, and is not recorded as {task.name}", next="replace it: --force")
        with tempfile.TemporaryDirectory(prefix="zooconv-") as name:
            stage = Path(name)
            options = replace(task.options, output=stage / place.file, registry=stage / REGISTRY)
            made = make(task.source, options, registry=Registry(stage / REGISTRY, {}), torch=torch)
            here = replace(made.preview, place=place, options=task.options)
            texts = beside(replace(made, preview=here), task.options)
            note = Note(name=task.name, host="", record=made.record, texts=texts)
            self.put_text(f"{_NOTES}/{place.file}.json", note.text)
            self.put(made.path, place.file)
        for file, text in texts.items():
            self.put_text(file, text)
        return made.record

    def put(self, local: Path, name: str) -> None:
        """Upload a file under a temporary name, compare its size, and give it its name."""
        with self._files(name) as (files, path):
            folder, _, last = path.rpartition("/")
            draft = f"{folder}/.{last}.{uuid.uuid4().hex[:8]}.tmp"
            try:
                files.makedirs(folder, exist_ok=True)
                files.put_file(str(local), draft)
                if files.info(draft)["size"] != local.stat().st_size:
                    raise ZooError(f"{self.address(name)} did not arrive whole", next="try again: --resume")
                files.mv(draft, path)
            except BaseException:
                if files.exists(draft):
                    files.rm_file(draft)
                raise

    def put_text(self, name: str, text: str) -> None:
        """Write a small file in one step, as `put` does."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            self.put(Path(file.name), name)

    def record(self, records: Mapping[str, Record]) -> Registry:
        """Put records into the registry, and take their notes away. Of two drivers at once the later one wins."""
        registry = self.registry()
        before = registry.text()
        for name, made in records.items():
            registry.put(name, made)
        if registry.text() != before:
            self.put_text(REGISTRY, registry.text())
        for made in records.values():
            with self._files(f"{_NOTES}/{made.path}.json") as (files, path):
                if files.exists(path):
                    files.rm_file(path)
                with suppress(OSError):  # not empty yet; or there are no folders in this store
                    files.rmdir(path.rpartition("/")[0])
                    files.rmdir(path.rsplit("/", 2)[0])
        return registry

    # -- the store itself --------------------------------------------------------------------------------------------

    def _notes(self) -> list[str]:
        """The artifacts that have a note."""
        with self._files(_NOTES) as (files, path):
            found = files.ls(path, detail=False) if files.exists(path) else []
        names = [full.rsplit("/", 1)[-1] for full in found]
        return [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]

    @contextmanager
    def _files(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and a file's path in it. Raises ZooError for what the store refuses, in its words."""
        try:
            url_to_fs: Any = import_module("fsspec.core").url_to_fs
        except ImportError:
            raise UsageError("addresses need fsspec", next="pip install 'zooconv[store]'") from None
        try:
            files, path = url_to_fs(self.address(name))
            yield files, path
        except ZooError:
            raise
        except (ImportError, ValueError) as error:
            raise UsageError(f"cannot use {self.url}: {error}",
                             next="a path, or an address that fsspec knows") from None
        except OSError as error:
            raise ZooError(f"{self.address(name)}: {type(error).__name__}: {error}",
                           next="what is complete is kept; go on with --resume") from None
