"""--locked: the registry says what comes in and what must come out; all else is refused, and nothing is written."""

from __future__ import annotations

import json

import pytest
from support import SMALL, files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM

from zooconv import CheckFailed, convert, fetch_convert
from zooconv.names import resolve
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.registry import update
from zooconv.testing.checkpoints import random_weights, save_pth, save_safetensors, spelled
from zooconv.testing.hub import Blob
from zooconv.zoo import zoo

REPO, NAME = "timm/convnext_tiny.fb_in22k", "convnext_tiny_22k"
QUIET = {"load_check": False, "report": False}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Two releases of one model, of other random weights."""
    folder = tmp_path_factory.mktemp("releases")
    arrays = spelled(TIMM, random_weights(FAMILY, SMALL))
    other = arrays | {"head.norm.bias": arrays["head.norm.bias"] + 1}
    return [save_safetensors(folder / f"{i}.safetensors", held) for i, held in enumerate((arrays, other))]


@pytest.fixture
def hub(local_hub, releases):
    local_hub.add(REPO, {"model.safetensors": releases[0]})
    return local_hub


@pytest.fixture
def pinned(hub, hub_client, work):
    """What a first conversion recorded; its file is gone since."""
    done = fetch_convert(NAME, hub=hub_client, **QUIET)
    content = done.path.read_bytes()
    for path in (work / "weights").iterdir():
        path.unlink()
    return content


def test_the_recorded_commit_is_what_is_fetched_and_the_same_bytes_come_out(hub, hub_client, releases, pinned, work):
    before = (work / "registry.json").read_bytes()
    hub.add(REPO, {"model.safetensors": releases[1]})  # main moves on
    done = fetch_convert(NAME, hub=hub_client, locked=True, **QUIET)
    assert done.path.read_bytes() == pinned
    assert (work / "registry.json").read_bytes() == before
    assert fetch_convert(NAME, hub=hub_client, force=True, **QUIET).path.read_bytes() != pinned  # as without it


def refused(word, work, typed=NAME, *, hub, **options):
    """It is refused for this reason, and the disk is as it was."""
    before = (files_in(work), files_in(work / "weights"), (work / "registry.json").read_bytes())
    with pytest.raises(CheckFailed, match=word) as caught:
        run(resolve(typed, zoo()), Options(locked=True, **QUIET, **options), hub=hub)
    assert (files_in(work), files_in(work / "weights"), (work / "registry.json").read_bytes()) == before
    assert caught.value.exit_code == 1
    return caught.value


def test_what_has_no_record_is_refused_with_the_command_that_pins_it(hub, hub_client, pinned, work):
    error = refused("is not pinned: registry.json has no record", work, hub=hub_client, layout="fpn")
    assert error.next == f"zooconv fetch-convert {NAME} --layout fpn"
    requests = len(hub.requests)
    refused("is not pinned", work, hub=hub_client, layout="kmax")
    assert len(hub.requests) == requests


def test_a_commit_that_now_holds_other_bytes_is_refused(hub, hub_client, releases, pinned, work):
    """A hub, or a mirror of one, that rewrites history: what it says and what it has agree, and are not the pinned."""
    repo = hub.repos[REPO]
    repo.commits[repo.refs["main"]]["model.safetensors"] = Blob.of("model.safetensors", releases[1])
    hub_client.cache = work.parent / "another-cache"
    refused("is not what the registry pins\n  source: ", work, hub=hub_client)


def test_a_commit_that_is_no_more_is_not_replaced_by_main(hub, hub_client, releases, pinned, work):
    from zooconv import SourceUnavailable

    hub.repos[REPO].commits.clear()
    hub.add(REPO, {"model.safetensors": releases[1]})
    hub_client.cache = work.parent / "another-cache"
    with pytest.raises(SourceUnavailable, match="has no revision"):
        fetch_convert(NAME, hub=hub_client, locked=True, **QUIET)


@pytest.mark.parametrize(("place", "value", "word"), [
    (("converter", "rules"), "0" * 64, "rules: recorded 0000"),
    (("converter", "options"), {"fresh": False}, "options: "),
    (("output", "files", 0, "sha256"), "0" * 64, "result: recorded 0000"), (("layout",), "fpn", "layout: recorded fpn"),
    (("output", "certificate"), "0" * 64, "certificate: recorded 0000"),
    (("source", "files", 0, "sha256"), "0" * 64, "source: "),
    (("source", "repo"), "timm/other", "source: recorded timm/o"),
    (("source", "revision"), "0" * 40, None),
])
def test_a_record_of_anything_else_is_refused(hub, hub_client, pinned, work, place, value, word):
    table = json.loads((work / "registry.json").read_text())
    inside = table["artifacts"][f"{NAME}/d2"]
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    (work / "registry.json").write_text(json.dumps(table))
    if word:
        refused(word, work, hub=hub_client)
    else:
        with pytest.raises(Exception, match="has no revision '0000"):
            fetch_convert(NAME, hub=hub_client, locked=True, **QUIET)


def test_another_repository_or_commit_of_that_name_is_refused(hub, hub_client, releases, pinned, work):
    hub.add("someone/else", {"model.safetensors": releases[0]})
    refused("source: recorded timm/", work, "someone/else", hub=hub_client, name=NAME)
    second = hub.add(REPO, {"model.safetensors": releases[1]})
    refused("commit: recorded ", work, f"{REPO}@{second}", hub=hub_client, name=NAME)


def test_a_file_is_held_to_its_record_too(source, official, work):
    convert(source, **QUIET)
    assert convert(source, locked=True, **QUIET)
    before = (work / "small_d2.pth").read_bytes()
    save_pth(source, official | {"norm.bias": official["norm.bias"] + 1})
    with pytest.raises(CheckFailed, match="source: recorded "):
        convert(source, locked=True, **QUIET)
    assert (work / "small_d2.pth").read_bytes() == before


def test_by_the_command_line_locked_refuses_and_a_dry_run_does_too(source, zooconv, work):
    for more in ((), ("--dry-run",)):
        done = zooconv("convert", source, "--locked", *more)
        assert (done.code, f"next: zooconv convert {source} --layout d2" in done.err) == (1, True)
    convert(source, **QUIET)
    update(work / "registry.json", lambda registry: registry.put("small/d2", registry.records["small/d2"].model_copy(
        update={"converter": registry.records["small/d2"].converter.model_copy(update={"rules": "0" * 64})})))
    done = zooconv("convert", source, "--locked", "--dry-run", "--json")
    assert (done.code, done.json["error"]["kind"]) == (1, "CheckFailed")
