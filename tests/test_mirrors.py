"""Plain addresses and mirrors, with the real client over TLS: what is there, what is not, and what is wrong."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from support import DATA, SMALL, files_in
from zooconv_zoo.convnext import FAMILY

from zooconv import AuthRequired, CheckFailed, SourceUnavailable, UsageError, fetch_convert
from zooconv import hub as hub_module
from zooconv.digest import digest_in
from zooconv.errors import WrongBytes
from zooconv.hub import Hub
from zooconv.names import HubSource, UrlSource, resolve
from zooconv.registry import Registry
from zooconv.sources import web
from zooconv.sources.fetch import fetch_source
from zooconv.testing.checkpoints import random_weights, save_pth
from zooconv.testing.hub import LocalHub
from zooconv.upstream import import_package
from zooconv.verify import certificate_faults
from zooconv.zoo import Model, zoo

CERTIFICATE = DATA / "localhost.pem"


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A release, of random weights."""
    return save_pth(tmp_path_factory.mktemp("release") / "small.pth", random_weights(FAMILY, SMALL))


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


@pytest.fixture
def release(served, weights_file):
    """An address whose name has the first digits of the file's SHA-256."""
    return served.put(f"/models/small-{sha256(weights_file)[:8]}.pth", weights_file)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def at(url, digest="", *mirrors):
    return UrlSource(url, digest or digest_in(url), "small", mirrors=mirrors)


# -- an address --------------------------------------------------------------------------------------------------------


def test_an_address_becomes_an_artifact_whose_record_has_the_whole_digest(served, release, weights_file, work):
    result = fetch_convert(release, load_check=False)
    source = json.loads((work / "registry.json").read_text())["artifacts"][result.preview.place.name]["source"]
    assert (source["type"], source["url"]) == ("url", release)
    assert source["files"] == [{"file": release.rsplit("/", 1)[-1], "size": weights_file.stat().st_size,
                                "sha256": sha256(weights_file)}]
    book = Registry.read(work / "registry.json")
    assert certificate_faults(book, result.record) == []


def test_what_is_in_the_cache_is_hashed_and_not_fetched_again(served, release, weights_file):
    path = fetch_source(at(release)).path
    assert fetch_source(at(release)).path == path
    assert served.count("web GET") == 1
    path.write_bytes(b"damaged")
    assert sha256(fetch_source(at(release)).path) == sha256(weights_file)
    assert served.count("web GET") == 2


def test_redirections_are_followed_to_https_alone(served, release, weights_file, local_hub):
    digest = sha256(weights_file)
    assert fetch_source(at(served.put("/moved", release), digest)).files[0].sha256 == digest
    downgraded = served.put("/down", f"{served.cdn}/x.pth")
    with pytest.raises(SourceUnavailable, match="is not https"):
        fetch_source(at(downgraded, digest))
    with pytest.raises(SourceUnavailable, match="redirects more than"):
        fetch_source(at(served.put("/round", "/round"), digest))
    assert served.count("cdn") == 0


