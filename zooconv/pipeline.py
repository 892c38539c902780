"""The road from a name to a proved file: resolve → fetch → open → recognise → plan → execute → check → record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv import journal
from zooconv.address import SCHEME, parse
from zooconv.atomic import commit, drafting, drafting_texts
from zooconv.audit import auditing
from zooconv.certificate import certificate_path, certify
from zooconv.check import check_written
from zooconv.checkpoint.write import writer_for
from zooconv.conversion import Conversion, Preview
from zooconv.d2config.file import must_be_config, set_values
from zooconv.errors import UsageError
from zooconv.execute import execute
from zooconv.load_check import Loader, loading
from zooconv.lock import pin
from zooconv.mapping.family import Layout
from zooconv.mapping.fit import Fit
from zooconv.mapping.like import Like
from zooconv.mapping.plan import Plan, make_plan
from zooconv.mapping.portable import portable_plan
from zooconv.names import LocalSource, Source, local, resolve
from zooconv.options import Options
from zooconv.original import Original
from zooconv.page import page
from zooconv.partial import hold_against_known, keep_needed, must_be_distant, must_be_divisible, unread
from zooconv.place import object_to, place
from zooconv.plugins import chosen_layout, chosen_naming, families, family, layout_names, provider
from zooconv.pump import Watching, unwatched
from zooconv.recognise import recognise
from zooconv.registry import Registry
from zooconv.sources.open import open_source
from zooconv.tensor import TensorSpec
from zooconv.zoo import zoo

if TYPE_CHECKING:
    from zooconv.hub import Fetched, Hub
    from zooconv.inspection import Inspection


def run(source: Source, options: Options, *, hub: Hub | None = None, watching: Watching = unwatched) -> Conversion:
    """Walk the whole road for one source.

    `watching` is told how many bytes will be written, and gives the function that is told of each number written.
    Raises ZooError; then nothing is in place that was not there before.
    """
    if options.config:
        must_be_config(options.config)
    conversion = make(source, options, hub=hub, watching=watching)
    target = conversion.preview.place
    journal.record(target.registry, {target.name: conversion.record})
    if options.config:
        weights = conversion.preview.wanted.required.weights
        set_values(options.config, {f"MODEL.{weights}": str(target.path)})
    return conversion


def make(source: Source, options: Options, *, hub: Hub | None = None, watching: Watching = unwatched,
         registry: Registry | None = None, torch: Loader | None = None) -> Conversion:
    """The road up to the artifact in its place, and a note of it in the journal; to be recorded by the caller.

    `registry` is what is known of the artifact so far, if that was looked up already; `torch` does the load check,
    instead of a process of its own.
    """
    with looking_ahead(source, options, hub=hub) as preview:
        plan, checkpoint, target = preview.plan, preview.whole, preview.place
        known = registry or journal.settled(target.registry)
        object_to(target, checkpoint, known, force=options.force)
        left = unread(plan, preview.checkpoint) if preview.partial else frozenset[str]()
        keep_needed(preview.checkpoint, left)
        target.make_room()
        key = plan.layout.files.key
        writer = writer_for(target.format, plan.targets, plan.facts, key, heuristics=options.portable)
        with loading(wanted=options.load_check, own=torch) as loader, drafting(target.path) as draft:
            written = execute(plan, checkpoint, draft, writer, preview.audit, watch=watching(plan.nbytes),
                              allow_nonfinite=options.allow_nonfinite, unread=left)
            check_written(draft.path, plan, writer, written, digests=options.verify)
            certificate = certify(plan, written, draft.path, preview.source_files(written), options.recorded,
                                  preview.original.files if preview.original else (), partial=preview.partial)
            if preview.partial:
                hold_against_known(certificate, known.records, provider(plan.family).version)
            version = loader.check(draft.path, target.format, plan.targets, key) if loader else None
            conversion = Conversion(preview, written, certificate, version, options.note)
            if preview.pin:
                preview.pin.check_made(conversion.made)
            texts = beside(conversion, options)
            with (drafting_texts({target.path.with_name(name): text for name, text in texts.items()}) as pages,
                  journal.noted(target, conversion.record, texts)):
                commit([draft, *pages])
        return conversion


def beside(conversion: Conversion, options: Options) -> dict[str, str]:
    """The texts that lie beside an artifact, by file name: its certificate, and the page about it."""
    path, certificate = conversion.path, conversion.certificate.text
    return {certificate_path(path).name: certificate,
            **({f"{path.name}.md": page(conversion.data, options.lang)} if options.report else {})}


@contextmanager
def looking_ahead(source: Source, options: Options, *, hub: Hub | None = None,
                  headers: bool = False) -> Iterator[Preview]:
    """The road up to the proved plan. Nothing is written; the checkpoint is open inside the block.

    With `headers`, only these are fetched, where the container has them apart from its tensors.
    """
    settle = partial(place, source, options.target, output=options.output, format_=options.format,
                     registry=options.registry, name=options.name, marks=options.marks)
    near = settle()  # what was typed is objected to before anything is fetched
    if options.partial:
        must_be_distant(source)
    _promised(source, options)
    held = pin(source, near, options.typed) if options.locked else None
    with held.fetching() if held else nullcontext():
        source = held.source(source) if held else source
        fetched, opened = open_source(source, hub, ema=options.ema, key=options.key,
                                      ranged=headers or options.partial, must=options.partial)
    with (opened as checkpoint, auditing(checkpoint.files, wanted=fetched is None) as audit,
          _original(options, hub, headers=headers) as original):
        if options.partial:
            must_be_divisible(checkpoint)
        found, plan = planned(source, checkpoint.specs, options, what=checkpoint.path.name, original=original)
        preview = Preview(source, fetched, checkpoint, audit, found, plan, settle(usual=plan.layout.files.container),
                          options, original, held)
        if held:
            held.check_plan(plan, preview.layout, options.recorded)
        yield preview


def _promised(source: Source, options: Options) -> None:
    """Raise UsageError for a layout that no family of a model of the zoo has."""
    model = source.model
    if model is None or options.to or options.extract:
        return
    if not any(options.layout in layout_names(family(one.family)) for one in model.known):
        chosen_layout(family(model.family), options.layout)


def planned(source: Source, tensors: Mapping[str, TensorSpec], options: Options, *, what: str,
            original: Original | None = None) -> tuple[Fit, Plan]:
    """What a source's tensors are, and the proved plan of what is asked for. `what` names the file in messages."""
    readers = [family(source.model.family)] if source.model and source.model.alone else families()
    found = recognise(tensors, readers, what=what, prefix=options.prefix,
                      layout=None if options.to or options.extract else options.layout,
                      layouts_first=options.extract or original is not None)
    layout, like = _target(found, options, original)
    if options.portable:
        return found, portable_plan(found, layout, fresh=options.fresh, choices=options.choices)
    return found, make_plan(found, layout, fresh=options.fresh, choices=options.choices, like=like,
                            drop_trained=options.drop_trained)


