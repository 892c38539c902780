"""What was typed, a model, an artifact or a file, and what a config must say for it. Only headers are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zooconv.address import Address
from zooconv.certificate import certificate_path, read_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.d2config.keys import Wanted, dialect_requires, meant, wanted_of
from zooconv.errors import CheckFailed, UsageError, ZooError
from zooconv.mapping.change import in_turn
from zooconv.mapping.family import Family, Layout
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import chosen_changes, make_plan, must_hold
from zooconv.names import HubSource, LocalSource, UrlSource, resolve
from zooconv.place import place
from zooconv.plugins import all_layouts, chosen_layout, families, family, layout_names
from zooconv.recognise import members, recognise
from zooconv.registry import Record, Registry, registry_near
from zooconv.tensor import TensorSpec
from zooconv.zoo import Model, zoo

USUAL = "d2"


def wanted_for(what: str, layout: str | None = None, choices: Mapping[str, Any] | None = None,
               registry: Path | None = None) -> Wanted:
    """What a config must say for the weights that `what` names, in a layout, with the changes that are asked for.

    An artifact that is recorded is named by its path, a model of the zoo that is not by its `zoo://` name, for which no
    file is read. Without `layout`, it is the recorded artifact's, else d2. Raises UsageError for what means nothing or
    several things, CheckFailed for what the layout cannot hold.
    """
    choices = choices or {}
    book = registry_near(what, registry)
    recorded = _recorded(book, what, layout, choices)
    if recorded is not None:
        return _of_artifact(book, recorded, layout)
    source = resolve(what, zoo())
    if isinstance(source, LocalSource):
        return _of_file(source, layout, choices, registry)
    if source.model is None:
        raise UsageError(f"{what} is no model of the zoo: what it is, only its file tells",
                         next=f"zooconv fetch-convert {what}")
    return _of_model(source, source.model, layout or USUAL, choices)


def _recorded(book: Registry, what: str, layout: str | None, choices: Mapping[str, Any]) -> str | None:
    """The name of the one artifact that is meant. Raises UsageError where it could be several."""
    chosen = {name: record.converter.choices for name, record in book.records.items()}
    meant = [name for name in book.meant(what) if book.artifact(book.records[name]).exists()
             and _is_in(book.records[name], layout) and (not choices or chosen[name] == dict(choices))]
    if len(meant) > 1 and not choices:
        meant = [name for name in meant if not chosen[name]] or meant
    if len(meant) > 1:
        raise UsageError(f"{what} could be any of {len(meant)} artifacts", why=meant[:20],
                         next=f"name one: zooconv config {meant[0]}")
    return meant[0] if meant else None


def _is_in(record: Record, layout: str | None) -> bool:
    """Is it in this layout, by any of its names? Without one: in a layout at all, not in an upstream's names?"""
    return any(record.layout in one.names and (layout is None or layout in one.names)
               for one in all_layouts(family(record.converter.name)))


def _of_artifact(book: Registry, name: str, project: str | None) -> Wanted:
    record = book.records[name]
    path, known = book.artifact(record), family(record.converter.name)
    layout = chosen_layout(known, project or record.layout)
    source, file = record.source, record.source.files[0].file
    model = zoo().find(name.partition("/")[0])
    place = source.repo or source.url
    if place and (model is None or place not in (model.repo, model.url)):
        model = zoo().find(f"{place}:{file}") or zoo().find(place)
    try:
        dialect = dialect_requires(known, read_certificate(certificate_path(path)).dialect)
    except ZooError as error:
        raise CheckFailed(f"what {name} was made of is not known without its certificate", why=[error.what],
                          next=f"zooconv verify {name}") from None
    with open_checkpoint(path) as checkpoint:
        specs = checkpoint.specs
    readers = [*members(specs, [known])] or [known]  # of a family that stands for many, the one that it is
    config = next(filter(None, (_held(specs, one, chosen_layout(one, layout.name)) for one in readers)), None)
    if config is None:
        raise CheckFailed(f"{path} is not what layout {record.layout} holds", next=f"zooconv verify {name}")
    turned = any(change.turns_colours for change in chosen_changes(known, config, record.converter.choices))
    model = model if model and place in (model.repo, model.url) else None
    config = meant(known, config, model)
    return Wanted(known, layout, project or record.layout, config, str(path), dialect, model, turned)


def _of_model(source: HubSource | UrlSource, model: Model, project: str, choices: Mapping[str, Any]) -> Wanted:
    known, variant = next(((family(one.family), one.variant) for one in model.known
                           if project in layout_names(family(one.family))), (family(model.family), model.variant))
    layout = chosen_layout(known, project)
    asked = chosen_changes(known, known.variants[variant], choices)
    changes, config = in_turn(known.variants[variant], [*asked, *layout.changes])
    must_hold(layout, known, config)
    address = Address(source.name, {"layout": project, **choices})
    return Wanted(known, layout, project, config, str(address), None, model,
                  any(change.turns_colours for change in changes))


def _of_file(source: LocalSource, project: str | None, choices: Mapping[str, Any], registry: Path | None) -> Wanted:
    with open_checkpoint(source.path) as checkpoint:
        specs = checkpoint.specs
    found = recognise(specs, families(), what=source.path.name, layout=project)
    known = found.family
    layout = chosen_layout(known, project or (found.layout.name if found.layout else USUAL))
    if not choices and (config := _held(specs, known, layout)) is not None:
        return Wanted(known, layout, project or layout.name, config, str(source.path))
    plan = make_plan(found, layout, choices=choices)
    target = place(source, project or layout.name, registry=registry, marks=choices)
    return wanted_of(plan, str(target.path), project=project or layout.name)


def _held(specs: Mapping[str, TensorSpec], known: Family[Any], layout: Layout) -> Any:
    """The config of a file with these tensors, where it is in this layout."""
    found = fit(known, layout.body, specs, layout.mount, layout)
    return found.config if found.exact else None
