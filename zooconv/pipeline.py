"""The road from a name to a proved file: resolve → fetch → open → recognise → plan → execute → check → record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.atomic import drafting, write_text
from zooconv.audit import auditing
from zooconv.certificate import certificate_path, certify
from zooconv.check import check_written
from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.write import writer_for
from zooconv.conversion import Conversion, Preview
from zooconv.d2config.file import check_config, set_weights
from zooconv.errors import UsageError
from zooconv.execute import execute
from zooconv.load_check import loading
from zooconv.lock import pin
from zooconv.mapping.plan import make_plan
from zooconv.names import LocalSource, Source, local, resolve
from zooconv.options import Options
from zooconv.place import object_to, place
from zooconv.plugins import chosen_layout, families
from zooconv.pump import Watching
from zooconv.recognise import recognise
from zooconv.registry import Registry, update
from zooconv.report import page
from zooconv.zoo import zoo

if TYPE_CHECKING:
    from zooconv.hub import Fetched, Hub
    from zooconv.inspection import Inspection
    from zooconv.names import HubSource, UrlSource



def run(source: Source, options: Options, *, hub: Hub | None = None,
        watching: Watching = lambda total: lambda size: None) -> Conversion:
    """Walk the whole road for one source.

    `watching` is told how many bytes will be written, and gives the function that is told of each number written.
    Raises ZooError; then nothing is in place that was not there before.
    """
    if options.config:
        check_config(options.config)
    with looking_ahead(source, options, hub=hub) as preview:
        plan, checkpoint, target = preview.plan, preview.checkpoint, preview.place
        object_to(target, checkpoint, Registry.read(target.registry), force=options.force)
        target.make_room()
        writer = writer_for(target.format, plan.targets, plan.facts)
        with loading(wanted=options.load_check) as torch, drafting(target.path) as draft:
            written = execute(plan, checkpoint, draft, writer, preview.audit, watch=watching(plan.nbytes),
                              allow_nonfinite=options.allow_nonfinite)
            check_written(draft.path, plan, writer, written, digests=options.verify)
            certificate = certify(plan, written, draft.path, preview.source_files(written), options.recorded)
            version = torch.check(draft.path, target.format, plan.targets) if torch else None
            if preview.pin:
                preview.pin.check_written(preview.source_files(written), written, certificate)
            draft.commit()
        write_text(certificate_path(target.path), certificate.text)
        conversion = Conversion(preview, written, certificate, version, options.note)
        if not preview.pin:
            update(target.registry, lambda registry: registry.put(target.name, conversion.record))
        if options.report:
            write_text(target.path.with_name(f"{target.path.name}.md"), page(conversion.data))
        if options.config:
            set_weights(options.config, str(target.path))
        return conversion


@contextmanager
def looking_ahead(source: Source, options: Options, *, hub: Hub | None = None) -> Iterator[Preview]:
    """The road up to the proved plan. Nothing is written; the checkpoint is open inside the block."""
    target = place(source, options.layout, output=options.output, format_=options.format,
                   registry=options.registry, name=options.name, choices=options.choices)
    held = pin(source, target) if options.locked else None
    with held.fetching() if held else nullcontext():
        source = held.source(source) if held else source
        fetched, path = (None, source.path) if isinstance(source, LocalSource) else _fetched(source, hub)
    with (open_checkpoint(path, ema=options.ema, key=options.key) as checkpoint,
          auditing(checkpoint.files, wanted=fetched is None) as audit):
        found = recognise(checkpoint.specs, families(), what=path.name, prefix=options.prefix)
        plan = make_plan(found, chosen_layout(found.family, options.layout), fresh=options.fresh,
                         choices=options.choices)
        if held:
            held.check_plan(plan, target.layout, options.recorded)
        yield Preview(source, fetched, checkpoint, audit, found, plan, target, options.recorded, held)


def _fetched(source: HubSource | UrlSource, hub: Hub | None) -> tuple[Fetched, Path]:
    from zooconv.sources.fetch import fetch_source

    fetched = fetch_source(source, hub)
    return fetched, fetched.path


# -- the public functions --------------------------------------------------------------------------------------------


def fetch_convert(name: str, *, hub: Hub | None = None, **options: Any) -> Conversion:
    """Download a model's weights and convert them. `options` are those of `Options`.

    `name` is a name of the zoo, a hub repository `owner/repo[@revision][:file]`, or a path. Raises ZooError.
    """
    return run(resolve(name, zoo()), Options(**options), hub=hub)


def convert(path: str | Path, **options: Any) -> Conversion:
    """Convert a checkpoint file. `options` are those of `Options`. Raises ZooError."""
    return run(local(path), Options(**options))


def fetch(name: str, *, hub: Hub | None = None) -> Fetched:
    """Download a model's weights, verified, and say where they are. Raises ZooError."""
    source = resolve(name, zoo())
    if isinstance(source, LocalSource):
        raise UsageError(f"{name} is a file already", next=f"zooconv convert {name}")
    return _fetched(source, hub)[0]


def inspect(path: str | Path, *, ema: bool = False, key: str | None = None, prefix: str | None = None,
            digest: bool = True) -> Inspection:
    """Say what a checkpoint file is. Nothing in it is executed. Raises ZooError for one that cannot be read.

    Without `digest`, only its headers are read.
    """
    from zooconv.inspection import inspect_checkpoint

    with open_checkpoint(path, ema=ema, key=key) as checkpoint:
        return inspect_checkpoint(checkpoint, prefix, digest=digest)
