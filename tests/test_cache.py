"""What is kept of fetched sources: listed, hashed again, and removed; and nothing of anyone else's is touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import huggingface_hub
import pytest
from support import DATA

from zooconv import UsageError
from zooconv.hub import Hub
from zooconv.names import HubSource, UrlSource
from zooconv.sources.cache import damaged, kept, prune, to_prune
from zooconv.sources.fetch import fetch_source
from zooconv.testing.hub import Blob, LocalHub

DAY = 86_400


@pytest.fixture
def client(work, monkeypatch):
    """A client of a hub and an https host; its caches are in the working folder."""
    monkeypatch.setenv("SSL_CERT_FILE", str(DATA / "localhost.pem"))
    monkeypatch.setenv("ZOOCONV_CACHE", str(work / "own"))
    huggingface_hub.close_session()
    with LocalHub(DATA / "localhost.pem") as hub:
        client = Hub(hub.url, work / "hub")
        client.served = hub
        yield client
    huggingface_hub.close_session()


def had(client, repo="a/x", content=b"x" * 1000, days=0, file="model.safetensors"):
    """Fetch a file of a repository, last read so many days ago."""
    client.served.add(repo, {file: content})
    return aged(fetch_source(HubSource(repo, "main", (file,), "x"), client), days)


def had_by_address(client, content=b"w" * 3000, days=0):
    url = client.served.put("/w.pth", content)
    return aged(fetch_source(UrlSource(url, Blob.of("w.pth", content).sha256, "w"), client), days)


def aged(got, days):
    then = time.time() - days * DAY
    os.utime(got.path.resolve(), (then, then))
    return got


def others(client, repo, file, content=b"theirs"):
    """What somebody fetched with huggingface_hub alone."""
    client.served.add(repo, {file: content})
    return huggingface_hub.hf_hub_download(repo, file, cache_dir=client.cache, endpoint=client.endpoint)


def chosen(*names, **how):
    return [one.name for one in to_prune(names, now=time.time(), **how)]


def test_what_was_fetched_is_listed_last_used_first_with_size_and_revision(client):
    got = had(client, days=3)
    web = had_by_address(client, days=1)
    others(client, "b/theirs", "config.json")
    first, second = kept()
    assert (first.name, first.size, first.where) == (web.url, 3000, web.url)
    assert (second.name, second.size, second.where) == ("a/x", 1000, f"a/x@{got.revision}")
    assert [round((time.time() - one.used) / DAY) for one in (first, second)] == [1, 3]


def test_a_model_of_the_zoo_is_called_by_its_name(client):
    had(client, "timm/convnext_tiny.fb_in22k")
    assert [one.name for one in kept()] == ["convnext_tiny_22k"]


def test_what_is_removed_otherwise_is_listed_no_more(client):
    got = had(client)
    huggingface_hub.scan_cache_dir(client.cache).delete_revisions(got.revision).execute()
    had_by_address(client).path.unlink()
    assert kept() == []


def test_files_of_one_commit_are_listed_together(client):
    client.served.add("a/x", {"one.pth": b"1" * 10, "two.pth": b"2" * 20})
    for file in ("one.pth", "two.pth"):
        fetch_source(HubSource("a/x", "main", (file,), "x"), client)
    (one,) = kept()
    assert (one.size, sorted(path.name for path in one.files), one.foreign) == (30, ["one.pth", "two.pth"], ())


# -- verify ------------------------------------------------------------------------------------------------------------


def test_damage_is_found_without_a_network_and_mended_by_the_next_fetch(client):
    sound, bad, web = had(client, "a/sound"), had(client, "a/bad", b"y" * 1000), had_by_address(client)
    assert list(damaged()) == []
    for got in (bad, web):
        got.path.resolve().write_bytes(b"z" * 1000)
    requests = len(client.served.requests)
    assert {one.name for one in damaged()} == {"a/bad", web.url}
    assert list(damaged(["a/sound"])) == []
    assert len(client.served.requests) == requests
    had(client, "a/bad", b"y" * 1000)
    had_by_address(client)
    assert list(damaged()) == []
    assert sound.path.exists()


# -- prune -------------------------------------------------------------------------------------------------------------


def test_what_goes_is_chosen_by_name_age_and_size(client):
    had(client, "a/old", b"o" * 1000, days=40)
    had(client, "a/new", b"n" * 1000)
    web = had_by_address(client, days=10).url
    assert chosen("a/*") == ["a/old", "a/new"]
    assert chosen(older_than=30) == ["a/old"]
    assert chosen(older_than=5) == ["a/old", web]
    assert chosen("a/new", older_than=5) == []
    assert chosen(max_size=5000) == []
    assert chosen(max_size=4999) == ["a/old"]
    assert chosen(max_size=0) == ["a/old", web, "a/new"]
    assert chosen(older_than=30, max_size=0) == ["a/old"]


def test_what_goes_is_gone_and_the_rest_is_as_it_was(client, work):
    old, new, web = had(client, "a/old", b"o" * 1000), had(client, "a/new"), had_by_address(client)
    theirs = others(client, "b/theirs", "config.json")
    assert prune(to_prune(["a/old"], now=0)) == 1000
    assert not old.path.exists()
    assert prune(to_prune([web.url], now=0)) == 3000
    assert not web.path.exists()
    assert [one.name for one in kept()] == ["a/new"]
    assert new.path.exists()
    assert Path(theirs).read_text() == "theirs"
    assert not (work / "hub" / "models--a--old").exists()


def test_what_others_have_fetched_is_never_removed(client):
    theirs = others(client, "b/theirs", "model.safetensors")
    with pytest.raises(UsageError, match="zooconv has fetched no 'b/theirs'"):
        to_prune(["b/theirs"], now=0)
    client.served.add("a/both", {"config.json": b"{}", "model.safetensors": b"x"})
    mine = fetch_source(HubSource("a/both", "main", ("model.safetensors",), "x"), client)
    others(client, "a/both", "config.json", b"{}")
    (one,) = to_prune(["a/both"], now=0)
    assert one.foreign == ("config.json",)
    assert prune([one]) == 0
    assert mine.path.exists()
    assert Path(theirs).read_text() == "theirs"


def test_a_note_that_lies_leads_to_no_file_outside(client, work):
    """A note names a place, and never a path to remove."""
    import json

    got = had_by_address(client)
    victim = work / "victim.pth"
    victim.write_bytes(got.path.read_bytes())
    (note,) = (work / "own" / "fetched").iterdir()
    table = json.loads(note.read_text())
    note.write_text(json.dumps(table | {"url": f"https://e.org/..%2f..%2f..%2f..%2f{victim}"}))
    prune(kept())
    assert victim.exists()


def test_by_the_command_line(client, zooconv, work):
    had(client, "a/old", b"o" * 2_000_000, days=40)
    new = had(client, "a/new", b"n" * 1_000_000)
    environment = {"ZOOCONV_CACHE": str(work / "own")}
    listed = zooconv("cache", "ls", env=environment).out.splitlines()
    assert [line.split()[:2] for line in listed] == [["NAME", "MB"], ["a/new", "1.0"], ["a/old", "2.0"]]
    assert zooconv("cache", "prune", env=environment).code == 2
    for more in (("--dry-run",), ()):
        done = zooconv("cache", "prune", "--older-than", "30", *more, "--json", env=environment)
        assert [one["name"] for one in done.json] == ["a/old"]
    assert [one["name"] for one in zooconv("cache", "ls", "--json", env=environment).json] == ["a/new"]
    assert zooconv("cache", "verify", env=environment).code == 0
    new.path.resolve().write_bytes(b"other")
    bad = zooconv("cache", "verify", "-q", env=environment)
    assert (bad.code, bad.out.strip()) == (1, str(new.path))
