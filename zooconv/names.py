"""What a user typed, and the source that it means.

    convnext_tiny_22k[@revision]           a name of the zoo, or one of its aliases
    timm/convnext_tiny.fb_in22k            a repository on the hub: owner/repo[@revision][:file]
    ./convnext_tiny_22k_1k_224.pth         a file
    zoo://convnext_tiny_22k                the same; with a layout and options, an artifact (see zooconv.address)

A name that could mean several models is refused, with the choices.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zooconv.address import SCHEME, parse
from zooconv.errors import UsageError

if TYPE_CHECKING:
    from zooconv.zoo import Model, Zoo

# Owner and repository as the hub allows them: https://huggingface.co/docs/hub/repositories-settings
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB = re.compile(rf"({_PART}/{_PART})(?:@([^:@\s]+))?(?::([^:@\s]+))?", re.ASCII)
# What a hub repository is searched for, in this order: the format that cannot hold code comes first.
FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".pkl", ".ckpt", ".npz", ".json")


@dataclass(frozen=True)
class LocalSource:
    """A file on disk. `name` is what its artifacts are called after."""

    path: Path
    name: str
    model: Model | None = None


@dataclass(frozen=True)
class HubSource:
    """Files of a repository on the hub; the first of `files` that it has is meant."""

    repo: str
    revision: str
    files: tuple[str, ...]
    name: str
    model: Model | None = None


Source = LocalSource | HubSource


def resolve(text: str, zoo: Zoo) -> Source:
    """The source that `text` means.

    Raises UsageError for a name that is unknown, refused or ambiguous, and for an artifact's address.
    """
    if text.startswith(SCHEME):
        address = parse(text)
        if address.options:
            raise UsageError(f"{text} is the address of an artifact; here, a model is wanted", next=address.model)
        text = address.model
    name, _, revision = text.partition("@")
    if model := zoo.find(text) or (zoo.find(name) if revision and "/" not in name else None):
        if not model.repo:
            raise UsageError(f"{model.name} cannot be fetched: {model.note}",
                             next=f"download it, then zooconv convert FILE --layout {model.layouts[0]}")
        return HubSource(model.repo, revision or model.revision, model.files or FILES, model.name, model)
    if _is_path(text):
        return local(text)
    if reason := zoo.refusal(text):
        raise UsageError(f"{text} is refused: {reason}", next="zooconv list  (shows what has)")
    if hub := _HUB.fullmatch(text):
        repo, revision, file = hub.groups()
        model = zoo.find(repo) if revision in (None, "main") and file is None else None
        name = model.name if model else artifact_name(Path(file).stem if file else repo.split("/")[1])
        return HubSource(repo, revision or "main", (file,) if file else FILES, name, model)
    raise _unknown(text if "/" in name else name, zoo)


def local(path: str | Path) -> LocalSource:
    """A file on disk as a source."""
    path = Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser fails for a user who is not there
    stem = path.name.removesuffix(".index.json")
    return LocalSource(path, artifact_name(Path(stem).stem or stem))


def artifact_name(text: str) -> str:
    """`text` as the name of artifacts: lower case, digits, dots, dashes and underscores."""
    name = re.sub(r"[^a-z0-9._-]+", "_", text.lower()).strip("._-")
    return re.sub(r"\.{2,}", ".", name)[:100] or "model"


def _is_path(text: str) -> bool:
    looks = text.startswith((".", "/", "~")) or (text.endswith(_SUFFIXES) and ":" not in text)
    return looks or os.path.exists(text)  # noqa: PTH110 - Path.exists raises for a name that is too long


def _unknown(text: str, zoo: Zoo) -> UsageError:
    if any(c in text for c in "*?["):
        found = zoo.matching(text)
        return UsageError(f"{text!r} is a pattern, and names {len(found)} models; give one name",
                          next=f"zooconv list '{text}'")
    longer = [m.name for m in zoo.models if any(n.startswith((f"{text}_", f"{text}.")) for n in m.names)]
    if len(longer) > 1:
        return UsageError(f"{text!r} could be any of {len(longer)} models, with different weights",
                          why=longer[:30], next=f"zooconv fetch-convert {longer[0]}")
    import difflib

    known = [name for model in zoo.models for name in model.names]
    near = longer or difflib.get_close_matches(text, known, 3)
    return UsageError(f"there is no model {text!r}", why=[f"did you mean {name}?" for name in near],
                      next=f"zooconv show {near[0]}" if near else "zooconv list  (or give owner/repo, or a file)")
