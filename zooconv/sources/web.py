"""Files at plain https addresses: official releases that are on no hub.

Nothing there says what the bytes must be, so a source does: a SHA-256, or the first digits of one, as the names of
torch's own files have them. Bytes that are something else twice are thrown away. Only https is spoken, on the way of
every redirection; the certificate is checked by huggingface_hub's client, which also knows proxies and HF_HUB_OFFLINE.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from zooconv import settings
from zooconv.atomic import Draft, cannot_write, drafting, locked
from zooconv.digest import FileDigest, file_sha256
from zooconv.errors import AuthRequired, SourceUnavailable, WrongBytes
from zooconv.hub import Fetched, retried
from zooconv.names import UrlSource

REDIRECTS = 5
MOST = 64_000_000_000  # no published backbone comes near it; an address that never ends does not fill the disk
_TIMEOUT = 30


def fetch_url(source: UrlSource, *, progress: bool = False) -> Fetched:
    """Have the file of an address in the cache, and prove that it is the one that is meant.

    Raises SourceUnavailable where it cannot be had, WrongBytes where it is another one twice, AuthRequired where it is
    not for everybody.
    """
    path = kept_at(source)
    with locked(path.with_name(f"{path.name}.wanted")):
        digest = _cached(path, source) or _downloaded(path, source, progress)
    return Fetched(path, None, None, (digest,), url=source.url)


def kept_at(source: UrlSource) -> Path:
    """Where the file lies in the cache: under its name, in a folder by the first digits of its SHA-256."""
    return settings.cache_path() / "sources" / source.sha256[:8] / file_name(source.url)


def file_name(url: str) -> str:
    """What an address calls its file."""
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def _cached(path: Path, source: UrlSource) -> FileDigest | None:
    if not path.is_file():
        return None
    found = file_sha256(path)
    return found if found.sha256.startswith(source.sha256) else None


def _downloaded(path: Path, source: UrlSource, progress: bool) -> FileDigest:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise SourceUnavailable(f"{source.url} is not in the cache, or damaged there",
                                why=["the client is offline (HF_HUB_OFFLINE)"],
                                next="run it once with a network, or unset HF_HUB_OFFLINE")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path.parent, error) from None
    for _ in range(2):
        with drafting(path) as draft:
            found = _into(draft, source, progress)
            if found.sha256.startswith(source.sha256):
                draft.commit()
                return found
    promised = source.sha256 + ("…" if len(source.sha256) < 64 else "")
    raise WrongBytes(f"{source.url} is not what it should be",
                     why=[f"promised sha256 {promised}", f"arrived  sha256 {found.sha256} ({found.size:,} bytes)",
                          "it came like this twice; nothing was kept"], next="ask where you have the digest from")


def _into(draft: Draft, source: UrlSource, progress: bool) -> FileDigest:
    """Download into a draft, from the start again where the connection breaks."""
    with plain_errors(source):
        return retried(lambda: _once(draft, source, progress))


def _once(draft: Draft, source: UrlSource, progress: bool) -> FileDigest:
    from huggingface_hub import utils

    bars: Any = utils
    draft.restart()
    digest, size = hashlib.sha256(), 0
    with opened(source.url) as response:
        total = int(response.headers.get("Content-Length") or 0)
        bounded(source, total)
        with bars.tqdm(total=total or None, unit="B", unit_scale=True, desc=draft.target.name,
                       disable=not (progress and sys.stderr.isatty())) as bar:
            for piece in response.iter_bytes():  # of its own size: asked for another, it would hold pieces back
                size += len(piece)
                bounded(source, size)
                digest.update(piece)
                draft.write(piece)
                bar.update(len(piece))
    return FileDigest(draft.target.name, size, digest.hexdigest())


@contextmanager
def opened(url: str, **headers: str) -> Iterator[Any]:
    """The answer of an address, redirected as often as it likes within reason, to https only."""
    from huggingface_hub import utils

    client: Any = utils
    for _ in range(REDIRECTS):
        if not url.startswith("https://"):
            raise SourceUnavailable(f"the way leads to {url:.200}, which is not https")
        with client.get_session().stream("GET", url, headers={"Accept-Encoding": "identity", **headers},
                                         timeout=_TIMEOUT, follow_redirects=False) as response:
            if not response.has_redirect_location:
                client.hf_raise_for_status(response)
                yield response
                return
            url = urljoin(url, response.headers["Location"])
    raise SourceUnavailable(f"the address redirects more than {REDIRECTS} times, at last to {url:.200}")


def bounded(source: UrlSource, size: int) -> None:
    """Raise WrongBytes for a file of more bytes than it can have."""
    model = source.model
    most = round(model.mb * 1.1e6) + 1_000_000 if model else MOST
    if size > most:
        raise WrongBytes(f"{source.url} is longer than it should be", why=[f"it should have {most:,} bytes at most"])


@contextmanager
def plain_errors(source: UrlSource) -> Iterator[None]:
    """The client's exceptions, in plain words."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        kind = AuthRequired if status in (401, 403) else SourceUnavailable
        raise kind(f"{source.url} cannot be had: the server answers {status}") from None
    except (errors.HTTPError, ConnectionError) as error:  # type: ignore[attr-defined]
        raise SourceUnavailable(f"{source.url} cannot be had", why=[f"{type(error).__name__}: {error}".splitlines()[0]],
                                next="try again later") from None
