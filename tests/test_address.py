"""Addresses of artifacts, `zoo://NAME@LAYOUT,option…`: what they say, and how they say that they are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zooconv_zoo.convnext import FAMILY

from zooconv import UsageError, fetch_convert
from zooconv.address import parse
from zooconv.names import HubSource, resolve
from zooconv.options import Options
from zooconv.testing.checkpoints import random_weights, save_safetensors, spelled
from zooconv.zoo import zoo

TIMM = next(d for d in FAMILY.dialects if d.name == "timm")

MEANINGS = [
    ("zoo://convnext_tiny_22k", {}, "zoo://convnext_tiny_22k@d2"),
    ("zoo://convnext_tiny_22k@maskdino", {"layout": "maskdino"}, "zoo://convnext_tiny_22k@maskdino"),
    ("zoo://resnet50_tv@fpn,bgr", {"layout": "fpn", "bgr": True}, "zoo://resnet50_tv@fpn,bgr"),
    ("zoo://x,grid=14,patch=16", {"patch": 16, "grid": 14}, "zoo://x@d2,patch=16,grid=14"),
    ("zoo://x@d2,no-fresh,no-ema", {"layout": "d2", "fresh": False, "ema": False}, "zoo://x@d2,no-fresh,no-ema"),
    ("zoo://x,key=teacher.net,allow-nonfinite", {"key": "teacher.net", "allow_nonfinite": True},
     "zoo://x@d2,key=teacher.net,allow-nonfinite"),
]


@pytest.mark.parametrize(("text", "options", "spelled"), MEANINGS, ids=[m[0] for m in MEANINGS])
def test_an_address_says_what_the_flags_say(text, options, spelled):
    address = parse(text)
    assert dict(address.options) == options
    assert str(address) == spelled


def test_a_repository_has_a_revision_and_a_file():
    source = resolve(parse("zoo://someone/net.x@fpn,revision=v1,file=a/b.pth,ema").model, zoo())
    assert source == HubSource("someone/net.x", "v1", ("a/b.pth",), "b")
    assert resolve(parse("zoo://someone/net").model, zoo()).revision == "main"


@given(st.fixed_dictionaries({}, optional={
    "layout": st.sampled_from(["d2", "maskdino", "fpn"]), "patch": st.integers(1, 64), "bgr": st.just(True),
    "fresh": st.just(False), "ema": st.booleans(), "prefix": st.from_regex(r"[a-z]{1,5}\.", fullmatch=True)}))
def test_the_spelling_of_an_address_means_the_same(options):
    words = [f"{k}={v}" if k in ("patch", "prefix") else k if v else f"no-{k}" for k, v in options.items()
             if k != "layout"]
    first = parse("zoo://" + ",".join(["net" + (f"@{options['layout']}" if "layout" in options else ""), *words]))
    again = parse(str(first))
    assert again.chosen == first.chosen == Options(**options)
    assert str(again) == str(first)


WRONG = [
    ("zoo://", "empty"), ("zoo://x@", "empty"), ("zoo://@d2", "empty"), ("zoo://x@d2@fpn", "two layouts"),
    ("zoo://x,,bgr", "empty"), ("zoo://x,brg", "did you mean bgr"), ("zoo://x,bgr=yes", "takes no value"),
    ("zoo://x,patch", "needs a value"), ("zoo://x,patch=big", "whole number"), ("zoo://x,bgr,bgr", "twice"),
    ("zoo://x,ema,no-ema", "two ways"), ("zoo://x,output=y.pth", "no option 'output'"),
    ("zoo://x,layout=d2", "no option 'layout'"), ("zoo://a/b,revision=", "no option 'revision'"),
    ("zoo://convnext_tiny_22k,revision=v1", "of a repository only"),
]


@pytest.mark.parametrize(("text", "why"), WRONG, ids=[w[0] for w in WRONG])
def test_what_is_malformed_is_refused_with_the_reason(text, why):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert why in caught.value.what
    assert caught.value.next


@pytest.mark.parametrize("text", ["zoo://x.pkl", "zoo://x@d2.pkl", "zoo://a/b,file=model.pkl", "zoo://x.pyth"])
def test_an_address_must_not_end_like_a_file_that_detectron2_reads_otherwise(text):
    with pytest.raises(UsageError, match="which some Detectron2 is"):
        parse(text)


def test_the_command_line_takes_an_address_for_the_flags_that_it_stands_for(work, local_hub, zooconv):
    file = save_safetensors(work / "m.safetensors", spelled(TIMM, random_weights(FAMILY, FAMILY.toy)))
    local_hub.add("someone/net", {"model.safetensors": file})
    env = {"HF_ENDPOINT": local_hub.url, "HF_HOME": str(work / "hf")}
    ran = zooconv("fetch-convert", "zoo://someone/net@maskdino,bgr", "-q", "--no-load-check", env=env)
    assert (ran.code, ran.out.strip()) == (0, "weights/net_maskdino_bgr.pth"), ran.err
    flags = zooconv("fetch-convert", "someone/net", "-l", "maskdino", "--bgr", "-q", "--no-load-check", env=env)
    assert (flags.code, flags.out) == (0, ran.out)


def test_what_is_said_twice_must_be_the_same(work):
    with pytest.raises(UsageError, match="says layout fpn, and the command line says layout maskdino"):
        fetch_convert("zoo://convnext_tiny_22k@fpn", layout="maskdino")
    with pytest.raises(UsageError, match="here, a model is wanted"):
        resolve("zoo://convnext_tiny_22k@fpn", zoo())
    assert resolve("zoo://convnext_tiny_22k", zoo()).name == "convnext_tiny_22k"
