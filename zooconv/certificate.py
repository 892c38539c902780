"""The certificate of an artifact: which bytes came from which, and how to get them back.

    {
     "certificate": 1,
     "family": "convnext", "config": {…}, "layout": "d2", "dialect": "timm", "prefix": "", "rules": …, "options": {},
     "source": {"tree": …, "canonical": …, "files": [{"file": …, "size": …, "sha256": …}]},
     "artifact": {"tree": …, "canonical": …, "size": …, "sha256": …},
     "sources": {
      "stem.0.weight": {"dtype": "F32", "shape": [96, 3, 4, 4], "sha256": …,
                        "back": "backbone.downsample_layers.0.0.weight"},
      "head.fc.weight": {"dtype": "F32", "shape": [1000, 768], "sha256": …, "dropped": "classifier"},
     },
     "targets": {
      "backbone.downsample_layers.0.0.weight": {"dtype": …, "shape": …, "sha256": …, "made": "stem.0.weight"},
     }
    }

`made` says what each target tensor is, over source tensors; `back` says what each source tensor is, over target
tensors: the proof that nothing was lost. A source tensor without a `back` was `dropped` for a reason, or `computed`
into new values by a declared change, which `changes` lists. Both are expressions (`zooconv.mapping.notation`), so the
two files and the certificate are enough to check it, without the rules that led to it. It lies beside the artifact as
`<file>.cert.json`; the registry has its SHA-256. Like the registry, it holds no time, host or path.

Of a source that was fetched in part (`"verified": "partial"`), the tensors that were left behind have no `sha256`, and
the whole has no `tree`.

Tensors that came from an original stand among the sources under marked names (`zooconv.mapping.like`); `filled` has
its digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from zooconv.canonical import expression_sha256
from zooconv.checkpoint.open import Checkpoint, open_checkpoint
from zooconv.digest import FileDigest, TensorDigest, canonical_json, text_sha256, tree_digest
from zooconv.errors import CheckFailed, UsageError
from zooconv.execute import Written
from zooconv.mapping.expr import Expr, Leaf, bytes_of
from zooconv.mapping.family import config_facts
from zooconv.mapping.notation import from_data, to_data
from zooconv.mapping.plan import Plan
from zooconv.original import beside
from zooconv.registry import File, Sha256, source_records
from zooconv.reread import tensor_digests
from zooconv.tensor import LazyTensor


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tensor(_Strict):
    """A tensor of either file."""

    dtype: str
    shape: tuple[int, ...]
    sha256: Sha256 | None = None

    def fits(self, found: TensorDigest) -> bool:
        """Is this the tensor that was found, as far as is known?"""
        return (self.dtype, self.shape, self.sha256 or found.sha256) == (found.dtype, found.shape, found.sha256)


class SourceTensor(Tensor):
    """A source tensor: it can be had back, or it was dropped for a reason, or computed into others by a change.

    One that was dropped unread, from a source that was fetched in part, has no digest.
    """

    back: JsonValue = None
    dropped: str | None = None
    computed: str | None = None

    @model_validator(mode="after")
    def _read(self) -> SourceTensor:
        if self.sha256 is None and self.dropped is None:
            raise ValueError("a tensor that was not dropped has a digest")
        return self


class TargetTensor(Tensor):
    """A target tensor, and what it is made of."""

    sha256: Sha256
    made: JsonValue


class Side(_Strict):
    """A whole file: the tree digests of its tensors, under its own and under canonical names."""

    tree: Sha256 | None = None
    canonical: Sha256


class SourceSide(Side):
    """The source. Where it was `verified` in part only, the digests of its files are as stated, and it has no tree."""

    verified: Literal["partial"] | None = None
    files: list[File]


class FilledSide(_Strict):
    """The tensors that came from an original, by their tree digest, and the files that it is."""

    tree: Sha256
    files: list[File]


class ArtifactSide(Side):
    tree: Sha256
    size: int
    sha256: Sha256


class Certificate(_Strict):
    """All of it, as it is written."""

    certificate: Literal[1]
    family: str
    config: dict[str, JsonValue]
    layout: str
    dialect: str
    prefix: str
    rules: Sha256
    options: dict[str, JsonValue]
    changes: list[str] | None = None
    source: SourceSide
    artifact: ArtifactSide
    filled: FilledSide | None = None
    sources: Annotated[dict[str, SourceTensor], Field(min_length=1)]
    targets: Annotated[dict[str, TargetTensor], Field(min_length=1)]

    @property
    def text(self) -> str:
        """The canonical text, a line a tensor."""
        plain = self.model_dump(exclude_none=True, mode="json")
        tables = {name: plain.pop(name) for name in ("sources", "targets")}
        head = [f' "{key}": {canonical_json(value)}' for key, value in plain.items()]
        body = [f' "{key}": {{\n' + ",\n".join(f"  {canonical_json(name)}: {canonical_json(row)}"
                                              for name, row in rows.items()) + "\n }" for key, rows in tables.items()]
        return "{\n" + ",\n".join(head + body) + "\n}\n"

    @property
    def sha256(self) -> str:
        return text_sha256(self.text)


def certificate_path(artifact: Path) -> Path:
    """Where an artifact's certificate lies."""
    return artifact.with_name(f"{artifact.name}.cert.json")


