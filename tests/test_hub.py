"""The hub road, with the real client against a local hub that has faults to order."""

from __future__ import annotations

import json

import pytest
from support import SMALL, files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM, TRANSFORMERS

from zooconv import AuthRequired, SourceUnavailable, UsageError, fetch_convert
from zooconv import hub as hub_module
from zooconv.errors import ZooError
from zooconv.hub import Hub
from zooconv.names import resolve
from zooconv.testing.checkpoints import random_weights, save_pth, save_safetensors, spelled
from zooconv.testing.hub import TOKEN, LocalHub
from zooconv.zoo import zoo

REPO = "timm/convnext_tiny.fb_in22k"
NAME = "convnext_tiny_22k"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What timm has on the hub for a model; the model is a small one."""
    folder = tmp_path_factory.mktemp("hub")
    arrays = spelled(TIMM, random_weights(FAMILY, SMALL))
    return {"model.safetensors": save_safetensors(folder / "model.safetensors", arrays),
            "pytorch_model.bin": save_pth(folder / "pytorch_model.bin", arrays, None), "config.json": b"{}"}


@pytest.fixture
def served(local_hub, files):
    local_hub.add(REPO, files)
    return local_hub


@pytest.fixture
def client(served, work):
    return Hub(served.url, work / "cache")


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were made, which tests do not wait for."""
    made = []
    monkeypatch.setattr(hub_module, "pause", made.append)
    return made


def source(name=NAME):
    return resolve(name, zoo())


def test_a_name_becomes_a_proved_file(client, served, work):
    result = fetch_convert(NAME, hub=client, load_check=False)
    assert str(result.path) == f"weights/{NAME}_d2.pth"
    record = json.loads((work / "registry.json").read_text())["artifacts"][f"{NAME}/d2"]
    commit = served.repos[REPO].refs["main"]
    assert [record["source"][k] for k in ("type", "repo", "revision")] == ["hf", REPO, commit]
    blob = served.repos[REPO].commits[commit]["model.safetensors"]
    assert record["source"]["files"] == [{"file": "model.safetensors", "size": blob.size, "sha256": blob.sha256}]
    assert record["license"] == "apache-2.0"


def test_safetensors_is_preferred_and_torchs_file_is_the_fallback(local_hub, files, work):
    local_hub.add("a/both", files)
    local_hub.add("a/old", {"pytorch_model.bin": files["pytorch_model.bin"]})
    client = Hub(local_hub.url, work / "cache")
    assert client.fetch(source("a/both")).path.name == "model.safetensors"
    assert client.fetch(source("a/old")).path.name == "pytorch_model.bin"
    results = [fetch_convert(name, hub=client, load_check=False) for name in ("a/both", "a/old")]
    assert len({r.written.file.sha256 for r in results}) == 1


def test_a_sharded_model_is_fetched_whole(local_hub, work, tmp_path):
    arrays = spelled(TRANSFORMERS, random_weights(FAMILY, SMALL))
    names = list(arrays)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    local_hub.add("a/shards", {"model.safetensors.index.json": json.dumps(index).encode()} | {
        part: save_safetensors(tmp_path / part, {n: arrays[n] for n in held}) for part, held in parts.items()})
    result = fetch_convert("a/shards", hub=Hub(local_hub.url, work / "cache"), load_check=False)
    assert [f.file for f in result.record.source.files] == ["model.safetensors.index.json", *parts]
    assert result.data["dialect"] == "transformers"


def test_a_revision_is_resolved_to_its_commit_first(local_hub, files, work):
    first = local_hub.add(REPO, {"model.safetensors": files["model.safetensors"]}, branch="v1")
    local_hub.add(REPO, {"model.safetensors": b"another"})
    fetched = Hub(local_hub.url, work / "cache").fetch(source(f"{REPO}@v1"))
    assert fetched.revision == first
    assert local_hub.count(rf"hub (HEAD|GET) /{REPO}/resolve/(?!{first})") == 0


def test_what_is_cached_is_not_fetched_again_but_is_hashed_again(client, served):
    path = client.fetch(source()).path
    downloads = served.count("cdn GET")
    assert client.fetch(source()).path == path
    assert served.count("cdn GET") == downloads
    damage(path)
    assert client.fetch(source()).path == path
    assert served.count("cdn GET") == downloads + 1


