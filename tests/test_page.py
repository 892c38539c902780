"""The page beside a file: exact counts, a command that makes the same bytes, and every language whole."""

from __future__ import annotations

import re
import shlex
import string

import pytest
from support import ROOT, SMALL
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.dialects import TIMM

from zooconv import convert, fetch_convert
from zooconv.digest import file_sha256
from zooconv.page import SHOWN
from zooconv.testing.checkpoints import random_array, random_weights, save_pth, save_safetensors, spelled
from zooconv.words import LANGUAGES, PHRASES, Words


def page_of(conversion):
    return conversion.path.with_name(f"{conversion.path.name}.md").read_text(encoding="utf-8")


def command_in(page):
    return shlex.split(re.findall(r"```sh\n(zooconv .*)\n```", page)[0])[1:]


@pytest.mark.parametrize(("options", "counts"), [
    ({}, "| 83 | 81 | 2 | 0 | 81 |"),
    ({"layout": "maskdino"}, "| 83 | 79 | 4 | 8 | 87 |"),
    ({"layout": "maskdino", "fresh": False}, "| 83 | 79 | 4 | 0 | 79 |"),
])
def test_it_counts_every_tensor(source, options, counts, official):
    result = convert(source, load_check=False, **options)
    assert counts in page_of(result)
    told = result.data["counts"]
    assert told["source"] == told["kept"] + told["dropped"] == len(official)
    assert told["written"] == told["kept"] + told["fresh"]  # where no tensor is cut or joined


def test_it_names_what_is_dropped_and_what_is_fresh_with_the_reasons(source):
    page = page_of(convert(source, layout="kmax", load_check=False, note="random weights"))
    assert "| 2 | `head.weight`, `head.bias` | classifier |" in page
    assert "| 2 | `norm.weight`, `norm.bias` | this layout has no final norm |" in page
    assert "Fresh" not in page
    page = page_of(convert(source, layout="detrex", load_check=False))
    assert "| 3 | `backbone.norm1.weight`, `backbone.norm2.weight`, `backbone.norm3.weight` | starts at 1 |" in page
    assert "| 3 | `backbone.norm1.bias`, `backbone.norm2.bias`, `backbone.norm3.bias` | starts at 0 |" in page


def test_many_names_are_cut_short_and_the_rest_is_said_to_be_in_the_certificate(work, weights):
    text = {f"text.{i}.weight": random_array("t", (2,)) for i in range(SHOWN + 5)}
    result = convert(save_pth(work / "s.pth", {f"visual.{n}": a for n, a in weights.items()} | text), load_check=False)
    page = page_of(result)
    assert f"`text.{SHOWN - 1}.weight`, and 5 more, all in s_d2.pth.cert.json | outside the backbone" in page
    assert f"`text.{SHOWN}.weight`" not in page


@pytest.mark.parametrize("options", [
    {}, {"layout": "kmax", "portable": True, "format": "pkl"}, {"layout": "uninext", "fresh": False, "name": "mine"},
    {"bgr": True, "note": "it's a 'test'", "lang": "zh"},
], ids=str)
def test_its_command_makes_the_same_bytes_again(source, zooconv, options):
    result = convert(source.name, load_check=False, **options)
    before = result.written.file.sha256
    result.path.unlink()
    done = zooconv(*command_in(page_of(result)), "--no-load-check")
    assert (done.code, done.out) == (0, f"{result.path}\n")
    assert file_sha256(result.path).sha256 == before


def test_a_file_of_the_hub_is_made_again_from_the_same_commit(work, local_hub, hub_client, zooconv):
    repo, name = "timm/convnext_tiny.fb_in22k", "convnext_tiny_22k"
    for seed in (0, 1):  # the branch moves on after the conversion
        arrays = spelled(TIMM, random_weights(FAMILY, SMALL, seed))
        local_hub.add(repo, {"model.safetensors": save_safetensors(work / f"{seed}.safetensors", arrays)})
        if seed == 0:
            result = fetch_convert(name, hub=hub_client, load_check=False)
    page = page_of(result)
    assert command_in(page)[:2] == ["fetch-convert", f"{name}@{result.preview.fetched.revision}"]
    moved = fetch_convert(name, hub=hub_client, load_check=False, output=work / "moved.pth")
    assert moved.written.file.sha256 != result.written.file.sha256  # the control
    result.path.unlink()
    environment = {"HF_ENDPOINT": local_hub.url, "HF_HOME": str(work / "hf"), "NO_PROXY": "127.0.0.1"}
    done = zooconv(*command_in(page), "--no-load-check", env=environment)
    assert done.code == 0, done.err
    assert file_sha256(result.path).sha256 == result.written.file.sha256


def test_what_to_do_next_can_be_typed(source, zooconv):
    page = page_of(convert(source, load_check=False, output=source.with_name("x.pth")))
    check = next(line for line in page.splitlines() if "verify" in line)
    assert zooconv(*shlex.split(check, comments=True)[1:]).code == 0


# -- languages ---------------------------------------------------------------------------------------------------------


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", PHRASES)
def test_every_language_has_every_phrase_with_the_same_places(key):
    row = PHRASES[key]
    assert len(row) == len(LANGUAGES)
    assert all(row)
    assert len({frozenset(fields(text)) for text in row}) == 1


def test_no_phrase_is_idle_and_none_is_lacking():
    source = "".join((ROOT / "zooconv" / f"{room}.py").read_text() for room in ("page", "report"))
    texts = set(re.findall(r"""["']([a-z0-9 ]+)["']""", source))
    assert PHRASES.keys() - texts == set()
    asked = set(re.findall(r"""words\(["']([^"']+)["']""", source)) | set(re.findall(r'yield "([^"]+)"', source))
    assert asked - PHRASES.keys() == set()


def test_in_chinese_the_words_are_chinese_and_the_facts_are_the_same(source, zooconv):
    english = page_of(convert(source, layout="detrex", load_check=False))
    done = zooconv("convert", source.name, "-l", "detrex", "--no-load-check", "--lang", "zh")
    chinese = source.with_name("small_detrex.pth.md").read_text(encoding="utf-8")
    for word in ("骨干网络", "权重", "张量", "校验和", "布局", "转换", "来源"):
        assert word in chinese
    for label in ("kept", "dropped here", "again", "licence"):
        assert Words("en")(label) in english
        assert Words("en")(label) not in chinese
    assert re.findall(r"[0-9a-f]{64}", chinese) == re.findall(r"[0-9a-f]{64}", english)
    assert re.findall(r"```yaml.*?```", chinese, re.DOTALL) == re.findall(r"```yaml.*?```", english, re.DOTALL)
    assert done.err.isascii() or not re.search(r"[\u4e00-\u9fff]", done.err)  # the terminal keeps to English


def test_a_language_that_nobody_wrote_is_refused(source, zooconv):
    assert zooconv("convert", source.name, "--lang", "tlh").code == 2
