"""A user's config on disk: checked, changed in place, with what it was before beside it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from zooconv.atomic import cannot_write, write_text
from zooconv.d2config.check import Finding, findings
from zooconv.d2config.edit import changed
from zooconv.d2config.keys import Wanted
from zooconv.d2config.text import form_of
from zooconv.d2config.yaml import Document, read, read_chain


@dataclass(frozen=True)
class Edit:
    """What was done to a file: the unified diff, and where its old text stands; both empty where nothing was."""

    path: Path
    diff: str = ""
    backup: Path | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        return {"file": str(self.path), "changed": bool(self.diff), "diff": self.diff,
                "backup": str(self.backup) if self.backup else None, "findings": [one.data for one in self.findings]}


def check(path: Path, wanted: Wanted) -> list[Finding]:
    """What a config says that does not fit the weights. Raises UsageError for what is no YAML config, or cannot be."""
    form_of(wanted, "yaml")
    return findings(wanted, read_chain(path))


def fit_to(path: Path, wanted: Wanted) -> Edit:
    """Give a config the values that the weights need and it has not, overriding what it is based on.

    Raises UsageError where `check` does, and for a file that cannot be changed without changing more.
    """
    found = check(path, wanted)
    weights = f"MODEL.{wanted.required.weights}"
    values = {one.key: one.needed for one in found if one.needs and (one.costs or one.key == weights)}
    return replace(set_values(path, values),
                   findings=tuple(replace(one, written=one.key in values) for one in found))


def set_values(path: Path, values: Mapping[str, Any]) -> Edit:
    """Write values, by dotted key, into a YAML config; comments, order and every other line stay.

    The text before is kept as `x.yaml.bak`, or `.bak1` … where that exists. Nothing is written where nothing changes.
    Raises UsageError for a file that is no YAML config or cannot be changed so.
    """
    document = read(path)
    text = changed(document, values)
    if text == document.text:
        return Edit(path)
    backup = _keep(path)
    write_text(path, document.mark.decode() + text)
    return Edit(path, _diff(document, text), backup)


def must_be_config(path: Path) -> None:
    """Raise UsageError where `set_values` would: for a file that is no YAML config."""
    read(path)


def _keep(path: Path) -> Path:
    """A second name for the file as it is, which stays its own when the first is given another file."""
    if path.is_symlink():
        path = path.resolve()
    names = (path.with_name(f"{path.name}.bak{number or ''}") for number in count())
    for name in names:
        try:
            _link(path, name)
        except FileExistsError:
            continue
        except OSError as error:
            raise cannot_write(name, error) from None
        return name
    raise AssertionError


def _link(path: Path, name: Path) -> None:
    """A hard link, which is made whole or not at all; a copy where the file system has none."""
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        with name.open("xb") as copy:
            copy.write(path.read_bytes())
        with suppress(OSError):
            name.chmod(path.stat().st_mode)


def _diff(document: Document, text: str) -> str:
    before, after = (one.splitlines(keepends=True) for one in (document.text, text))
    made = difflib.unified_diff(before, after, str(document.path), str(document.path))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in made)