def damage(path):
    blob = path.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)


def test_the_token_goes_to_the_hub_and_never_to_the_storage_host(client, served, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    served.repos[REPO].gated = True
    assert client.fetch(source())
    assert not served.token_leaked


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "waited"), [
    ({"pattern": "cdn GET", "wrong": True}, []),
    ({"pattern": "cdn GET", "status": 503, "times": 3}, [0.5, 1.0, 2.0]),
    ({"pattern": "cdn GET", "cut": 1000, "reset": True}, [0.5]),
    ({"pattern": "hub HEAD", "status": 429, "headers": {"Retry-After": "7"}}, [7.0]),
    ({"pattern": "hub GET /api", "status": 500, "times": 2}, [0.5, 1.0]),
], ids=["wrong bytes of the right length", "503", "reset", "429", "500 of the api"])
def test_a_passing_fault_is_survived(client, served, pauses, fault, waited):
    served.fault(**fault)
    fetched = client.fetch(source())
    assert fetched.files[0].sha256 == served.repos[REPO].commits[fetched.revision]["model.safetensors"].sha256
    assert pauses == waited
    assert all(f.times == 0 for f in served.faults)


@pytest.mark.filterwarnings("ignore")
def test_a_cut_connection_is_resumed(client, served):
    served.fault("cdn GET", cut=1000)
    assert client.fetch(source())


def test_bytes_that_are_wrong_twice_are_refused_and_not_kept(client, served, work):
    served.fault("cdn GET", wrong=True, times=9)
    with pytest.raises(SourceUnavailable, match="is not what the hub says it is"):
        fetch_convert(NAME, hub=client)
    assert served.count("cdn GET") == 2
    assert [p for p in (work / "cache").rglob("*") if p.is_file() and p.stat().st_size > 1000] == []
    assert files_in(work) == ["cache"]


def test_a_cache_that_cannot_be_written_is_told_as_such_and_not_as_a_hub_that_is_away(served, work):
    (work / "cache").touch()
    with pytest.raises(ZooError, match="the hub's cache cannot be written") as caught:
        Hub(served.url, work / "cache").fetch(source())
    assert not isinstance(caught.value, SourceUnavailable)
    assert "HF_HUB_CACHE" in caught.value.next


def test_a_lasting_fault_is_told_after_some_tries(client, served, pauses):
    served.fault("hub GET /api", status=502, times=99)
    with pytest.raises(SourceUnavailable, match="cannot be had from the hub") as caught:
        client.fetch(source())
    assert "502" in str(caught.value)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_a_malformed_etag_is_refused_before_the_client_makes_a_path_of_it(client, served, work):
    served.fault("hub HEAD", times=9, headers={"X-Linked-ETag": '"../../../escaped"'})
    with pytest.raises(SourceUnavailable, match="malformed"):
        client.fetch(source())
    assert [p for p in work.parent.rglob("escaped*")] == []  # noqa: C416


@pytest.mark.parametrize(("facts", "name", "error", "word"), [
    ({"gated": True}, "a/x", AuthRequired, "gated"),
    ({"private": True}, "a/x", SourceUnavailable, "no repository a/x, or it is private"),
    ({"disabled": True}, "a/x", SourceUnavailable, "disabled"),
    ({}, "a/nothing", SourceUnavailable, "no repository a/nothing"),
    ({}, "a/x@nothing", SourceUnavailable, "no revision 'nothing'"),
    ({}, "a/x:nothing.pth", SourceUnavailable, "has none of: nothing.pth"),
])
def test_what_cannot_be_had_is_told_plainly(local_hub, files, work, facts, name, error, word):
    local_hub.add("a/x", files, **facts)
    with pytest.raises(error, match=word) as caught:
        Hub(local_hub.url, work / "cache").fetch(source(name))
    assert caught.value.exit_code == (4 if error is AuthRequired else 3)


