"""What a proof is about: an artifact and its source, both open and both read as the family reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.checkpoint.open import Checkpoint, open_checkpoint
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.family import Family, Layout
from zooconv.mapping.fit import Fit, explained, fit
from zooconv.mapping.forms import Forms
from zooconv.mapping.portable import unmounted
from zooconv.names import LocalSource, local, resolve
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.plugins import chosen_target, family
from zooconv.provenance import original_of, source_of
from zooconv.recognise import recognise
from zooconv.registry import Record, Registry, registry_near, update
from zooconv.zoo import zoo

if TYPE_CHECKING:
    from zooconv.hub import Hub
    from zooconv.parity import Parity


@dataclass(frozen=True)
class Subject:
    """An artifact and its source. `name` is the artifact's in `registry`, where it is recorded; `original` is what it
    was filled from, if it was."""

    path: Path
    artifact: Checkpoint
    ours: Fit
    source: Checkpoint
    found: Fit
    name: str | None = None
    registry: Registry | None = None
    original: Checkpoint | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The changes that were asked for when the artifact was made, by option."""
        return self.record.converter.choices if self.record else {}

    @property
    def record(self) -> Record | None:
        return self.registry.records[self.name] if self.registry and self.name else None


def subjects(what: str, *, layout: str = "d2", source: Path | None = None, registry: Path | None = None,
             hub: Hub | None = None) -> list[AbstractContextManager[Subject]]:
    """Everything that `what` means, to be opened one by one: artifacts of the registry by name or file, else one file.

    A file that no registry knows is converted, in a temporary folder, to `layout`. Opening one raises UsageError for
    what means nothing, SourceUnavailable where a source is not at hand.
    """
    book = registry_near(what, registry)
    recorded = [_recorded(book, name, source, hub) for name in book.meant(what)]
    return [*recorded] or [_converted(what, layout)]


def record_parity(subject: Subject, result: Parity) -> None:
    """Note the outcome in the artifact's record, where it has one."""
    if subject.registry and subject.name:
        name = subject.name
        update(subject.registry.path, lambda registry: registry.put_parity(name, result.against, result.summary))


@contextmanager
def _recorded(registry: Registry, name: str, source: Path | None, hub: Hub | None) -> Iterator[Subject]:
    record = registry.records[name]
    path = registry.artifact(record)
    with (source_of(record, registry, given=source, hub=hub) as origin, open_checkpoint(path) as artifact,
          original_of(record, registry, hub=hub) as original):
        found = recognise(origin.specs, [family(record.converter.name)], what=origin.path.name,
                          prefix=record.converter.options.get("prefix"))
        layout = chosen_target(found.family, record.layout)
        if record.converter.options.get("portable"):
            layout = unmounted(layout)
        anywhere = record.filled is not None or bool(record.converter.options.get("extract"))
        ours = read_layout(artifact, found.family, layout, anywhere=anywhere)
        yield Subject(path, artifact, ours, origin, found, name, registry, original)


@contextmanager
def _converted(what: str, layout: str) -> Iterator[Subject]:
    with ExitStack() as stack:
        meant = resolve(what, zoo())
        if not isinstance(meant, LocalSource):
            raise UsageError(f"there is no artifact of {what} here", next=f"zooconv fetch-convert {what}")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zooconv-")))
        options = Options(layout=layout, output=folder / f"{meant.name}.pth", load_check=False, report=False,
                          registry=folder / "registry.json")
        done = run(local(meant.path), options)
        origin = stack.enter_context(open_checkpoint(meant.path))
        artifact = stack.enter_context(open_checkpoint(done.path))
        ours = read_layout(artifact, done.preview.found.family, done.preview.plan.layout)
        yield Subject(meant.path, artifact, ours, origin, done.preview.found)


def read_layout(artifact: Checkpoint, known: Family[Any], layout: Layout, *, anywhere: bool = False) -> Fit:
    """An artifact as its layout reads it: under its mount, and as nothing else. Raises CheckFailed.

    With `anywhere`, under the prefix that it has: what was filled or extracted stands where another file had it.
    """
    mount = next(iter(Forms(artifact.specs).prefixes(layout.body.anchor)), "") if anywhere else layout.mount
    ours = fit(known, layout.body, artifact.specs, mount, layout)
    if not ours.exact:
        raise CheckFailed(f"{artifact.path.name} is not what layout {layout.name} holds",
                          why=[str(problem) for problem in explained(ours)[:20]], next="zooconv verify")
    return ours
