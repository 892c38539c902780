"""What a conversion is: the preview that is known before anything is written, and the result with its record."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zooconv import __version__
from zooconv.audit import Audit
from zooconv.certificate import Certificate
from zooconv.checkpoint.open import Checkpoint
from zooconv.d2config.keys import Wanted, wanted_of
from zooconv.d2config.text import config_of, form_of
from zooconv.digest import FileDigest, TensorDigest, tree_digest
from zooconv.execute import Written
from zooconv.mapping.cast import CAST
from zooconv.mapping.family import config_facts
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import Plan
from zooconv.names import Source
from zooconv.options import Options
from zooconv.original import Original, beside
from zooconv.place import Place
from zooconv.plugins import provider
from zooconv.registry import (
    Check,
    Content,
    Converter,
    File,
    Output,
    Record,
    SourceContent,
    SourceRecord,
    source_records,
)
from zooconv.tensor import DTYPES, TensorSpec

if TYPE_CHECKING:
    from zooconv.hub import Fetched
    from zooconv.lock import Pin

WRITER = "zooconv {} 1"
"""Who wrote a file, and the number of the format, as the registry has it."""
PORTABLE = "Detectron2 matches these names by their ends; it refuses a model in which the backbone stands twice"


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
    options: Options
    original: Original | None = None
    pin: Pin | None = None

    @property
    def whole(self) -> Checkpoint:
        """The source, and beside it what comes from an original."""
        return beside(self.checkpoint, self.original.checkpoint, self.plan.filled) if self.original else self.checkpoint

    @property
    def layout(self) -> str:
        """What is written, as it was asked for."""
        return self.place.layout if self.place.layout in self.plan.layout.names else self.plan.layout.name

    @property
    def license(self) -> str:
        """The weights' licence: the zoo's word, else the repository's, else unknown."""
        model = self.source.model
        return (model.license if model else None) or (self.fetched.license if self.fetched else None) or "unknown"

    @property
    def mind(self) -> list[str]:
        """What the layout and the zoo want a user to mind."""
        passed = [f"a mirror was used: {why}" for why in (self.fetched.passed if self.fetched else ())]
        if self.plan.layout.upstream:
            return passed
        odd = unusual_dtypes(self.plan.targets, asked=CAST in self.options.choices)
        notes = (*passed, *self.wanted.mind, odd, PORTABLE if self.options.portable else "")
        return [note for note in notes if note]

    @property
    def wanted(self) -> Wanted:
        """What a Detectron2 config must say for the file."""
        return wanted_of(self.plan, str(self.place.path), self.source.model, self.layout)

    @property
    def _config(self) -> dict[str, Any]:
        wanted = self.wanted
        return {"detectron2": wanted.keys,
                "config_text": {"form": form_of(wanted), "text": config_of(wanted, comments=False)}}

    @property
    def again(self) -> str:
        """The command that makes the artifact again: of a model of the hub, from the same commit."""
        source, fetched = self.source, self.fetched
        if fetched is None:
            return shlex.join(["zooconv", "convert", str(self.checkpoint.path), *self.options.typed])
        if fetched.url:
            pinned = f"{fetched.url}#sha256={fetched.files[0].sha256}"
        else:
            pinned = (f"{source.model.name}@{fetched.revision}" if source.model else
                      f"{fetched.repo}@{fetched.revision}:{fetched.files[0].file}")
        named = [] if source.model or self.options.name else ["--name", source.name]
        return shlex.join(["zooconv", "fetch-convert", pinned, *self.options.typed, *named])

    @property
    def partial(self) -> bool:
        """Is the source fetched in part, so that its files' digests are as stated, and not checked?"""
        return bool(self.fetched and self.fetched.transfer)

    def source_files(self, written: Written) -> tuple[FileDigest, ...]:
        """The source's files, as fetching them or the pass has measured them."""
        return self.fetched.files if self.fetched else written.source_files

    @property
    def data(self) -> dict[str, Any]:
        """Everything that is known so far, as plain data."""
        plan, checkpoint = self.plan, self.checkpoint
        origin = self.fetched.data if self.fetched else {}
        return {
            "name": self.place.name,
            "source": {**origin, "file": str(self.checkpoint.path), "format": checkpoint.format,
                       "wrapper": list(checkpoint.wrapper), "prefix": plan.prefix,
                       "tensors": len(checkpoint.tensors)},
            "family": plan.family.name, "title": plan.family.title, "variant": self.found.variant,
            "config": config_facts(self.found.config), "dialect": plan.dialect,
            "layout": self.layout, "dropped": plan.dropped, "fresh": plan.fresh, "starts": plan.starts,
            **({"filled": {"from": _where(self.original), "tensors": plan.filled}} if self.original else {}),
            **({"missing": plan.missing, "never": plan.never} if plan.layout.upstream and not self.original else {}),
            **({"changes": list(plan.changes), "computed": plan.computed} if plan.changes else {}),
            "artifact": {"file": str(self.place.path), "format": self.place.format, "tensors": len(plan.targets),
                         "bytes": plan.nbytes},
            "counts": {"source": len(checkpoint.tensors), "kept": len(checkpoint.tensors) - len(plan.dropped),
                       "dropped": len(plan.dropped), "fresh": len(plan.fresh), "written": len(plan.targets)},
            "license": self.license, "mind": self.mind, "version": __version__, "again": self.again,
            **({} if plan.layout.upstream else self._config),
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

    @cached_property
    def content(self) -> Content:
        """The artifact's tensors, as the registry describes them."""
        return content(self.written.target, self.certificate.artifact.canonical)

    @cached_property
    def source_content(self) -> SourceContent:
        """The source's tensors, likewise."""
        made = amounts(self.written.source, self.written.unread, self.certificate.source.canonical)
        return made.model_copy(update={"tree": self.certificate.source.tree})

    @property
    def data(self) -> dict[str, Any]:
        """Everything that is known, as plain data."""
        data, written = self.preview.data, self.written
        data["source"] |= {"files": [f._asdict() for f in self.preview.source_files(written)],
                           "tree": self.source_content.tree, "canonical": self.source_content.canonical}
        data["source"] |= {"verified": "partial"} if self.preview.partial else {}
        data["artifact"] |= {"size": written.file.size, "sha256": written.file.sha256, **self.content.model_dump()}
        data["checks"] = {name: check.model_dump(exclude_none=True) for name, check in self._checks.items()}
        data["torch"] = self.torch
        data["registry"] = str(self.preview.place.registry)
        return data | ({"note": self.note} if self.note else {})

    @property
    def record(self) -> Record:
        """The artifact's line in the registry: where it is held to one, that one."""
        return self.preview.pin.record if self.preview.pin else self.made

    @cached_property
    def made(self) -> Record:
        """The line that says what was made of what."""
        preview, written, plan = self.preview, self.written, self.preview.plan
        fetched, plugin = preview.fetched, provider(plan.family)
        original = preview.original
        return Record(
            source=_source(fetched, preview.source_files(written), self.source_content),
            filled=_source(original.fetched, original.files) if original else None,
            converter=Converter(name=plan.family.name, dist=plugin.dist, version=plugin.version, rules=plan.rules,
                                options=preview.options.recorded),
            layout=preview.layout, changes=list(plan.changes) or None,
            output=Output(format=preview.place.format, writer=WRITER.format(preview.place.format),
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


def _source(fetched: Fetched | None, files: tuple[FileDigest, ...],
            content: SourceContent | None = None) -> SourceRecord:
    """Where some files came from, for the registry."""
    kind: Literal["hf", "url", "local"] = "local" if fetched is None else "url" if fetched.url else "hf"
    return SourceRecord(type=kind, **(fetched.origin if fetched else {}), files=source_records(files), content=content,
                        verified="partial" if fetched and fetched.transfer else None)


def _where(original: Original) -> str:
    """Where an original came from, for people."""
    fetched = original.fetched
    if fetched is None:
        return str(original.checkpoint.path)
    return fetched.url or f"{fetched.repo} @ {str(fetched.revision)[:12]}"


def unusual_dtypes(targets: Collection[TensorSpec], *, asked: bool) -> str:
    """What to mind of floating-point tensors that are not float32, whether or not a cast was asked for."""
    odd = Counter(DTYPES[t.dtype].torch for t in targets if DTYPES[t.dtype].floating and t.dtype != "F32")
    if not odd:
        return ""
    found = " and ".join(f"{number} {dtype}" for dtype, number in sorted(odd.items()))
    return (f"holds {found} tensors, of {len(targets)}: Detectron2 casts them to float32 as it loads, without a word"
            + ("" if asked else "; --dtype float32 does so here, and says it"))


def content(tensors: Iterable[TensorDigest], canonical: str) -> Content:
    """A set of tensors, as the registry describes it."""
    listed = list(tensors)
    return Content(tree=tree_digest(listed), **amounts(listed, (), canonical).model_dump(exclude={"tree"}))


def amounts(read: Collection[TensorDigest], unread: Collection[TensorSpec], canonical: str) -> SourceContent:
    """A set of tensors of which some were not read: what is known of it without a digest of them all."""
    kinds = [(t.dtype, math.prod(t.shape)) for each in (read, unread) for t in each]
    return SourceContent(canonical=canonical, tensors=len(kinds), params=sum(size for _, size in kinds),
                         dtypes=dict(sorted(Counter(dtype for dtype, _ in kinds).items())))
