"""What a user typed, and the source that it means.

    convnext_tiny_22k[@revision]           a name of the zoo, or one of its aliases
    timm/convnext_tiny.fb_in22k            a repository on the hub: owner/repo[@revision][:file]
    https://…/resnet50-0676ba61.pth        an address, with digits of the SHA-256 in its name or behind it: #sha256=…
    ./convnext_tiny_22k_1k_224.pth         a file
    zoo://convnext_tiny_22k                the same; with a layout and options, an artifact (see zooconv.address)

A name that could mean several models is refused, with the choices.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from zooconv.address import SCHEME, parse
from zooconv.digest import digest_in
from zooconv.errors import UsageError
from zooconv.zoo import HUB, PART, Model, Zoo

# A page that a browser shows of a repository.
_PAGE = re.compile(rf"https://huggingface\.co/({PART}/{PART})/?(?:(?:tree|blob|resolve)/([^/?#]+)(?:/([^?#]+))?)?",
                   re.ASCII)
# What a hub repository is searched for, in this order: the format that cannot hold code comes first.
FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
NEAR = 8  # how many names are offered for one that is unknown
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".pkl", ".ckpt", ".npz", ".json")


@dataclass(frozen=True)
class LocalSource:
    """A file on disk. `name` is what its artifacts are called after."""

    path: Path
    name: str
    model: Model | None = None


@dataclass(frozen=True)
class HubSource:
    """Files of a repository on the hub; the first of `files` that it has is meant.

    `sha256` is what it must have, if that is said: all 64 digits or the first ones. `mirrors` have the same bytes.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    name: str
    model: Model | None = None
    sha256: str = ""
    mirrors: tuple[HubSource | UrlSource, ...] = ()

    @property
    def address(self) -> str:
        return self.repo


@dataclass(frozen=True)
class UrlSource:
    """A file at an https address. `sha256` is what it must have, all 64 digits or the first ones."""

    url: str
    sha256: str
    name: str
    model: Model | None = None
    mirrors: tuple[HubSource | UrlSource, ...] = ()

    @property
    def address(self) -> str:
        return self.url


Source = LocalSource | HubSource | UrlSource


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
        return _source_of(model, revision)
    if text.startswith(("https://", "http://")):
        return _address(text, zoo)
    if _is_path(text):
        return local(text)
    if reason := zoo.refusal(text):
        raise UsageError(f"{text} is refused: {reason}", next="zooconv list  (shows what has)")
    if hub := HUB.fullmatch(text):
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


def _source_of(model: Model, revision: str) -> HubSource | UrlSource:
    mirrors = tuple(_mirror(text, model) for text in model.mirrors)
    if model.url and not revision:
        return UrlSource(model.url, model.promised, model.name, model, mirrors)
    if model.url:
        raise UsageError(f"{model.name} has no revisions: it is one file, at {model.url}", next=model.name)
    if not model.repo:
        raise UsageError(f"{model.name} cannot be fetched: {model.note}",
                         next=f"download it, then zooconv convert FILE --layout {model.layouts[0]}")
    return HubSource(model.repo, revision or model.revision, model.files or FILES, model.name, model,
                     "" if revision else model.sha256, () if revision else mirrors)


def _mirror(text: str, model: Model) -> HubSource | UrlSource:
    if text.startswith("https://"):
        return UrlSource(text, model.promised, model.name, model)
    hub = HUB.fullmatch(text)
    assert hub is not None  # the zoo has looked at it
    repo, revision, file = hub.groups()
    return HubSource(repo, revision or "main", (file,) if file else FILES, model.name, model, model.promised)


def _address(text: str, zoo: Zoo) -> UrlSource:
    """An address that somebody typed, with its digest: in its fragment, as pip has it, or in its name."""
    url, _, fragment = text.partition("#")
    if not url.startswith("https://"):
        raise UsageError(f"{url:.200} is no https address", next=f"https{url.removeprefix('http')}")
    file = url.partition("?")[0].rsplit("/", 1)[-1]
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*", file):
        raise UsageError(f"{url:.200} ends in no name of a file", next="download it, then: zooconv convert FILE")
    given = re.fullmatch(r"sha256=([0-9a-f]{8,64})", fragment)
    digest = given[1] if given else None if fragment else digest_in(file)
    if digest is None and (page := _PAGE.fullmatch(url)):
        repo, revision, inside = page.groups()
        meant = repo + (f"@{revision}" if revision else "") + (f":{inside}" if inside else "")
        raise UsageError(f"{url:.200} is a repository's page; the repository has a name",
                         next=f"zooconv fetch-convert {meant}")
    if digest is None:
        raise UsageError(f"nothing says what {url:.200} must be",
                         why=["neither its name nor what stands behind it has digits of its SHA-256"],
                         next=f"zooconv fetch-convert '{url}#sha256=…'")
    model = zoo.find(url)
    return UrlSource(url, digest, model.name if model else artifact_name(Path(file).stem), model)


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
                          why=longer[:30], next=f"zooconv list '{text}*'  (their sizes and licences; then name one)")
    near = longer or near_names(text, zoo)
    return UsageError(f"there is no model {text!r}", why=[f"did you mean {name}?" for name in near],
                      next=f"zooconv show {near[0]}" if near else "zooconv list  (or give owner/repo, or a file)")


def near_names(text: str, zoo: Zoo) -> list[str]:
    """The few names that `text` may have meant: an abbreviation of them, or else nearly theirs, in any case.

    Each part of an abbreviation begins a part of the name: `Swin-L` is swin_large_patch4_window7_224_22k, and others.
    """
    import difflib

    parts = _parts(text)
    short = [name for model in zoo.models for name in model.names if "/" not in name and _abbreviates(parts, name)]
    if short:
        own = {name: model.name for model in zoo.models for name in model.names}
        return [*dict.fromkeys(own[name] for name in sorted(short, key=lambda name: _parts(name) != parts))][:NEAR]
    known = {name.lower(): name for model in zoo.models for name in model.names}
    return [known[name] for name in difflib.get_close_matches(text.lower(), known, 3)]


def _abbreviates(parts: list[str], name: str) -> bool:
    whole = _parts(name)
    return len(whole) >= len(parts) > 1 and all(map(str.startswith, whole, parts))


def _parts(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())
