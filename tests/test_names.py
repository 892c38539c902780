"""What people type is understood, or refused with the choices."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import DATA

from zooconv.errors import UsageError
from zooconv.names import FILES, HubSource, LocalSource, artifact_name, resolve
from zooconv.plugins import families
from zooconv.registry import NAME
from zooconv.zoo import tables, zoo

ZOO = zoo()
TYPED = json.loads((DATA / "user_names.json").read_text())


@pytest.mark.parametrize("typed", sorted(TYPED))
def test_a_name_that_people_type_means_the_repository_that_it_should(typed):
    if TYPED[typed] is None:
        with pytest.raises(UsageError, match="is refused"):
            resolve(typed, ZOO)
    else:
        assert resolve(typed, ZOO).repo == TYPED[typed]


@pytest.mark.parametrize(("typed", "repo", "revision", "files", "name"), [
    ("convnext_tiny_22k", "timm/convnext_tiny.fb_in22k", "main", FILES, "convnext_tiny_22k"),
    ("zoo://convnext_tiny_22k", "timm/convnext_tiny.fb_in22k", "main", FILES, "convnext_tiny_22k"),
    ("convnext_tiny_22k_1k_224", "timm/convnext_tiny.fb_in22k_ft_in1k", "main", FILES, "convnext_tiny_22k_1k_224"),
    ("timm/convnext_tiny.fb_in22k", "timm/convnext_tiny.fb_in22k", "main", FILES, "convnext_tiny_22k"),
    ("convnext_tiny_22k@abc", "timm/convnext_tiny.fb_in22k", "abc", FILES, "convnext_tiny_22k"),
    ("convnext_tiny_22k_224@refs/pr/4", "timm/convnext_tiny.fb_in22k", "refs/pr/4", FILES, "convnext_tiny_22k"),
    ("timm/convnext_tiny.fb_in22k@abc", "timm/convnext_tiny.fb_in22k", "abc", FILES, "convnext_tiny.fb_in22k"),
    ("facebook/ConvNeXt-x", "facebook/ConvNeXt-x", "main", FILES, "convnext-x"),
    ("a/b@refs/pr/4:model.safetensors", "a/b", "refs/pr/4", ("model.safetensors",), "model"),
    ("a/b:sub/x.pth", "a/b", "main", ("sub/x.pth",), "x"),
])
def test_reading(typed, repo, revision, files, name):
    source = resolve(typed, ZOO)
    assert isinstance(source, HubSource)
    assert (source.repo, source.revision, source.files, source.name) == (repo, revision, files, name)


@pytest.mark.parametrize("typed", ["./x.pth", "/data/x.bin", "~/x.pth", "x.safetensors", "weights/x.pth"])
def test_a_path_is_a_path(typed):
    assert isinstance(resolve(typed, ZOO), LocalSource)


def test_a_file_that_exists_is_meant_before_a_repository_of_that_name(work):
    (work / "owner").mkdir()
    (work / "owner" / "repo").touch()
    assert isinstance(resolve("owner/repo", ZOO), LocalSource)


@pytest.mark.parametrize(("typed", "choice"), [
    ("convnext_tiny", "convnext_tiny_22k"), ("convnext_base", "convnext_base_22k_1k_224"),
    ("convnext", "convnext_tiny_22k"),
])
def test_an_ambiguous_name_is_refused_with_the_choices(typed, choice):
    with pytest.raises(UsageError, match="could be any of") as caught:
        resolve(typed, ZOO)
    assert choice in caught.value.why or len(caught.value.why) == 30


@pytest.mark.parametrize(("typed", "word"), [
    ("convnext_tiny_22kk", "did you mean convnext_tiny_22k?"), ("resnet26", "did you mean resnet26.bt_in1k?"),
    ("Convnext_Tiny_22K", "did you mean convnext_tiny_22k?"), ("convnext-t-22k", "did you mean convnext_tiny_22k?"),
    ("hourglass_tiny", "there is no model"),
    ("convnext_*_22k", "is a pattern, and names"), ("", "there is no model"), ("a b", "there is no model"),
])
def test_an_unknown_name_is_refused_with_a_way_on(typed, word):
    with pytest.raises(UsageError) as caught:
        resolve(typed, ZOO)
    assert word in str(caught.value)
    assert caught.value.next


@pytest.mark.parametrize(("page", "meant"), [
    ("https://huggingface.co/timm/x.y", "timm/x.y"), ("https://huggingface.co/timm/x.y/tree/v1", "timm/x.y@v1"),
    ("https://huggingface.co/timm/x/blob/main/a/b.bin", "timm/x@main:a/b.bin"),
])
def test_a_repositorys_page_leads_to_its_name(page, meant):
    with pytest.raises(UsageError) as refused:
        resolve(page, ZOO)
    assert refused.value.next == f"zooconv fetch-convert {meant}"
    assert isinstance(resolve(meant, ZOO), HubSource)


@pytest.mark.parametrize("name", ["convnext_iso_small_1k_224_ema", "convnext_tiny_ols.of_mine"])
def test_a_model_that_no_layout_holds_is_refused_before_it_is_fetched(name):
    with pytest.raises(UsageError, match="is refused"):
        resolve(name, ZOO)


@pytest.mark.parametrize("name", ["convnext_atto_ols.a2_in1k", "timm/convnext_zepto_rms.ra4_e3600_r224_in1k"])
def test_a_model_that_only_timms_own_code_holds_says_why_no_other_layout_does(name):
    model = resolve(name, ZOO).model
    assert model.family == "timm"
    assert model.layouts[:4] == ("timm", "d2", "detrex-timm", "detic-timm")
    assert model.note.startswith("other layouts do not hold it: its ")


def test_a_model_without_a_copy_on_the_hub_is_listed_and_refused_with_the_place_where_it_is():
    assert not next(m for m in ZOO.models if m.name == "gcvit_base.in1k").repo
    with pytest.raises(UsageError, match=r"cannot be fetched: .*https://") as caught:
        resolve("gcvit_base.in1k", ZOO)
    assert caught.value.next == "download it, then zooconv convert FILE --layout timm"


@given(st.text())
@example("x" * 300)
@example("\0")
def test_any_text_is_a_source_or_a_plain_refusal(text):
    try:
        source = resolve(text, ZOO)
    except UsageError:
        return
    assert source.name == artifact_name(source.name)


@given(st.text())
def test_an_artifacts_name_is_one_that_a_registry_takes(text):
    import re

    assert re.fullmatch(NAME, artifact_name(text))
    assert ".." not in artifact_name(text)


def test_no_two_models_share_a_name():
    names = [name for model in ZOO.models for name in model.names]
    assert len(names) == len(set(names))


def test_every_model_says_what_a_user_must_know():
    for model in ZOO.models:
        assert model.license
        assert model.repo.count("/") == 1 or model.url or "https://" in model.note
        assert len(model.mean) == len(model.std) == 3
        assert all(0 <= value < 1 for value in model.mean)
        assert all(0 < value <= 1 for value in model.std)


def test_a_models_preprocessing_is_timms(timm):
    for model in ZOO.models:
        owner, _, tag = model.repo.partition("/")
        if owner == "timm":
            known = timm.get_pretrained_cfg(tag)
            assert (model.mean, model.std, model.input) == (known.mean, known.std, known.input_size[1]), tag
            assert model.license == (known.license or "unknown"), tag


def test_every_line_of_a_table_is_a_model():
    for table in tables():
        mine = [m for m in ZOO.models if table.family in (m.family, m.also and m.also.family)]
        assert len(mine) == len(table.models) or table.yields
    assert {table.family for table in tables() if table.yields} == {f.name for f in families() if f.members}
