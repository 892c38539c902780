"""Artifacts by address, kept: the first call fetches and converts, any later one finds the file.

The cache is a folder with artifacts, their certificates and pages, and a registry.json of its own. An artifact is used
again as long as its file is the one that is recorded, and was made by the rules, the plugin and the writer that are
installed now; else it is made anew. Whether it is the one is seen from its size, inode and times while these are as
they were when it was last hashed, and by hashing it otherwise.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv import __version__, settings
from zooconv.address import Address
from zooconv.atomic import cannot_write, locked, write_text
from zooconv.conversion import WRITER
from zooconv.d2config.keys import wanted_of
from zooconv.d2config.text import config_of
from zooconv.digest import canonical_json, file_sha256, text_sha256
from zooconv.errors import UsageError
from zooconv.mapping.family import Family, Layout
from zooconv.names import HubSource, LocalSource, UrlSource, artifact_name, resolve
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.place import Place, place
from zooconv.plugins import all_layouts, chosen_layout, family, layout_names, provider
from zooconv.registry import Record, Registry
from zooconv.report import summary
from zooconv.zoo import zoo

if TYPE_CHECKING:
    from zooconv.hub import Hub

log = logging.getLogger("zooconv")


def artifact(address: Address, *, force: bool = False, hub: Hub | None = None) -> Path:
    """The file of an address, made if it is not in the cache; with `force`, made in any case.

    Any number of processes may ask at once: one of them makes it, the others wait. Raises ZooError.
    """
    source, options = _wanted(address)
    target = place(source, options.layout, output=options.output, registry=options.registry, name=options.name,
                   marks=options.marks)
    if not force and _is_there(target):
        log.info("%s is %s", address, target.path)
        return target.path
    with locked(target.path.with_name(f"{target.path.name}.wanted")):
        if force or not _is_there(target):  # another process may have made it meanwhile
            _make(address, source, options, target, hub)
    return target.path


def _wanted(address: Address) -> tuple[HubSource | UrlSource, Options]:
    """The source of an address, and the options of a conversion into the cache."""
    source = resolve(address.model, zoo())
    if isinstance(source, LocalSource):
        raise UsageError(f"{address} names a file; an address names a model of the zoo, or a repository",
                         next=f"zooconv convert {source.path} --layout {address.chosen.layout}")
    if source.model is not None:
        chosen_layout(family(source.model.family), address.chosen.layout)
    folder = settings.cache_path().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    return source, replace(address.chosen, output=folder, registry=folder / "registry.json",
                           name=_name(address, source), force=True)


def _name(address: Address, source: HubSource | UrlSource) -> str:
    """What artifacts of this source and these options are called; layout and changes come behind it.

    A model of the zoo has its own name, any other its repository's. What else decides is in a digest.
    """
    more = {**address.chosen.recorded, "revision": address.revision, "file": address.file}
    told = {key: value for key, value in more.items() if value is not None and key not in address.chosen.choices}
    base = source.name if source.model else artifact_name(source.address.replace("/", "--"))[:80]
    return f"{base}-{text_sha256(canonical_json(told))[:8]}" if told else base


# -- is it there? ------------------------------------------------------------------------------------------------------


def _is_there(target: Place) -> bool:
    """Is the file there that the cache's registry records, as what is installed now would make it?"""
    record = _records(target.registry).get(target.name)
    left = _read_mark(target.path)
    if record is None or not left or not target.path.is_file():
        return False
    mark = _mark(target.path, record)
    if left.get("made_by") != mark["made_by"] or not _by_what_is_installed(record):
        log.info("%s was made by other rules; it is made anew", target.path)
        return False
    if left == mark:
        return True
    if file_sha256(target.path).sha256 != record.output.files[0].sha256:
        log.warning("%s is not the file that was recorded; it is made anew", target.path)
        return False
    _leave_mark(target.path, record)
    return True


def _records(path: Path) -> Mapping[str, Record]:
    try:
        return Registry.read(path).records
    except UsageError as error:
        raise UsageError(error.what, why=error.why, next=f"rm -r {path.parent}  (a cache: all of it can be made again)"
                         ) from None


def _by_what_is_installed(record: Record) -> bool:
    plugin = provider(family(record.converter.name))
    return (record.converter.dist, record.converter.version, record.output.writer) == (
        plugin.dist, plugin.version, WRITER.format("pth"))


def made_by(family: Family[Any]) -> str:
    """A digest of what decides how a family's weights are written: its tables, its plugin and zooconv."""
    plugin = provider(family)
    tables = [*map(str, family.dialects), *(line for each in all_layouts(family) for line in _lines(each))]
    return text_sha256("\n".join([__version__, plugin.dist, plugin.version, *tables]))


def _lines(layout: Layout) -> Iterable[str]:
    yield from (layout.mount, str(layout.body), *map(str, layout.changes))


def _mark_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.mark")


def _mark(path: Path, record: Record) -> dict[str, Any]:
    """What a file is known by without being read, and what it is known to be."""
    stat = path.stat()
    return {"sha256": record.output.files[0].sha256, "made_by": made_by(family(record.converter.name)),
            "size": stat.st_size, "inode": stat.st_ino, "times": [stat.st_mtime_ns, stat.st_ctime_ns]}


def _read_mark(path: Path) -> dict[str, Any]:
    try:
        mark = json.loads(_mark_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}


def _leave_mark(path: Path, record: Record) -> None:
    write_text(_mark_path(path), json.dumps(_mark(path, record)))


# -- it is made --------------------------------------------------------------------------------------------------------


def _make(address: Address, source: HubSource | UrlSource, options: Options, target: Place, hub: Hub | None) -> None:
    log.info("%s is not in the cache: fetching %s", address, source.address)
    _mark_path(target.path).unlink(missing_ok=True)
    conversion = run(source, options, hub=hub)
    _leave_mark(target.path, conversion.record)
    wanted = wanted_of(conversion.preview.plan, str(address), source.model, options.layout)
    log.info("%s is made:\n%s\nIn your Detectron2 config:\n%s", address, summary(conversion.data),
             config_of(wanted, comments=False))
    if "layout" not in address.options:
        others = ", ".join(layout_names(conversion.preview.plan.family))
        log.info("the layout is %s, the default; there are %s", options.layout, others)
