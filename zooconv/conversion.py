"""What a conversion is: the preview that is known before anything is written, and the result with its record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.audit import Audit
from zooconv.certificate import Certificate
from zooconv.checkpoint.open import Checkpoint
from zooconv.d2config.keys import config_for
from zooconv.digest import FileDigest, TensorDigest, tree_digest
from zooconv.execute import Written
from zooconv.mapping.family import config_facts
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import Plan
from zooconv.names import Source
from zooconv.place import Place
from zooconv.plugins import provider
from zooconv.registry import Check, Content, Converter, File, Output, Record, SourceRecord, source_records

if TYPE_CHECKING:
    from zooconv.hub import Fetched
    from zooconv.lock import Pin


@dataclass(frozen=True)
class Preview:
    """A proved plan, with where its tensors come from and where they will go. Nothing has been written."""

    source: Source
    fetched: Fetched | None
    checkpoint: Checkpoint
    audit: Audit | None
    found: Fit
    plan: Plan
    place: Place
    options: dict[str, Any]
    pin: Pin | None = None

    @property
    def license(self) -> str:
        """The weights' licence: the zoo's word, else the repository's, else unknown."""
        model = self.source.model
        return (model.license if model else None) or (self.fetched.license if self.fetched else None) or "unknown"

    @property
    def mind(self) -> list[str]:
        """What the layout and the zoo want a user to mind."""
        plan, model = self.plan, self.source.model
        passed = self.fetched.passed if self.fetched else ()
        notes = [*(f"a mirror was used: {why}" for why in passed),
                 *(requires.advice(plan.config) for requires in plan.requires), model.note if model else ""]
        return [note for note in notes if note]

    def source_files(self, written: Written) -> tuple[FileDigest, ...]:
        """The source's files, as fetching them or the pass has measured them."""
        return self.fetched.files if self.fetched else written.source_files

    @property
    def data(self) -> dict[str, Any]:
        """Everything that is known so far, as plain data."""
        plan, checkpoint = self.plan, self.checkpoint
        origin = self.fetched.origin if self.fetched else {}
        return {
            "name": self.place.name,
            "source": {**origin, "file": str(self.checkpoint.path), "format": checkpoint.format,
                       "wrapper": list(checkpoint.wrapper), "prefix": plan.prefix,
                       "tensors": len(checkpoint.tensors)},
            "family": plan.family.name, "title": plan.family.title, "variant": self.found.variant,
            "config": config_facts(self.found.config), "dialect": plan.dialect,
            "layout": self.place.layout, "dropped": plan.dropped, "fresh": plan.fresh,
            **({"changes": list(plan.changes), "computed": plan.computed} if plan.changes else {}),
            "artifact": {"file": str(self.place.path), "format": self.place.format, "tensors": len(plan.targets),
                         "bytes": plan.nbytes},
            "license": self.license, "mind": self.mind,
            "detectron2": config_for(plan, str(self.place.path), self.source.model),
        }


@dataclass(frozen=True)
class Conversion:
    """An artifact in its place, its certificate, and all that was measured. `torch` is the version that loaded it."""

    preview: Preview
    written: Written
    certificate: Certificate
    torch: str | None
    note: str = ""

    @property
    def path(self) -> Path:
        """The artifact's file."""
        return self.preview.place.path

    @property
    def content(self) -> Content:
        """The artifact's tensors, as the registry describes them."""
        return content(self.written.target, self.certificate.artifact.canonical)

    @property
    def source_content(self) -> Content:
        """The source's tensors, likewise."""
        return content(self.written.source, self.certificate.source.canonical)

    @property
    def data(self) -> dict[str, Any]:
        """Everything that is known, as plain data."""
        data, written = self.preview.data, self.written
        data["source"] |= {"files": [f._asdict() for f in self.preview.source_files(written)],
                           "tree": self.source_content.tree, "canonical": self.source_content.canonical}
        data["artifact"] |= {"size": written.file.size, "sha256": written.file.sha256, **self.content.model_dump()}
        data["checks"] = {name: check.model_dump(exclude_none=True) for name, check in self._checks.items()}
        data["torch"] = self.torch
        data["registry"] = str(self.preview.place.registry)
        return data | ({"note": self.note} if self.note else {})

    @property
    def record(self) -> Record:
        """The artifact's line in the registry."""
        preview, written, plan = self.preview, self.written, self.preview.plan
        fetched, plugin = preview.fetched, provider(plan.family)
        return Record(
            source=SourceRecord(type=("url" if fetched.url else "hf") if fetched else "local",
                                **(fetched.origin if fetched else {}),
                                files=source_records(preview.source_files(written)), content=self.source_content),
            converter=Converter(name=plan.family.name, dist=plugin.dist, version=plugin.version, rules=plan.rules,
                                options=preview.options),
            layout=preview.place.layout, changes=list(plan.changes) or None,
            output=Output(format=preview.place.format, writer=f"zooconv {preview.place.format} 1",
                          files=[File(file=preview.place.file, size=written.file.size, sha256=written.file.sha256)],
                          content=self.content, dropped=len(plan.dropped), certificate=self.certificate.sha256),
            checks=self._checks, license=preview.license,
            **({"x-note": self.note} if self.note else {}),
        )

    @property
    def _checks(self) -> dict[str, Check]:
        odd = self.written.nonfinite
        return {"tensors": Check(status="pass"), "load": Check(status="pass" if self.torch else "skip"),
                "finite": Check(status="skip", nonfinite=list(odd)) if odd else Check(status="pass")}


def content(tensors: Iterable[TensorDigest], canonical: str) -> Content:
    """A set of tensors, as the registry describes it."""
    listed = list(tensors)
    return Content(tree=tree_digest(listed), canonical=canonical, tensors=len(listed),
                   params=sum(math.prod(t.shape) for t in listed),
                   dtypes=dict(sorted(Counter(t.dtype for t in listed).items())))
