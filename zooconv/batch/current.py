"""Is an artifact still what its record says, and the record still what a conversion would write today?

Asked by `--resume`, without reading a source: what it was is told by the artifact's certificate, and what it is now by
the hub. The cheap questions come first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from zooconv.certificate import Certificate, certificate_path
from zooconv.conversion import WRITER
from zooconv.digest import file_sha256
from zooconv.errors import AuthRequired, SourceUnavailable, ZooError
from zooconv.journal import is_complete
from zooconv.names import HubSource, LocalSource, Source, UrlSource
from zooconv.options import Options
from zooconv.pipeline import planned
from zooconv.place import Place
from zooconv.registry import Record
from zooconv.tensor import TensorSpec

if TYPE_CHECKING:
    from zooconv.batch.store import Store


def outdated(record: Record, source: Source, options: Options, place: Place, store: Store | None) -> tuple[str, str]:
    """Why the artifact must be made anew, or nothing; and what could not be looked at, or nothing."""
    if why := _otherwise_asked(record, options, place):
        return why, ""
    if not (store.has(record) if store else is_complete(place.path, record)):
        return "the artifact is missing or changed", ""
    name = certificate_path(Path(place.file))
    certificate = _certificate(store.text(str(name)) if store else _text(certificate_path(place.path)))
    if certificate is None or certificate.sha256 != record.output.certificate:
        return "its certificate is missing or changed", ""
    if why := _other_rules(record, certificate, source, options):
        return why, ""
    if isinstance(source, LocalSource):
        return _other_file(record, source)
    return _other_address(record, source) if isinstance(source, UrlSource) else _other_commit(record, source)


def _otherwise_asked(record: Record, options: Options, place: Place) -> str:
    if (record.layout, record.output.format) != (place.layout, place.format):
        return "another layout or container is asked for"
    if record.output.writer != WRITER.format(place.format):
        return "it was written by another writer"
    if record.converter.options != options.recorded:
        return "other options are asked for"
    if record.source.verified == "partial" and not options.partial:
        return "its source was fetched in part, and its digest not checked"
    if options.load_check and record.checks["load"].status != "pass":
        return "it was never loaded with torch"
    return ""


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _certificate(text: str | None) -> Certificate | None:
    try:
        return Certificate.model_validate_json(text) if text is not None else None
    except ValidationError:
        return None


def _other_rules(record: Record, certificate: Certificate, source: Source, options: Options) -> str:
    """Do today's tables make something else of the same tensors? Their headers stand in the certificate."""
    specs = {name: TensorSpec(name, t.shape, t.dtype) for name, t in certificate.sources.items()}
    try:
        _, plan = planned(source, specs, options, what=record.source.files[0].file)
    except ZooError as error:
        return f"the rules have changed: {error.what}"
    return "" if plan.rules == record.converter.rules else "the rules have changed"


def _other_file(record: Record, source: LocalSource) -> tuple[str, str]:
    first, *shards = record.source.files
    paths = [(first, source.path), *((file, source.path.parent / file.file) for file in shards)]
    for file, path in paths:
        try:
            if file_sha256(path).sha256 != file.sha256:
                return f"{path.name} has changed", ""
        except OSError:
            return f"{path.name} cannot be read", ""
    return "", ""


def _other_address(record: Record, source: UrlSource) -> tuple[str, str]:
    """An address has one file for good, which its digest says; where it was had from does not matter."""
    same = record.source.files[0].sha256.startswith(source.sha256)
    return ("" if same else "its source is another file now"), ""


def _other_commit(record: Record, source: HubSource) -> tuple[str, str]:
    from zooconv.hub import Hub

    if record.source.repo != source.repo:
        return "it came from another repository", ""
    if record.source.revision == source.revision:
        return "", ""
    try:
        listing = Hub().look(source)
    except (SourceUnavailable, AuthRequired) as error:
        return "", f"its source was not looked at: {error.what}"
    same = listing.commit == record.source.revision or all(listing.digests.get(file.file) == file.sha256
                                                           for file in record.source.files)
    return ("" if same else f"{source.repo} has other weights now"), ""