def test_a_server_whose_certificate_nobody_vouches_for_is_not_spoken_to(served, release, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    huggingface_hub.close_session()
    with pytest.raises(SourceUnavailable, match="cannot be had") as caught:
        fetch_source(at(release))
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
    assert served.count("web GET") == 0


@pytest.mark.parametrize("fault", [{"status": 503, "times": 2}, {"cut": 1000}, {"reset": True, "cut": 1000},
                                   {"wrong": True}], ids=["503", "cut", "reset", "wrong once"])
def test_a_passing_fault_of_an_address_is_survived(served, release, weights_file, fault):
    served.fault("web GET", **fault)
    assert sha256(fetch_source(at(release)).path) == sha256(weights_file)


def test_bytes_of_another_digest_are_refused_and_not_kept(served, weights_file, work):
    other = served.put("/models/small-00000000.pth", weights_file)
    with pytest.raises(WrongBytes, match="is not what it should be") as caught:
        fetch_source(at(other))
    assert f"arrived  sha256 {sha256(weights_file)}" in str(caught.value)
    assert [p for p in (work / "cache").rglob("*") if p.is_file()] == []
    assert caught.value.exit_code == 3


def test_a_file_that_is_longer_than_it_can_be_is_cut_off(served, release, weights_file, monkeypatch):
    monkeypatch.setattr(web, "MOST", weights_file.stat().st_size - 1)
    with pytest.raises(WrongBytes, match="longer than it should be"):
        fetch_source(at(release))
    monkeypatch.setattr(web, "MOST", weights_file.stat().st_size)
    assert fetch_source(at(release))


@pytest.mark.parametrize(("status", "error", "code"), [(404, SourceUnavailable, 3), (403, AuthRequired, 4)])
def test_an_answer_that_is_no_file_is_told(served, release, status, error, code):
    served.fault("web GET", status=status, times=9)
    with pytest.raises(error, match=f"answers {status}") as caught:
        fetch_source(at(release))
    assert caught.value.exit_code == code


@pytest.mark.parametrize(("typed", "word"), [
    ("http://example.org/x-0676ba61.pth", "is no https address"), ("https://example.org/x.pth", "nothing says what"),
    ("https://example.org/", "ends in no name"), ("https://example.org/x.pth#sha256=xyz", "nothing says what"),
    ("https://example.org/x.pth#md5=0676ba61", "nothing says what"),
])
def test_an_address_that_nothing_vouches_for_is_refused(typed, word):
    with pytest.raises(UsageError, match=word):
        resolve(typed, zoo())


@pytest.mark.parametrize(("typed", "url", "digest"), [
    ("https://e.org/x-0676ba61.pth", "https://e.org/x-0676ba61.pth", "0676ba61"),
    ("https://e.org/x-0676ba61.pth#sha256=" + "a" * 64, "https://e.org/x-0676ba61.pth", "a" * 64),
    ("https://e.org/d/x.pth?download=1#sha256=0123456789", "https://e.org/d/x.pth?download=1", "0123456789"),
])
def test_an_address_says_its_digest_in_its_name_or_behind_it(typed, url, digest):
    source = resolve(typed, zoo())
    assert (source.url, source.sha256, source.name[0]) == (url, digest, "x")


# -- mirrors -----------------------------------------------------------------------------------------------------------


def hub_mirror(served, weights_file, name="a/mirror"):
    served.add(name, {"small.pth": weights_file})
    return HubSource(name, "main", ("small.pth",), "small", sha256=sha256(weights_file))


@pytest.mark.parametrize("status", [404, 500])
def test_a_source_that_is_unavailable_is_had_from_a_mirror_and_it_says_which(served, weights_file, work, status):
    gone = served.put("/gone.pth", weights_file)
    served.fault("web GET", status=status, times=99)
    source = at(gone, sha256(weights_file), hub_mirror(served, weights_file))
    got = fetch_source(source, Hub(served.url, work / "hub"))
    assert (got.repo, got.files[0].sha256) == ("a/mirror", sha256(weights_file))
    assert len(got.passed) == 1
    assert got.passed[0].endswith(f"answers {status}")


def test_a_repository_that_is_gone_is_had_from_an_address(served, release, weights_file, work):
    gone = HubSource("a/gone", "main", ("small.pth",), "small", sha256=sha256(weights_file), mirrors=(at(release),))
    got = fetch_source(gone, Hub(served.url, work / "hub"))
    assert (got.url, got.passed[0][:29]) == (release, "the hub has no repository a/g")


def test_wrong_bytes_are_an_error_though_a_mirror_would_have_the_right_ones(served, release, weights_file, work):
    client, mirror = Hub(served.url, work / "hub"), at(release)
    served.add("a/other", {"small.pth": b"other bytes"})
    other = HubSource("a/other", "main", ("small.pth",), "small", sha256=sha256(weights_file), mirrors=(mirror,))
    with pytest.raises(WrongBytes, match="of a/other is not what it should be"):
        fetch_source(other, client)
    served.fault("cdn GET", wrong=True, times=9)
    with pytest.raises(WrongBytes, match="is not what the hub says"):
        fetch_source(replace(hub_mirror(served, weights_file), mirrors=(mirror,)), client)
    assert served.count("web GET") == 0


def test_a_lock_is_an_error_though_a_mirror_would_be_open(served, release, weights_file, work):
    served.add("a/gated", {"small.pth": weights_file}, gated=True)
    gated = HubSource("a/gated", "main", ("small.pth",), "small", sha256=sha256(weights_file), mirrors=(at(release),))
    with pytest.raises(AuthRequired):
        fetch_source(gated, Hub(served.url, work / "hub"))


def test_where_no_place_has_it_every_one_is_told(served, weights_file, work):
    source = at(f"{served.web}/no.pth", "0" * 64, at(f"{served.web}/nowhere.pth", "0" * 64))
    with pytest.raises(SourceUnavailable, match="none of the 2 places of small has it") as caught:
        fetch_source(source)
    assert [line.split(" ")[0].rsplit("/")[-1] for line in caught.value.why] == ["no.pth", "nowhere.pth"]


# -- in the zoo --------------------------------------------------------------------------------------------------------

ROW = {"name": "x", "family": "toy", "variant": "s", "repo": "a/x", "license": "mit", "mb": 1, "input": 8,
       "mean": (0.0,), "std": (1.0,)}


@pytest.mark.parametrize(("change", "word"), [
    ({"mirrors": ("https://e.org/x.pth",)}, "sha256 is missing"), ({"url": "https://e.org/x.pth"}, "sha256 is missing"),
    ({"mirrors": ("http://e.org/x.pth",), "sha256": "0" * 64}, "is neither"),
    ({"url": "http://e.org/x-0676ba61.pth"}, "is neither"), ({"mirrors": ("x",), "sha256": "0" * 64}, "is neither"),
])
def test_a_row_that_vouches_for_nothing_is_refused(change, word):
    with pytest.raises(ValueError, match=word):
        Model(**(ROW | change))


def test_every_file_of_torchvision_in_the_zoo_is_where_torchvision_says_and_as_long(timm):
    models = import_package("torchvision").models
    official = {weights.url: weights.meta for name in models.list_models(module=models)
                for weights in models.get_model_weights(name)}
    rows = [model for model in zoo().models if "download.pytorch.org" in model.url]
    assert len(rows) > 30
    for model in rows:
        assert model.mb == round(official[model.url]["_file_size"] * 1.048576)


def test_every_address_of_the_zoo_has_digits_and_an_official_host():
    rows = [model for model in zoo().models if model.url or model.mirrors]
    assert rows
    for model in rows:
        source = resolve(model.name, zoo())
        assert len(source.sha256) >= 8
        for url in (model.url, *model.mirrors):
            assert url.split("/")[2] in ("download.pytorch.org", "dl.fbaipublicfiles.com", "github.com")
            assert digest_in(url).startswith(source.sha256) or model.sha256


def test_by_the_command_line_a_release_is_fetched_and_shown(served, release, weights_file, zooconv, work):
    environment = {"SSL_CERT_FILE": str(CERTIFICATE), "ZOOCONV_CACHE": str(work / "cache"), "NO_PROXY": "127.0.0.1"}
    done = zooconv("fetch", release, "--json", env=environment)
    assert (done.code, done.json["url"], done.json["files"][0]["sha256"]) == (0, release, sha256(weights_file))
    assert "revision" not in done.json
    offline = zooconv("fetch", release, "-q", env=environment | {"HF_HUB_OFFLINE": "1"})
    assert (offline.code, offline.out.strip()) == (0, done.json["path"])
    other = f"{served.web}/other.pth#sha256={'0' * 64}"
    assert zooconv("fetch", other, env=environment | {"HF_HUB_OFFLINE": "1"}).code == 3
    assert files_in(work) == ["cache"]


def test_an_address_is_held_to_its_record(served, release, weights_file, work):
    path = fetch_convert(release, load_check=False).path
    content = path.read_bytes()
    path.unlink()
    assert fetch_convert(release, load_check=False, locked=True).path.read_bytes() == content
    (kept,) = (work / "cache" / "sources").rglob("*.pth")
    kept.unlink()
    served.fault("web GET", wrong=True, times=9)
    with pytest.raises(CheckFailed, match="is not what the registry pins") as caught:
        fetch_convert(release, load_check=False, locked=True)
    assert f"promised sha256 {sha256(weights_file)}" in str(caught.value)
    assert path.read_bytes() == content
