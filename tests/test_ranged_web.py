"""Headers of files at https addresses, read by ranges over TLS; and of mirrors, where the first place has nothing."""

from __future__ import annotations

import hashlib
import re

import huggingface_hub
import pytest
from support import DATA, SMALL, files_in
from zooconv_zoo.convnext import FAMILY

from zooconv import AuthRequired, SourceUnavailable, UsageError, fetch_convert, inspect
from zooconv import hub as hub_module
from zooconv.errors import WrongBytes
from zooconv.hub import Hub
from zooconv.names import HubSource, UrlSource
from zooconv.options import Options
from zooconv.pipeline import looking_ahead
from zooconv.sources import web
from zooconv.sources.open import open_source
from zooconv.testing.checkpoints import random_array, random_weights, save_pth, save_safetensors
from zooconv.testing.hub import LocalHub

CERTIFICATE = DATA / "localhost.pem"
HEAD = {"head.weight": (60_000, 16), "head.bias": (60_000,)}  # 4 MB that no layout keeps


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """One release in two containers, of random weights."""
    folder = tmp_path_factory.mktemp("release")
    arrays = random_weights(FAMILY, SMALL) | {n: random_array(n, s) for n, s in HEAD.items()}
    return {"pth": save_pth(folder / "small.pth", arrays),
            "safetensors": save_safetensors(folder / "small.safetensors", arrays)}


