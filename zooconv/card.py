"""The verification card of an artifact: all that can be said for it, each line measured anew when the card is made."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from zooconv.atomic import write_text
from zooconv.certificate import certificate_path, check_certificate, read_certificate
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.family import config_facts, config_text
from zooconv.output import megabytes, some
from zooconv.parity import parity
from zooconv.registry import Content, Converter, File, Sha256, SourceRecord
from zooconv.subject import Subject, record_parity
from zooconv.upstream import package_version
from zooconv.verify import unrecorded, verify

Status = Literal["verified", "failed", "not verified"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(_Strict):
    """What the weights are."""

    family: str
    title: str
    config: dict[str, JsonValue]
    dialect: str
    license: str
    variant: str | None = None


class Finding(_Strict):
    """One check: what came of it, and what stands against it or why it was not made."""

    status: Status
    why: list[str] = []


class Proof(Finding):
    """Parity with one upstream; `measured` is what `zooconv parity --json` gives."""

    measured: dict[str, JsonValue] | None = None


class Card(_Strict):
    """All of it."""

    card: Literal[1] = 1
    artifact: str
    model: Model
    source: SourceRecord
    converter: Converter
    layout: str
    changes: list[str]
    output: File
    content: Content
    dropped: dict[str, str]
    fresh: list[str]
    checks: dict[Literal["file", "certificate"], Finding]
    parity: dict[str, Proof]
    environment: dict[str, str]
    certificate: Sha256 | None = None

    @property
    def passed(self) -> bool:
        findings = [*self.checks.values(), *self.parity.values()]
        return all(finding.status != "failed" for finding in findings)

    @property
    def text(self) -> str:
        return self.model_dump_json(indent=1, exclude_none=True) + "\n"


def make_card(subject: Subject, against: Iterable[str] = (), *, memory: int | None = None) -> Card:
    """Measure everything and say it; the parity's outcomes go into the record as well.

    `against` are the upstreams to run; by default all whose packages are installed. Raises UsageError for a subject
    that no registry knows.
    """
    record, registry = subject.record, subject.registry
    if record is None or registry is None or subject.name is None:
        raise UsageError(f"{subject.path} is no artifact of a registry", next=f"zooconv convert {subject.path}")
    (outcome,) = verify(registry, [subject.name])
    proofs = {name: _proof(subject, name, memory) for name in against or subject.found.family.upstreams}
    certificate = read_certificate(certificate_path(subject.path))
    found = subject.found
    return Card(
        artifact=subject.name, layout=record.layout, changes=record.changes or [],
        source=record.source, converter=record.converter,
        model=Model(family=found.family.name, title=found.family.title, variant=found.variant,
                    config=config_facts(found.config), dialect=found.dialect.name, license=record.license),
        output=record.output.files[0], content=record.output.content, certificate=record.output.certificate,
        dropped={name: row.dropped for name, row in certificate.sources.items() if row.dropped is not None},
        fresh=[name for name, row in certificate.targets.items() if isinstance(row.made, dict) and "fill" in row.made],
        checks={"file": _finding([] if outcome.status == "ok" else [f"{outcome.status}: {outcome.why}"]),
                "certificate": _finding(unrecorded(certificate, record)
                                        or check_certificate(certificate, subject.source, subject.artifact,
                                                             subject.original))},
        parity=proofs, environment=environment(found.family.upstreams),
    )


def schema() -> str:
    """The JSON Schema of cards, as `docs/card.schema.json` has it. Its `$` ends a text, as `\\z` does for Python."""
    return json.dumps(Card.model_json_schema(), indent=1).replace("\\\\z", "$") + "\n"


def write_card(card: Card, artifact: Path) -> tuple[Path, Path]:
    """Write `<file>.card.json` and `<file>.card.md` beside the artifact; their paths."""
    paths = artifact.with_name(f"{artifact.name}.card.json"), artifact.with_name(f"{artifact.name}.card.md")
    for path, text in zip(paths, (card.text, page(card)), strict=True):
        write_text(path, text)
    return paths


def environment(upstreams: Iterable[str] = ()) -> dict[str, str]:
    """The versions of everything that took part."""
    packages = ["zooconv", "torch", "numpy", *sorted({name.partition("-")[0] for name in upstreams})]
    return {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}",
            **{name: package_version(name) for name in packages}}


def _finding(faults: list[str]) -> Finding:
    return Finding(status="failed" if faults else "verified", why=faults[:20])


def _proof(subject: Subject, name: str, memory: int | None) -> Proof:
    try:
        result = parity(subject.source, subject.found, subject.artifact, subject.ours, name, memory=memory,
                        chosen=subject.chosen)
    except UsageError as error:
        return Proof(status="not verified", why=[error.what, *error.why])
    except CheckFailed as error:
        return Proof(status="failed", why=[error.what, *error.why])
    record_parity(subject, result)
    return Proof(status="verified" if result.passed else "failed", measured=result.data)


# -- the page --------------------------------------------------------------------------------------------------------


def page(card: Card) -> str:
    """The card as Markdown."""
    source, model = card.source, card.model
    where = f"{source.repo} @ {source.revision}" if source.repo else source.url or source.files[0].file
    rows = [
        ("model", f"{model.title} {model.variant or '(no known variant)'}: {config_text(model.config)}"),
        ("source", f"{where}, {model.dialect} names"),
        *((f"source {file.file}", f"`{file.sha256}`" + (", as stated; fetched in part" if source.verified else ""))
          for file in source.files),
        ("artifact", f"{card.output.file}, {megabytes(card.output.size)}"),
        ("layout", f"{card.layout}: {card.content.tensors} tensors, {card.content.params:,} elements"),
        ("sha256", f"`{card.output.sha256}`"), ("tree digest", f"`{card.content.tree}`"),
        ("canonical digest", f"`{card.content.canonical}`"), ("rules digest", f"`{card.converter.rules}`"),
        ("certificate", f"`{card.certificate}`"),
        ("changed", "<br>".join(card.changes) or "nothing: every value is the source's"),
        ("dropped", f"{len(card.dropped)}: {some(list(card.dropped))}" if card.dropped else "nothing"),
        ("fresh", f"{len(card.fresh)}: {some(card.fresh)}" if card.fresh else "nothing"),
        ("licence of the weights", model.license),
        ("measured with", ", ".join(f"{name} {number}" for name, number in card.environment.items())),
    ]
    checks = [("the file is the one that was recorded", card.checks["file"]),
              ("certificate: every tensor of either file is had from the other's", card.checks["certificate"]),
              *((f"parity with {name}", proof) for name, proof in card.parity.items()),
              *([] if card.parity else [("parity", _NO_PARITY)])]
    return "\n".join([
        f"# {card.artifact}", "", "| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in rows), "",
        "| check | status | |", "|---|---|---|",
        *(f"| {label} | {finding.status} | {_remark(finding)} |" for label, finding in checks), "",
        *(line for name, proof in card.parity.items() for line in _stages(name, proof)),
        f"Made by `zooconv card {card.artifact}`; everything here was measured then.", ""])


_NO_PARITY = Finding(status="not verified", why=["its family names no package to hold it against"])


def _remark(finding: Finding) -> str:
    if isinstance(finding, Proof) and finding.measured:
        skipped: Any = finding.measured["skipped"]
        return "; ".join(f"{name} not compared: {why}" for name, why in skipped.items())
    return "; ".join(finding.why[:3]) + (" …" if finding.why[3:] else "")


def _stages(name: str, proof: Proof) -> list[str]:
    if proof.measured is None:
        return []
    measured: Any = proof.measured
    rows = [f"| {output} | {'x'.join(map(str, d['shape']))} | {d['float64']['abs']:.1e} | {d['float64']['rel']:.1e} "
            f"| {d['float32']['rel']:.1e} |" for output, d in measured["outputs"].items()]
    images = "x".join(map(str, measured["images"]))
    head = (f"Against {measured['package']} {measured['version']}, on {images} of seeded noise, "
            f"limit {measured['limit']:g}:")
    return [head, "", f"| {name} | shape | float64 abs | rel | float32 rel |", "|---|---|---|---|---|", *rows, ""]
