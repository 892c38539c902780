"""The Hugging Face hub behind one door.

huggingface_hub is the transport: its cache, its tokens, its HF_* environment. What it leaves open is done here: a
revision becomes a commit before anything else; the bytes that arrived are compared with the digest that the hub states
for them, because the client compares only their number; a broken transfer is tried again; and every failure says what
it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zooconv.checkpoint.shards import read_index
from zooconv.digest import FileDigest, file_sha256
from zooconv.errors import AuthRequired, SourceUnavailable, WrongBytes, ZooError
from zooconv.files import InputFile
from zooconv.names import HubSource

T = TypeVar("T")
TRIES = 5
_COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a git blob id, or an LFS file's SHA-256
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pkl", ".npz", ".h5")
# What a system says of a folder that is not ours to write to, or is none.
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class Fetched:
    """Files of one commit or address, on disk and verified.

    `path` is the one to open, `license` what the repository states, `passed` why other places were passed over. With a
    `transfer`, they are not on disk, `path` is only their name, and their SHA-256 is as stated, and was not checked.
    """

    path: Path
    repo: str | None
    revision: str | None
    files: tuple[FileDigest, ...]
    license: str | None = None
    url: str | None = None
    passed: tuple[str, ...] = ()
    transfer: Transfer | None = None

    @property
    def origin(self) -> dict[str, str]:
        """Where they are from: `repo` and `revision`, or `url`."""
        place = {"repo": self.repo, "revision": self.revision, "url": self.url}
        return {key: value for key, value in place.items() if value is not None}

    @property
    def data(self) -> dict[str, Any]:
        """The same, and how much was `fetched`, where that was not all."""
        return self.origin | ({"fetched": asdict(self.transfer)} if self.transfer else {})

    def __str__(self) -> str:
        return self.url or f"{self.repo} @ {self.revision}"


@dataclass
class Transfer:
    """What came by ranges: how many bytes, of how many. Whole files have their digest checked, these have it stated."""

    received: int = 0
    size: int = 0


@dataclass(frozen=True)
class Listing:
    """What a commit holds: its files, with the digest that the hub states for each (None: it is in the cache)."""

    commit: str
    digests: dict[str, str | None]
    license: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)


class Hub:
    """A hub, the public one by default. `endpoint` and `cache` are HF_ENDPOINT and HF_HUB_CACHE unless given."""

    def __init__(self, endpoint: str | None = None, cache: Path | None = None, *, progress: bool = False) -> None:
        self.endpoint, self.cache, self.progress = endpoint, cache, progress

    @property
    def folder(self) -> Path:
        """Its cache."""
        from huggingface_hub import constants

        return Path(self.cache or constants.HF_HUB_CACHE)

    def fetch(self, source: HubSource) -> Fetched:
        """Have a source's files on disk, and prove that they are what the hub says.

        Raises SourceUnavailable where the repository, the revision or the file cannot be had, or arrives wrong twice;
        AuthRequired where it is not for this user; ZooError where the disk is full.
        """
        from huggingface_hub import constants

        with plain_errors(source), self._progress():
            listing = self._offline(source) if constants.HF_HUB_OFFLINE else self._online(source)
            chosen = chosen_file(source, listing)
            path, digest = self._verified(source.repo, chosen, listing)
            digests = [digest]
            if chosen.endswith(".index.json"):
                with InputFile(path) as index:
                    shards = sorted(set(read_index(index).values()))
                digests += [self._verified(source.repo, shard, listing)[1] for shard in shards]
            self._remember(source, listing)
        return Fetched(path, source.repo, listing.commit, tuple(digests), listing.license)

    def look(self, source: HubSource) -> Listing:
        """What a source's commit holds, without its bytes. Raises SourceUnavailable or AuthRequired as `fetch` does."""
        from huggingface_hub import constants

        with plain_errors(source):
            return self._offline(source) if constants.HF_HUB_OFFLINE else self._online(source)

    def is_cached(self, source: HubSource) -> bool:
        """Does the cache hold one of a source's files? The hub is not asked."""
        from huggingface_hub import try_to_load_from_cache

        return any(isinstance(try_to_load_from_cache(source.repo, name, cache_dir=self.cache, revision=source.revision),
                              str) for name in source.files)

    def forget(self, fetched: Fetched) -> None:
        """Remove what was fetched from the cache."""
        snapshot = fetched.path.parents[fetched.files[0].file.count("/")]
        for file in fetched.files:
            _remove(snapshot / file.file)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _online(self, source: HubSource) -> Listing:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint)
        info = retried(lambda: api.model_info(source.repo, revision=source.revision, files_metadata=True))
        if not _COMMIT.fullmatch(info.sha or ""):
            raise SourceUnavailable(f"the hub did not say which commit {source.revision} of {source.repo} is")
        digests = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in info.siblings or ()}
        stated = info.card_data.get("license") if info.card_data else None
        sizes = {s.rfilename: s.size for s in info.siblings or () if s.size is not None}
        return Listing(info.sha or "", dict(digests), stated if isinstance(stated, str) else None, sizes)

    def _offline(self, source: HubSource) -> Listing:
        from huggingface_hub import try_to_load_from_cache

        for name in source.files:
            path = try_to_load_from_cache(source.repo, name, cache_dir=self.cache, revision=source.revision)
            if isinstance(path, str):
                snapshot = Path(path).parents[name.count("/")]  # …/snapshots/<commit>
                return Listing(snapshot.name, {str(p.relative_to(snapshot)): None for p in snapshot.rglob("*")})
        raise SourceUnavailable(f"{source.repo} is not in the cache, and the hub client is offline (HF_HUB_OFFLINE)",
                                why=[f"looked for {', '.join(source.files)} at {source.revision}"],
                                next="run it once with a network, or unset HF_HUB_OFFLINE")

    def _remember(self, source: HubSource, listing: Listing) -> None:
        """Note in the cache which commit a branch was, as the client does when it is asked for the branch itself.

        It was asked for the commit, and would not know the branch offline. Layout of the cache:
        https://huggingface.co/docs/huggingface_hub/guides/manage-cache
        """
        folder = self.folder / f"models--{source.repo.replace('/', '--')}" / "refs"
        note = folder / source.revision
        if not _COMMIT.fullmatch(source.revision) and note.resolve().is_relative_to(folder.resolve()):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(listing.commit)

    # -- one file ----------------------------------------------------------------------------------------------------

    def _verified(self, repo: str, name: str, listing: Listing) -> tuple[Path, FileDigest]:
        """A file's path and digest. A file that is wrong is fetched once more; wrong again, it is removed."""
        if name not in listing.digests:
            raise SourceUnavailable(f"{repo} has no file {name}, though its index names it",
                                    why=[f"at commit {listing.commit}"])
        online = listing.digests[name] is not None
        for force in (False, True) if online else (False,):
            path = self._download(repo, name, listing, force=force)
            found = file_sha256(path)
            stated = listing.digests[name] or _blob_name(path)
            if stated is not None and stated in (found.sha256, _git_blob(path, stated)):
                return path, FileDigest(name, found.size, found.sha256)
            _remove(path)
        raise (WrongBytes if online else SourceUnavailable)(
            f"{name} of {repo} is not what the hub says it is" if online else f"the cached {name} of {repo} is damaged",
            why=[f"stated  {stated or 'nothing'}", f"arrived {found.sha256} ({found.size:,} bytes)",
                 "it came like this twice; nothing was kept" if online else "it was removed from the cache"],
            next="try again later, or another mirror (HF_ENDPOINT)" if online else "unset HF_HUB_OFFLINE, fetch again")

    def _download(self, repo: str, name: str, listing: Listing, *, force: bool) -> Path:
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

        have = try_to_load_from_cache(repo, name, cache_dir=self.cache, revision=listing.commit)
        if isinstance(have, str) and not force:
            return Path(have)
        if not constants.HF_HUB_OFFLINE:
            # The client builds a path of this header, whatever it holds: look at it first.
            url = hf_hub_url(repo, name, revision=listing.commit, endpoint=self.endpoint)
            etag = retried(lambda: get_hf_file_metadata(url, endpoint=self.endpoint)).etag
            if not DIGEST.fullmatch(etag or ""):
                raise SourceUnavailable(f"the hub's answer for {name} of {repo} is malformed: its ETag is {etag!r:.80}",
                                        next="check HF_ENDPOINT: is it a hub that you trust?")
        return Path(retried(lambda: hf_hub_download(repo, name, revision=listing.commit, cache_dir=self.cache,
                                                     endpoint=self.endpoint, force_download=force)))

    @contextmanager
    def _progress(self) -> Iterator[None]:
        """The client's own progress bars, on a terminal only."""
        from huggingface_hub import utils

        bars: Any = utils
        before = bars.are_progress_bars_disabled()
        if not (self.progress and sys.stderr.isatty()):
            bars.disable_progress_bars()
        try:
            yield
        finally:
            if not before:
                bars.enable_progress_bars()