def _target(found: Fit, options: Options, original: Original | None) -> tuple[Layout, Like | None]:
    """What is to be written, and the file whose names and shapes it takes over, if it does."""
    if options.extract:
        return found.itself, Like(found)
    layout = chosen_naming(found.family, options.to) if options.to else chosen_layout(found.family, options.layout)
    return original.like(found.family, layout) if original else (layout, None)


@contextmanager
def _original(options: Options, hub: Hub | None, *, headers: bool) -> Iterator[Original | None]:
    """The original that `--fill-from` names, open for the block, or none."""
    if options.fill_from is None:
        yield None
        return
    fetched, opened = open_source(resolve(options.fill_from, zoo()), hub, ranged=headers)
    with opened as checkpoint, auditing(checkpoint.files, wanted=fetched is None) as audit:
        yield Original(fetched, checkpoint, audit)


# -- the public functions --------------------------------------------------------------------------------------------


def fetch_convert(name: str, *, hub: Hub | None = None, **options: Any) -> Conversion:
    """Download a model's weights and convert them. `options` are those of `Options`.

    `name` is a name of the zoo, a hub repository `owner/repo[@revision][:file]`, a path, or an address `zoo://…` (see
    `zooconv.address`). Raises ZooError.
    """
    return run(*meant(name, Options(**options)), hub=hub)


def meant(name: str, options: Options) -> tuple[Source, Options]:
    """A source by what was typed, and the options with those of an address among them. Raises UsageError."""
    if not name.startswith(SCHEME):
        return resolve(name, zoo()), options
    address = parse(name)
    return resolve(address.model, zoo()), address.over(options)


def convert(path: str | Path, **options: Any) -> Conversion:
    """Convert a checkpoint file. `options` are those of `Options`. Raises ZooError."""
    return run(local(path), Options(**options))


def fetch(name: str, *, hub: Hub | None = None) -> Fetched:
    """Download a model's weights, verified, and say where they are. Raises ZooError."""
    source = resolve(name, zoo())
    if isinstance(source, LocalSource):
        raise UsageError(f"{name} is a file already", next=f"zooconv convert {name}")
    from zooconv.sources.fetch import fetch_source

    return fetch_source(source, hub)


def inspect(what: str | Path, *, ema: bool = False, key: str | None = None, prefix: str | None = None,
            digest: bool = True, hub: Hub | None = None) -> Inspection:
    """Say what a checkpoint file is: a path, or what `fetch_convert` takes. Nothing in it is executed.

    Without `digest`, only its headers are read; of a file that is neither here nor kept, only these are fetched.
    Raises ZooError for one that cannot be read.
    """
    from zooconv.inspection import inspect_checkpoint

    source = local(what) if isinstance(what, Path) else resolve(what, zoo())
    fetched, opened = open_source(source, hub, ema=ema, key=key, ranged=True, must=True)
    with opened as checkpoint:
        return inspect_checkpoint(checkpoint, prefix, digest=digest, fetched=fetched)