@pytest.fixture
def served(work, monkeypatch):
    """A hub and an https host that this process trusts, with a cache of its own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("ZOOCONV_CACHE", str(work / "cache"))
    monkeypatch.setattr(hub_module, "pause", lambda seconds: None)
    huggingface_hub.close_session()
    with LocalHub(CERTIFICATE) as hub:
        yield hub
    huggingface_hub.close_session()


def put(served, path):
    """A release at an address that says its digest."""
    return f"{served.put(f'/{path.name}', path)}#sha256={sha256(path)}"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nothing_kept(work):
    return not [p for p in (work / "cache").rglob("*") if p.is_file()]


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_inspect_of_an_address_fetches_headers_alone(served, releases, work, kind):
    seen = inspect(put(served, releases[kind]))
    assert (seen.data["family"], seen.data["url"]) == ("convnext", f"{served.web}/small.{kind}")
    assert seen.data["fetched"]["received"] < seen.data["fetched"]["size"] / 4 == releases[kind].stat().st_size / 4
    assert served.ranges[0] == "bytes=0-0"
    assert all(served.ranges)
    assert re.match(rf"file +{served.web}/small.{kind}\nfetched +0\.\d of 4\.\d MB, by ranges\n", seen.text)
    assert nothing_kept(work)


def test_redirections_are_followed_to_https_alone_and_no_token_comes_along(served, releases, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    served.put("/moved", put(served, releases["pth"]).partition("#")[0])
    assert inspect(f"{served.web}/moved#sha256={sha256(releases['pth'])}").data["family"] == "convnext"
    served.put("/down", f"{served.cdn}/x.pth")
    with pytest.raises(SourceUnavailable, match="is not https"):
        inspect(f"{served.web}/down#sha256={'0' * 64}")
    assert not served.token_leaked


def test_what_is_kept_of_an_address_is_inspected_whole(served, releases):
    typed = put(served, releases["pth"])
    fetch_convert(typed, load_check=False)
    served.ranges.clear()
    assert inspect(typed).data["canonical"] == inspect(releases["pth"]).data["canonical"]
    assert served.ranges == []


def test_a_server_that_ignores_ranges_is_refused_by_inspect_and_fetched_whole_by_a_dry_run(served, releases, work):
    typed = put(served, releases["pth"])
    served.fault("web GET", whole=True, times=9)
    with pytest.raises(SourceUnavailable, match="cannot be read in part") as caught:
        inspect(typed)
    assert caught.value.next == f"have it whole: zooconv fetch '{typed}'"
    assert nothing_kept(work)
    source = UrlSource(f"{served.web}/small.pth", sha256(releases["pth"]), "small")
    with looking_ahead(source, Options(), headers=True) as preview:
        assert preview.fetched.transfer is None
    assert not nothing_kept(work)


@pytest.mark.parametrize(("first", "then"), [("ETag", "ETag"), ("ETag", "Last-Modified"), ("Last-Modified", "ETag")])
def test_an_address_that_changes_in_between_is_not_read_on(served, releases, work, first, then):
    served.fault("web GET", headers={first: '"1"'})
    served.fault("web GET", headers={then: '"2"'}, times=9)
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        inspect(put(served, releases["pth"]))
    assert nothing_kept(work)


def test_an_address_that_has_another_length_in_between_is_not_read_on(served, releases, work):
    typed = put(served, releases["pth"])
    size = releases["pth"].stat().st_size
    served.fault("web GET", headers={"Content-Range": f"bytes 0-0/{size - 1}"})
    with pytest.raises(SourceUnavailable, match=rf"changed while it was read[^,]*{size - 1} bytes,[^,]*{size} bytes,"):
        inspect(typed)


@pytest.mark.parametrize("fault", [{"status": 503, "times": 2}, {"cut": 1000}, {"reset": True, "cut": 1000}],
                         ids=["503", "cut", "reset"])
def test_a_passing_fault_of_an_address_is_survived(served, releases, fault):
    served.fault("web GET", times=1)
    served.fault("web GET", **fault)
    assert inspect(put(served, releases["safetensors"])).data["family"] == "convnext"


@pytest.mark.parametrize(("fault", "error", "word"), [
    ({"cut": 1000}, SourceUnavailable, "cannot be had"), ({"status": 404}, SourceUnavailable, "answers 404"),
    ({"status": 403}, AuthRequired, "answers 403"), ({"headers": {"Content-Range": ""}}, SourceUnavailable, "ranges"),
], ids=["cut", "404", "403", "no Content-Range"])
def test_a_lasting_fault_of_an_address_is_told(served, releases, work, fault, error, word):
    served.fault("web GET", times=99, **fault)
    with pytest.raises(error, match=word):
        inspect(put(served, releases["pth"]))
    assert nothing_kept(work)


def test_a_file_that_is_longer_than_it_can_be_is_not_looked_at(served, releases, monkeypatch):
    monkeypatch.setattr(web, "MOST", 1000)
    with pytest.raises(WrongBytes, match="longer than it should be"):
        inspect(put(served, releases["pth"]))
    assert served.ranges == ["bytes=0-0"]


def test_an_address_is_not_fetched_in_part_which_is_said_before_it_is_asked(served, releases):
    with pytest.raises(UsageError, match="is not fetched in part") as caught:
        fetch_convert(put(served, releases["safetensors"]), partial=True)
    assert caught.value.next == "leave out --partial"
    assert served.requests == []


# -- mirrors -----------------------------------------------------------------------------------------------------------


def test_headers_are_read_from_a_mirror_where_the_first_place_has_nothing(served, releases, work):
    served.add("a/model", {"model.safetensors": releases["safetensors"]})
    mirror = HubSource("a/model", "main", ("model.safetensors",), "small", sha256=sha256(releases["safetensors"]))
    gone = UrlSource(f"{served.web}/gone.pth", "0" * 64, "small", mirrors=(mirror,))
    fetched, opened = open_source(gone, Hub(served.url, work / "hub"), ranged=True)
    with opened:
        assert fetched.repo == "a/model"
        assert "404" in fetched.passed[0]
    assert all(served.ranges)


def test_a_file_that_the_hub_says_is_another_is_refused_before_it_is_converted(served, releases, work):
    served.add("a/model", {"model.safetensors": releases["safetensors"]})
    promised = HubSource("a/model", "main", ("model.safetensors",), "small", sha256="0" * 8)
    with pytest.raises(WrongBytes, match="promised sha256 00000000"), looking_ahead(
            promised, Options(partial=True), hub=Hub(served.url, work / "hub")):
        pass
    assert files_in(work) == []