def certify(plan: Plan, written: Written, path: Path, source_files: tuple[FileDigest, ...],
            options: Mapping[str, Any], original_files: tuple[FileDigest, ...] = (), *,
            partial: bool = False) -> Certificate:
    """The certificate of the file at `path`, which `written` tells of.

    What the pass has not shown already is shown here from the file: source tensors that were joined, cut or reordered
    are made again from it. Raises CheckFailed where one does not come back as it was.
    """
    made = Certificate(
        certificate=1, family=plan.family.name, config=config_facts(plan.config), layout=plan.layout.name,
        dialect=plan.dialect, prefix=plan.prefix, rules=plan.rules, options=dict(options),
        changes=list(plan.changes) or None,
        source=SourceSide(tree=None if partial else tree_digest(written.source),
                          canonical=tree_digest(written.canonical), verified="partial" if partial else None,
                          files=source_records(source_files)),
        artifact=ArtifactSide(tree=tree_digest(written.target), canonical=tree_digest(written.placed),
                              size=written.file.size, sha256=written.file.sha256),
        filled=FilledSide(tree=tree_digest(written.filled), files=source_records(original_files))
        if original_files else None,
        sources={d.name: SourceTensor(dtype=d.dtype, shape=d.shape, sha256=d.sha256, **_fate(plan, d.name))
                 for d in (*written.source, *written.filled)}
        | {t.name: SourceTensor(dtype=t.dtype, shape=t.shape, **_fate(plan, t.name)) for t in written.unread},
        targets={d.name: TargetTensor(dtype=d.dtype, shape=d.shape, sha256=d.sha256, made=to_data(move.value))
                 for d, move in zip(written.target, plan.moves, strict=True)},
    )
    with open_checkpoint(path) as artifact:
        lost = list(_not_made(plan.back, made.sources, made.targets, artifact.tensors))
    if lost:
        raise CheckFailed(f"{len(lost)} source tensors cannot be had back from the file that was written",
                          why=lost[:20], next="nothing was put in place; a rule says zeros where there are none, or "
                                              "this is a bug of the rules or of zooconv")
    return made


def _fate(plan: Plan, name: str) -> dict[str, Any]:
    for fate, why in (("dropped", plan.dropped), ("computed", plan.computed)):
        if name in why:
            return {fate: why[name]}
    return {"back": to_data(plan.back[name])}


def read_certificate(path: Path) -> Certificate:
    """The certificate at `path`. Raises UsageError where there is none, or something else."""
    try:
        return Certificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"there is no certificate {path}: {error.strerror}",
                         next="convert once more; every conversion writes one") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path} is no certificate that zooconv can use",
                         why=[f"{'.'.join(map(str, first['loc']))}: {first['msg']}"]) from None


def check_certificate(certificate: Certificate, source: Checkpoint, artifact: Checkpoint,
                      original: Checkpoint | None = None) -> list[str]:
    """Hold a certificate against its two files, and nothing else. What is wrong, or nothing.

    `original` is the third, where there is one.

    Every tensor of both files is hashed; every target that is not simply a source tensor is made again from the source,
    and every source tensor that is not simply a target from the artifact.
    """
    source = beside(source, original, certificate.sources) if original else source
    wrong = [*_strangers("source", certificate.sources, source), *_strangers("artifact", certificate.targets, artifact)]
    if wrong:
        return wrong
    try:
        made = _expressions({n: row.made for n, row in certificate.targets.items()}, certificate.sources)
        back = _expressions({n: row.back for n, row in certificate.sources.items()
                             if row.dropped is None and row.computed is None}, certificate.targets)
    except ValueError as error:
        return [f"the certificate contradicts itself: {error}"]
    return [*_not_made(made, certificate.targets, certificate.sources, source.tensors),
            *_not_made(back, certificate.sources, certificate.targets, artifact.tensors)]


def _strangers(side: str, listed: Mapping[str, Tensor], checkpoint: Checkpoint) -> Iterator[str]:
    """Tensors of a file that are not as the certificate lists them."""
    found = {digest.name: digest for digest in tensor_digests(checkpoint.tensors)}
    for name in {**listed, **found}:
        if name not in found:
            yield f"{name}: not in the {side}"
        elif name not in listed:
            yield f"{name}: in the {side}, not in the certificate"
        elif not listed[name].fits(found[name]):
            yield f"{name}: the {side} has other bytes"


def _expressions(texts: Mapping[str, JsonValue], over: Mapping[str, Tensor]) -> dict[str, Expr]:
    leaves = {name: Leaf(t.shape, t.dtype, name) for name, t in over.items()}
    return {name: from_data(text, leaves) for name, text in texts.items()}


def _not_made(expressions: Mapping[str, Expr], wanted: Mapping[str, Tensor], given: Mapping[str, Tensor],
              tensors: Mapping[str, LazyTensor]) -> Iterator[str]:
    """The tensors of one side that their expressions over the other side's tensors do not give."""
    for name, value in expressions.items():
        inner = bytes_of(value)
        sha256 = (given[inner.name].sha256 if isinstance(inner, Leaf)
                  else expression_sha256(value, tensors))
        if sha256 != wanted[name].sha256:
            yield f"{name}: {value} is not it"
