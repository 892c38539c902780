"""Where an artifact goes: its file, its registry, and the name under which it is recorded.

All of it is settled, and every objection raised, before a byte is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zooconv import settings
from zooconv.checkpoint.open import Checkpoint
from zooconv.checkpoint.write import FORMATS
from zooconv.digest import file_sha256
from zooconv.errors import UsageError
from zooconv.names import LocalSource, Source, artifact_name
from zooconv.options import Format
from zooconv.registry import Registry

FOLDER = Path("weights")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*")


@dataclass(frozen=True)
class Place:
    """An artifact's file, its layout and format; its registry, its name there, and its path relative to it."""

    path: Path
    layout: str
    format: Format
    registry: Path
    name: str
    file: str

    def make_room(self) -> None:
        """Make the folder that zooconv itself proposes; any other is the user's to make."""
        if self.path.parent == FOLDER:
            FOLDER.mkdir(exist_ok=True)


def place(source: Source, layout: str, *, output: Path | None = None, format_: Format | None = None,
          usual: Format = "pth", registry: Path | None = None, name: str | None = None,
          marks: Mapping[str, Any] | None = None) -> Place:
    """Settle where the artifact of `source` in `layout`, called after the `marks` of its options, goes.

    `output` is a file or a folder; without it, weights/ for a model of the hub and the working folder for a file.
    `usual` is the format where neither `output` nor `format_` says one. Raises UsageError for a suffix that fits no
    format, or a path that the registry cannot name.
    """
    name = artifact_name(name or source.name)
    stem = source.path.name.removesuffix(".index.json") if isinstance(source, LocalSource) else name
    stem = Path(stem).stem if isinstance(source, LocalSource) else stem
    asked = "_".join(map(_spelled, (marks or {}).items()))
    whole = "_".join(filter(None, [stem, layout, asked]))
    path, format_ = _file(output, whole, format_, usual, hub=not isinstance(source, LocalSource))
    if format_ == "safetensors" and marks and "portable" in marks:
        raise UsageError("a portable file asks Detectron2 to match names by their ends, which safetensors cannot say",
                         next="--format pth")
    where, file = _registry(path, registry or settings.registry_path())
    own = asked if path.name == f"{whole}.{usual}" else artifact_name(path.name)
    key = f"{name}/{artifact_name(layout)}" + (f"/{own}" if own else "")
    return Place(path, layout, format_, where, key, file)


def _spelled(choice: tuple[str, Any]) -> str:
    """A choice in the name of a file: `bgr`, `patch16`, `float16`."""
    option, value = choice
    return value if isinstance(value, str) else option if value is True else f"{option}{value}"


def object_to(target: Place, checkpoint: Checkpoint, registry: Registry, *, force: bool) -> None:
    """Refuse to overwrite the source, or what is not known to be this artifact. Raises UsageError."""
    path = target.path
    if path.exists() and any(file.is_at(path) for file in checkpoint.files):
        raise UsageError(f"{path} is the source itself; it is never overwritten", next="name another file with -o")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; -o takes a .pth file in it", next=f"-o {path / path.name}.pth")
    other = registry.records.get(target.name)
    if other is not None and other.path != target.file and registry.artifact(other).exists() and not force:
        raise UsageError(f"the registry already has {target.name}, for {other.path}",
                         next="give this one a name of its own: --name NAME")
    if path.exists() and not force:
        if registry.owner(target.file) != target.name:
            raise UsageError(f"{path} exists, and is not recorded as {target.name} in {target.registry}",
                             next="name another file with -o, or replace this one: --force")
        assert other is not None
        if file_sha256(path).sha256 != other.output.files[0].sha256:
            raise UsageError(f"{path} was changed since it was recorded as {target.name}",
                             next="name another file with -o, or replace this one: --force")


def _file(output: Path | None, stem: str, format_: Format | None, usual: Format, *, hub: bool) -> tuple[Path, Format]:
    if output is None or output.is_dir():
        folder = output or (FOLDER if hub else Path())
        return folder / f"{stem}.{format_ or usual}", format_ or usual
    suffix = next((known for known in FORMATS if output.suffix == f".{known}"), None)
    if suffix is None:
        raise UsageError(f"{output} does not end like a file that zooconv writes",
                         why=[f"it writes {', '.join('.' + known for known in FORMATS)}",
                              "Detectron2 treats a file by its suffix; .pth is the one that works everywhere"],
                         next=f"-o {output.with_suffix('.pth')}" if output.suffix else
                              f"mkdir {output}  (or, for a file: -o {output}.pth)")
    if format_ not in (None, suffix):
        raise UsageError(f"--format {format_} contradicts the suffix of {output}", next="leave one of them out")
    return output, suffix


def _registry(path: Path, given: Path | None) -> tuple[Path, str]:
    """The registry, and the artifact's path relative to it: ./registry.json, or the one beside a file elsewhere."""
    full = path.resolve()
    for where in [given] if given else [Path("registry.json"), path.parent / "registry.json"]:
        home = where.resolve().parent
        if full.is_relative_to(home) and _FILE.fullmatch(file := full.relative_to(home).as_posix()):
            return where, file
    if given is None:
        raise UsageError(f"{path.name!r} is no name that a registry can spell",
                         next="use letters, digits and _ . + = @ - only, not a dot first")
    raise UsageError(f"{path} lies outside the folder of the registry {given}",
                     why=["a registry names files relative to itself, so that both can move together"],
                     next=f"--registry {path.parent / 'registry.json'}")
