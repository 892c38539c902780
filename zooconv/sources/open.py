"""A source, open: a file that is here, one that is fetched, or one that is read where it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from zooconv.checkpoint.open import Checkpoint, OnlyWhole, open_checkpoint
from zooconv.names import HubSource, LocalSource, Source, UrlSource

if TYPE_CHECKING:
    from zooconv.hub import Fetched, Hub
    from zooconv.sources.ranged import RemoteFile


def open_source(source: Source, hub: Hub | None = None, *, ema: bool | None = None, key: str | None = None,
                ranged: bool = False, must: bool = False) -> tuple[Fetched | None, Checkpoint]:
    """A source's checkpoint, open, and what was fetched of it; None where it is local.

    `ranged` reads it where it is, unless it is kept already, by ranges: of a file of torch or of safetensors, only the
    headers come. Where that cannot be, it is fetched whole, or refused if it `must` be. Raises as `fetch_source` and
    `open_checkpoint` do.
    """
    opened = partial(open_checkpoint, ema=ema, key=key)
    if isinstance(source, LocalSource):
        return None, opened(source.path)
    from zooconv.sources.fetch import fetch_source, first_place, must_be_promised
    from zooconv.sources.remote import NoRanges

    def read(place: HubSource | UrlSource) -> tuple[Fetched, Checkpoint] | None:
        file = _reach(place, hub)
        if file is None:
            return None
        checkpoint = opened(file)
        got = file.remote.fetched(checkpoint.files)
        must_be_promised(place, got)
        return got, checkpoint

    if ranged:
        try:
            found, passed = first_place(source, read)
        except (OnlyWhole, NoRanges):
            if must:
                raise
        else:
            if found:
                return replace(found[0], passed=passed), found[1]
    fetched = fetch_source(source, hub)
    return fetched, opened(fetched.path)


def _reach(place: HubSource | UrlSource, hub: Hub | None) -> RemoteFile | None:
    """A place's file, to be read by ranges; None where it is kept already, or the client is offline."""
    from huggingface_hub import constants

    from zooconv.hub import Hub
    from zooconv.sources.hub_ranges import reach_hub
    from zooconv.sources.web_ranges import reach_url

    if constants.HF_HUB_OFFLINE:
        return None
    return reach_hub(place, hub or Hub()) if isinstance(place, HubSource) else reach_url(place)