def _git_blob(path: Path, stated: str) -> str | None:
    """A small file's git blob id, where that is what the hub stated for it."""
    if len(stated) != 40:
        return None
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _blob_name(path: Path) -> str | None:
    """The digest by which the client's cache named a blob when it arrived: all that is known offline."""
    name = Path(os.path.realpath(path)).name
    return name if DIGEST.fullmatch(name) else None


def _remove(path: Path) -> None:
    for part in {Path(os.path.realpath(path)), path}:
        with suppress(FileNotFoundError):
            part.unlink()


def retried(ask: Callable[[], T]) -> T:
    """The answer of `ask`, which is tried again where the hub or the network broke down: 5xx, 429, resets."""
    from huggingface_hub import errors

    for attempt in range(TRIES):
        try:
            return ask()
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if attempt + 1 == TRIES or not (status >= 500 or status == 429):
                raise
            wait = float(error.response.headers.get("Retry-After") or 0)
        except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
            raise
        except (errors.HTTPError, ConnectionError):  # type: ignore[attr-defined]
            if attempt + 1 == TRIES:
                raise
            wait = 0
        pause(min(max(wait, 0.5 * 2**attempt), 60))
    raise AssertionError("unreachable")


def pause(seconds: float) -> None:
    time.sleep(seconds)