def test_a_bad_token_is_told_plainly(client, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(AuthRequired, match="refuses access"):
        client.fetch(source())


def test_a_repository_without_weights_says_what_it_has(local_hub, work):
    local_hub.add("a/x", {"model.h5": b"x", "weights.pth": b"y", "README.md": b"z"})
    with pytest.raises(SourceUnavailable) as caught:
        Hub(local_hub.url, work / "cache").fetch(source("a/x"))
    assert caught.value.why == ("it has weights.pth", "it has model.h5")
    assert caught.value.next == "zooconv fetch-convert a/x:weights.pth"


def test_an_index_that_names_an_absent_shard_is_told(local_hub, work):
    local_hub.add("a/x", {"model.safetensors.index.json": b'{"weight_map": {"w": "model-00001.safetensors"}}'})
    with pytest.raises(SourceUnavailable, match="though its index names it"):
        Hub(local_hub.url, work / "cache").fetch(source("a/x"))


def test_a_hub_that_is_not_there_is_told(work, pauses):
    with LocalHub() as gone:
        url = gone.url
    with pytest.raises(SourceUnavailable, match="cannot be had") as caught:
        Hub(url, work / "cache").fetch(source())
    assert "HF_HUB_OFFLINE=1" in caught.value.next


# -- offline, by the command line, where the client reads its environment --------------------------------------------


@pytest.fixture
def environment(served, work):
    return {"HF_ENDPOINT": served.url, "HF_HOME": str(work / "hf"), "NO_PROXY": "127.0.0.1"}


def test_offline_a_cached_model_is_used_and_another_is_told(environment, zooconv, served):
    online = zooconv("fetch", NAME, "--json", env=environment)
    before = len(served.requests)
    offline = zooconv("fetch", NAME, "--json", env=environment | {"HF_HUB_OFFLINE": "1"})
    assert offline.json["files"] == online.json["files"]
    assert offline.json["revision"] == online.json["revision"]
    missing = zooconv("fetch", "convnext_base_22k", env=environment | {"HF_HUB_OFFLINE": "1"})
    assert (missing.code, "is not in the cache" in missing.err) == (3, True)
    assert len(served.requests) == before


def test_offline_a_branch_is_the_commit_that_it_was_when_it_was_fetched(environment, zooconv, served, files):
    first = zooconv("fetch", f"{REPO}@main", "--json", env=environment).json["revision"]
    served.add(REPO, {"model.safetensors": files["pytorch_model.bin"]}, branch="other")
    second = zooconv("fetch", f"{REPO}@other", "--json", env=environment).json["revision"]
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    for revision, commit in (("main", first), ("other", second), (first, first)):
        assert zooconv("fetch", f"{REPO}@{revision}", "--json", env=offline).json["revision"] == commit
    assert zooconv("fetch", f"{REPO}@third", env=offline).code == 3


def test_offline_a_damaged_cache_is_told_and_cleared(environment, zooconv, work):
    from pathlib import Path

    path = Path(zooconv("fetch", NAME, "-q", env=environment).out.strip())
    damage(path)
    done = zooconv("fetch", NAME, env=environment | {"HF_HUB_OFFLINE": "1"})
    assert (done.code, "is damaged" in done.err, path.exists()) == (3, True, False)


def test_the_exit_codes_and_streams_of_the_main_command(environment, zooconv, served, work):
    done = zooconv("fetch-convert", NAME, env=environment)
    assert (done.code, done.out) == (0, f"weights/{NAME}_d2.pth\n")
    assert "timm names" in done.err
    assert "torch" in done.err
    served.repos[REPO].gated = True
    assert zooconv("fetch-convert", NAME, "--force", env=environment | {"HF_HOME": str(work / "other")}).code == 4
    assert zooconv("fetch-convert", "a/nothing", env=environment).code == 3
    assert zooconv("fetch-convert", "convnext_tinny", env=environment).code == 2


def test_a_fetch_of_a_file_is_a_usage_error(source_file, zooconv):
    assert zooconv("fetch", source_file).code == 2


@pytest.fixture
def source_file(work, weights):
    return save_pth(work / "small.pth", weights)




def test_a_layout_that_no_family_of_a_model_has_is_refused_before_anything_is_fetched(client, served):
    with pytest.raises(UsageError, match="has no layout 'maskdinno'"):
        fetch_convert(NAME, hub=client, layout="maskdinno")
    assert served.requests == []
    with pytest.raises(UsageError, match="has no layout 'detrex-timm'"):  # the control: what timm has, its file decides
        fetch_convert(NAME, hub=client, layout="detrex-timm")
    assert served.count("cdn GET")
