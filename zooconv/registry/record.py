"""What a registry says of one artifact: where its weights came from, what made it, what it is, what was checked.

Records are read strictly: no key that this program does not know, no number that another reader of JSON would round.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from zooconv.digest import FileDigest
from zooconv.options import CHOICES, Format
from zooconv.tensor import DTYPES

NAME = r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){0,2}"


def check_name(text: str) -> str:
    """An artifact's name, as it is. Raises ValueError for what is none."""
    if not re.fullmatch(NAME, text) or ".." in text or len(text) > 128:
        raise ValueError(f"{text!r:.80} is no name")
    return text


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
Count = Annotated[int, Field(ge=1, le=2**53 - 1)]  # what any reader of JSON holds exactly
Name = Annotated[str, AfterValidator(check_name)]
DType = Annotated[str, Field(pattern=rf"^({'|'.join(DTYPES)})\z")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(_Strict):
    """A file of a source or an artifact: its name (an artifact's is relative to the registry), bytes and SHA-256."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*\z",
                               max_length=512)]
    size: Count
    sha256: Sha256


class SourceContent(_Strict):
    """A set of tensors: its tree digest, how many there are, of how many elements, of which dtypes.

    `canonical` is the tree digest of the backbone in it under canonical names. A set that was not read whole has no
    `tree`.
    """

    tree: Sha256 | None = None
    tensors: Count
    params: Count
    dtypes: dict[DType, Count]
    canonical: Sha256 | None = None


class Content(SourceContent):
    """A set of tensors that was read whole."""

    tree: Sha256


class SourceRecord(_Strict):
    """Where the weights came from: a commit of a hub repository, an address, or a local file.

    Where the source was `verified` in part, only some of its tensors were fetched: the SHA-256 of its files is as the
    hub states it, and was not checked.
    """

    type: Literal["hf", "url", "local"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\z",
                               max_length=96)] | None = None
    url: Annotated[str, Field(pattern=r"^https://")] | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}\z")] | None = None
    files: Annotated[list[File], Field(min_length=1)]
    content: SourceContent | None = None
    verified: Literal["partial"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> SourceRecord:
        needs = {"hf": (self.repo, self.revision), "url": (self.url,), "local": ()}[self.type]
        if None in needs:
            raise ValueError(f"a source of type {self.type} says where it is: repo and revision, or url")
        if self.content and (self.content.tree is None) != (self.verified == "partial"):
            raise ValueError("a source has a tree digest, unless it was verified in part only")
        return self


class Converter(_Strict):
    """What made the artifact: family, its distribution, the digest of its rule tables, the options that mattered."""

    name: Name
    dist: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\z")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!_-]*\z", max_length=64)]
    rules: Sha256
    options: dict[str, Any] = {}

    @property
    def choices(self) -> dict[str, Any]:
        """The changes that were asked for, by option."""
        return {name: value for name, value in self.options.items() if name in CHOICES}


class Output(_Strict):
    """The artifact; `certificate` is the SHA-256 of the one beside it."""

    format: Format
    writer: str | None = None
    files: Annotated[list[File], Field(min_length=1)]
    content: Content
    dropped: Annotated[int, Field(ge=0)] | None = None
    certificate: Sha256 | None = None


class Check(BaseModel):
    """The outcome of a check, and what it measured.

    For finiteness, the tensors that hold NaN or Inf; for parity, the outcome against each upstream.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    status: Literal["pass", "skip", "fail"]
    nonfinite: list[str] | None = None
    against: dict[str, dict[str, Any]] | None = None


class Record(BaseModel):
    """One artifact. `changes` are the declared steps after which its weights are not the source's any more; `filled`
    is the original from which it has what the source had not.

    Keys that start with `x-` are the user's own.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    source: SourceRecord
    filled: SourceRecord | None = None
    converter: Converter
    layout: Name
    changes: Annotated[list[str], Field(min_length=1)] | None = None
    output: Output
    checks: dict[str, Check] = {}
    license: Annotated[str, Field(max_length=128)]

    @model_validator(mode="after")
    def _no_strangers(self) -> Record:
        strange = [key for key in self.model_extra or () if not key.startswith("x-")]
        if strange:
            raise ValueError(f"unknown key {', '.join(strange)}; a key of your own starts with x-")
        return self

    @property
    def path(self) -> str:
        """The artifact's file, relative to the registry."""
        return self.output.files[0].file


def all_of(outcomes: Mapping[str, dict[str, Any]]) -> Check:
    """The check that outcomes against several upstreams make: it fails where one of them does."""
    failed = any(one.get("status") == "fail" for one in outcomes.values())
    return Check(status="fail" if failed else "pass", against=dict(sorted(outcomes.items())))


def source_records(digests: tuple[FileDigest, ...]) -> list[File]:
    """A source's files as records; in names, what a registry cannot spell becomes an underscore."""
    return [File(file=re.sub(r"[^A-Za-z0-9_.+=@/-]|(?<![^/])[^A-Za-z0-9_]", "_", d.file), size=d.size, sha256=d.sha256)
            for d in digests]


def nulls(model: BaseModel) -> Iterator[str]:
    """The keys, at any depth, that were given as null."""
    for key in model.model_fields_set & type(model).model_fields.keys():
        value = getattr(model, key)
        if value is None:
            yield key
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        yield from (f"{key}.{null}" for part in parts if isinstance(part, BaseModel) for null in nulls(part))