@contextmanager
def plain_errors(source: HubSource) -> Iterator[None]:  # noqa: C901 - a table of the client's errors
    """The client's exceptions, in plain words."""
    from huggingface_hub import errors

    repo = source.repo
    try:
        yield
    except ZooError:
        raise
    except errors.GatedRepoError as error:
        raise AuthRequired(f"{repo} is gated: its owners want you to accept their terms first",
                           why=[_said(error)],
                           next=f"accept at https://huggingface.co/{repo}, then: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise SourceUnavailable(f"{repo} has no revision {source.revision!r}",
                                next=f"leave it out for the main branch: zooconv fetch-convert {repo}") from None
    except errors.DisabledRepoError:
        raise SourceUnavailable(f"{repo} has been disabled on the hub") from None
    except errors.RepositoryNotFoundError:
        raise SourceUnavailable(f"the hub has no repository {repo}, or it is private and you are not logged in",
                                next="check the spelling; for a private one: hf auth login") from None
    except errors.EntryNotFoundError as error:
        raise _unreachable(repo, error.__cause__ or error) from None
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise AuthRequired(f"the hub refuses access to {repo}", why=[_said(error)], next="hf auth login") from None
        raise _unreachable(repo, error) from None
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ZooError(f"no room on the disk for the files of {repo}",
                           next="free some space, or move the cache: HF_HUB_CACHE=/big/disk") from None
        if isinstance(error, OSError) and error.errno in _CLOSED:
            raise ZooError(f"the hub's cache cannot be written: {error.strerror}", why=[str(error.filename)],
                           next="choose a folder of yours: HF_HUB_CACHE=/a/folder") from None
        raise _unreachable(repo, error) from None


def _unreachable(repo: str, error: BaseException) -> SourceUnavailable:
    return SourceUnavailable(f"{repo} cannot be had from the hub", why=[f"{type(error).__name__}: {_said(error)}"],
                             next="try again later; with a cached copy: HF_HUB_OFFLINE=1")


def _said(error: BaseException) -> str:
    text = str(getattr(error, "server_message", None) or error).strip()
    return text.splitlines()[0][:300] if text else "no reason given"


def chosen_file(source: HubSource, listing: Listing) -> str:
    """The file of a commit that a source means. Raises SourceUnavailable, naming what there is."""
    for name in source.files:
        if name in listing.digests:
            return name
    has = [name for kind in _WEIGHTS for name in sorted(listing.digests) if name.endswith(kind)]
    first = f"zooconv fetch-convert {source.repo}:{has[0]}" if has else "look for another repository"
    raise SourceUnavailable(f"{source.repo} has none of: {', '.join(source.files)}",
                            why=[f"it has {name}" for name in has[:12]] or ["it holds no weights"], next=first)
