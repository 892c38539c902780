"""A user's config is changed where the weights need it, and nowhere else; what would cost accuracy is told."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zooconv import UsageError, convert
from zooconv.d2config.edit import changed
from zooconv.d2config.file import check, fit_to, set_values
from zooconv.d2config.goal import wanted_for
from zooconv.d2config.yaml import read, read_chain

# In the style of a Mask2Former config with its base; the values are those that people come with.
BASE = """\
MODEL:
  BACKBONE:
    FREEZE_AT: 0
    NAME: "build_resnet_backbone"
  WEIGHTS: "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
  PIXEL_MEAN: [123.675, 116.280, 103.530]
  PIXEL_STD: [58.395, 57.120, 57.375]
  RESNETS:
    DEPTH: 50
    STEM_TYPE: "basic"  # not used
    STEM_OUT_CHANNELS: 64
    STRIDE_IN_1X1: False
    OUT_FEATURES: ["res2", "res3", "res4", "res5"]
    # NORM: "SyncBN"
DATASETS:
  TRAIN: ("coco_2017_train",)
SOLVER:
  STEPS: (327778, 355092)
  BASE_LR: 1e-4
INPUT:
  IMAGE_SIZE: 1024
  FORMAT: "RGB"
VERSION: 2
"""
SWIN = """\
# my experiment
_BASE_: base.yaml

MODEL:
  BACKBONE: {NAME: D2SwinTransformer}   # the one of the paper
  SWIN:
    EMBED_DIM:  128      # base
    DEPTHS:
    - 2
    - 2
    - 18   # deep
    - 2
    NUM_HEADS: [4,8,16,32]
    WINDOW_SIZE: 7
    APE: false
  WEIGHTS: 'old.pth'

SOLVER:
    BASE_LR:   0.0001
"""
DEFAULT = """\
_BASE_: "../Base-RCNN-FPN.yaml"
MODEL:
  WEIGHTS: "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
  MASK_ON: True
  BACKBONE:
    NAME: "build_resnet_fpn_backbone"
  RESNETS:
    DEPTH: 50
    OUT_FEATURES: ["res2", "res3", "res4", "res5"]
"""


@pytest.fixture
def swin(work):
    (work / "base.yaml").write_text(BASE)
    (work / "x.yaml").write_text(SWIN)
    return work / "x.yaml"


def costly(found):
    return {one.key: one.why for one in found if one.costs}


def minded(found):
    return {one.key: one.why for one in found if not one.costs}


# -- what is told ------------------------------------------------------------------------------------------------------

BASE_SWIN, BASE_384 = "swin_base_patch4_window7_224_22k", "swin_base_patch4_window12_384"


def test_a_config_that_fits_is_let_be_but_for_the_weights(swin):
    found = check(swin, wanted_for(BASE_SWIN, "mask2former"))
    assert costly(found) == {}
    assert list(minded(found)) == ["MODEL.WEIGHTS"]


def test_another_window_is_told_with_what_it_does_and_the_way_to_have_it(swin):
    found = check(swin, wanted_for(BASE_384, "mask2former"))
    (why,) = costly(found).values()
    assert "Detectron2 skips them all" in why
    assert "zooconv convert --window 7" in why
    assert "absolute positions alone" in minded(found)["MODEL.SWIN.PRETRAIN_IMG_SIZE"]
    assert next(one for one in found if one.costs).place.endswith("x.yaml:14")


def test_the_defaults_of_detectron2_are_told_to_torchvisions_resnet(work):
    (work / "Base-RCNN-FPN.yaml").write_text("MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n")
    (work / "configs").mkdir()
    path = work / "configs" / "x.yaml"
    path.write_text(DEFAULT)
    found = check(path, wanted_for("resnet50.tv_in1k", "fpn"))
    assert costly(found).keys() == {"MODEL.RESNETS.STRIDE_IN_1X1", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD",
                                    "INPUT.FORMAT"}
    assert "30 % off" in costly(found)["MODEL.RESNETS.STRIDE_IN_1X1"]
    assert "red and blue" in costly(found)["INPUT.FORMAT"]
    assert "other order" in costly(found)["MODEL.PIXEL_MEAN"]
    assert {one.place for one in found if one.costs} == {f"{path}, default"}


@pytest.mark.parametrize(("line", "key", "word"), [
    ("BACKBONE: {NAME: D2ConvNeXt}", "MODEL.BACKBONE.NAME", "another class"),
    ("SWIN: {EMBED_DIM: 96}", "MODEL.SWIN.EMBED_DIM", "every tensor of another shape"),
    ("SWIN: {DEPTHS: [2, 2, 6, 2]}", "MODEL.SWIN.DEPTHS", "every tensor of another shape"),
    ("SWIN: {APE: on}", "MODEL.SWIN.APE", "absolute positions"),
    ("SWIN: {OUT_FEATURES: [res3, stage5]}", "MODEL.SWIN.OUT_FEATURES", "no other features"),
    ("PIXEL_MEAN: [0.485, 0.456, 0.406]", "MODEL.PIXEL_MEAN", "scale 0..1"),
    ("PIXEL_MEAN: [103.53, 116.28, 123.675]", "MODEL.PIXEL_MEAN", "other order"),
    ("PIXEL_STD: (1.0, 1.0, 1.0)", "MODEL.PIXEL_STD", "normalised otherwise"),
])
def test_each_pitfall_is_found(swin, line, key, word):
    over = swin.with_name("over.yaml")
    over.write_text(f"_BASE_: x.yaml\nMODEL:\n  {line}\n")
    found = check(over, wanted_for(BASE_SWIN, "mask2former"))
    assert costly(found).keys() == {key}
    assert word in costly(found)[key]
    assert next(one for one in found if one.key == key).place == f"{over}:3"


@pytest.mark.parametrize("line", ["SWIN: {OUT_FEATURES: [res4, res5]}", "PIXEL_MEAN: [123.68, 116.28, 103.53]",
                                  "PIXEL_MEAN: (123.675, 116.28, 103.53)", "SWIN: {DEPTHS: '[2, 2, 18, 2]'}"])
def test_what_means_the_same_is_no_pitfall(swin, line):
    over = swin.with_name("over.yaml")
    over.write_text(f"_BASE_: x.yaml\nMODEL:\n  {line}\n")
    assert costly(check(over, wanted_for(BASE_SWIN, "mask2former"))) == {}


@pytest.mark.parametrize(("norm", "costs", "word"), [
    ("GN", True, "their statistics are lost"), ("SyncBN", False, "accuracy falls"), ("FrozenBN", None, "")])
def test_norms_that_count_or_are_others_are_told(work, norm, costs, word):
    (work / "base.yaml").write_text(BASE)
    (work / "x.yaml").write_text(f"_BASE_: base.yaml\nMODEL:\n  RESNETS:\n    NORM: {norm}\n")
    found = [one for one in check(work / "x.yaml", wanted_for("resnet50.tv_in1k", "maskdino"))
             if one.key == "MODEL.RESNETS.NORM"]
    assert [one.costs for one in found] == ([] if costs is None else [costs])
    assert all(word in one.why for one in found)


def test_a_base_that_is_elsewhere_may_say_what_this_file_does_not(work):
    (work / "x.yaml").write_text("_BASE_: detectron2://x.yaml\nMODEL:\n  PIXEL_STD: [1, 1, 1]\n")
    found = check(work / "x.yaml", wanted_for(BASE_SWIN, "mask2former"))
    assert costly(found).keys() == {"MODEL.PIXEL_STD"}
    assert "may be set in detectron2://x.yaml" in minded(found)["INPUT.FORMAT"]


# -- what is written ---------------------------------------------------------------------------------------------------


def test_only_the_lines_that_the_weights_need_are_changed(swin):
    done = fit_to(swin, wanted_for(BASE_384, "mask2former"))
    assert swin.read_text() == SWIN.replace("WINDOW_SIZE: 7", "WINDOW_SIZE: 12").replace(
        "'old.pth'", f"'zoo://{BASE_384}@mask2former'")
    assert {one.key for one in done.findings if one.written} == {"MODEL.SWIN.WINDOW_SIZE", "MODEL.WEIGHTS"}
    assert costly(check(swin, wanted_for(BASE_384, "mask2former"))) == {}


def test_what_the_base_says_is_overridden_here(swin):
    swin.with_name("base.yaml").write_text(BASE.replace('"RGB"', '"BGR"'))
    fit_to(swin, wanted_for(BASE_SWIN, "mask2former"))
    assert swin.read_text().endswith("    BASE_LR:   0.0001\nINPUT:\n  FORMAT: \"RGB\"\n")
    assert "BGR" in swin.with_name("base.yaml").read_text()


def test_a_list_an_item_a_line_stays_one(swin):
    fit_to(swin, wanted_for("swin_tiny_patch4_window7_224", "mask2former"))
    assert "    - 6   # deep\n" in swin.read_text()
    assert yaml.safe_load(swin.read_text())["MODEL"]["SWIN"]["DEPTHS"] == [2, 2, 6, 2]


def test_nothing_is_written_where_nothing_changes(swin):
    fit_to(swin, wanted_for(BASE_384, "mask2former"))
    before = swin.stat()
    assert fit_to(swin, wanted_for(BASE_384, "mask2former")).diff == ""
    assert (swin.stat().st_mtime_ns, swin.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(p.name for p in swin.parent.iterdir()) == ["base.yaml", "x.yaml", "x.yaml.bak"]


def test_no_backup_is_ever_overwritten(swin):
    for number, name in enumerate(("x.yaml.bak", "x.yaml.bak1", "x.yaml.bak2")):
        before = swin.read_text()
        assert set_values(swin, {"MODEL.WEIGHTS": f"{number}.pth"}).backup == swin.with_name(name)
        assert swin.with_name(name).read_text() == before
    assert swin.with_name("x.yaml.bak").read_text() == SWIN


def test_line_ends_byte_mark_and_permissions_stay(work):
    path = work / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SWIN.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    set_values(path, {"MODEL.WEIGHTS": "new.pth", "INPUT.FORMAT": "RGB"})
    wanted = SWIN.replace("old.pth", "new.pth") + 'INPUT:\n  FORMAT: "RGB"\n'
    assert path.read_bytes() == b"\xef\xbb\xbf" + wanted.replace("\n", "\r\n").encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link(swin):
    link = swin.with_name("link.yaml")
    link.symlink_to(swin)
    set_values(link, {"MODEL.WEIGHTS": "new.pth"})
    assert link.is_symlink()
    assert "new.pth" in swin.read_text()


@pytest.mark.parametrize(("text", "word"), [
    ("MODEL: &m\n  WEIGHTS: a\nOTHER: *m\n", "an anchor"),
    ("MODEL:\n  SWIN: 3\n", "MODEL.SWIN is no mapping"),
    ("a: [1\n", "is no YAML"), ("- a\n", "no Detectron2 config"), ("MODEL: 3\n", "no Detectron2 config"),
    ("_BASE_: x.yaml\n", "is based on itself"), ("_BASE_: gone.yaml\n", "which is not there"),
])
def test_what_cannot_be_changed_alone_is_left_with_the_reason(work, text, word):
    (work / "x.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        fit_to(work / "x.yaml", wanted_for(BASE_SWIN, "mask2former"))
    assert word in "\n".join([refused.value.what, *refused.value.why])
    assert (work / "x.yaml").read_text() == text
    assert [p.name for p in work.iterdir()] == ["x.yaml"]


def test_a_conversion_names_its_file_by_the_same_way(source, work):
    path = work / "x.yaml"
    path.write_text(SWIN)
    convert(source, config=path, load_check=False)
    assert path.read_text() == SWIN.replace("old.pth", "small_d2.pth")
    assert (work / "x.yaml.bak").read_text() == SWIN


# -- whatever stands in it ---------------------------------------------------------------------------------------------

words = st.text("abcXYZ_", min_size=1, max_size=6).filter(lambda word: word.lower() not in ("y", "n"))
spaces = st.integers(1, 3).map(" ".__mul__)
comments = st.one_of(st.just(""), st.text("abc:#[]{}'\" ", max_size=8).map("  # {}".format))
values = st.one_of(
    st.integers(-99, 99).map(str), st.sampled_from(["1e-4", "0.50", "True", "off", "null", "", '"a: b"', "'it''s'",
                                                    "(1, 2)", "[1,2 , 3]", "{A: 1,B:  2}", "plain text", "[]", "{}"]))


@st.composite
def blocks(draw, depth=0, indent=""):
    lines = []
    for key in draw(st.lists(words, min_size=1, max_size=3, unique=True)):
        lines += draw(st.lists(st.sampled_from(["", f"{indent}# remark", "# far left"]), max_size=1))
        comment = draw(comments)
        kind = draw(st.sampled_from(["value", "value", "items", "block"] if depth < 2 else ["value"]))
        if kind == "value":
            lines.append(f"{indent}{key}:{draw(spaces)}{draw(values)}{comment}")
        elif kind == "items":
            inner = indent + draw(st.sampled_from(["", "  "]))
            lines += [f"{indent}{key}:{comment}", *(f"{inner}- {n}{draw(comments)}" for n in range(draw(
                st.integers(1, 3))))]
        else:
            lines += [f"{indent}{key}:{comment}", *draw(blocks(depth + 1, indent + draw(spaces)))]
    return lines


@st.composite
def configs(draw):
    before, after = draw(blocks()), draw(blocks())
    model = draw(st.sampled_from([
        [], ["MODEL:"], ["MODEL: # none yet"], ["MODEL: {}"], ["MODEL: {WEIGHTS: a.pth, MASK_ON: True}  # in one line"],
        ["MODEL:", *draw(blocks(1, "  "))], ["MODEL:", "    WEIGHTS: 'a.pth'   # mine", *draw(blocks(1, "    "))],
        ["MODEL:", "  PIXEL_STD:", "  - 1.0 # one", "  - 1.0", "  WEIGHTS:", *draw(blocks(1, "  "))]]))
    taken, lines = set(), []
    for part in (before, model, after):
        top = {line.split(":")[0] for line in part if line and line[0] not in " #-"}
        if not top & taken:
            lines += part
            taken |= top
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(lines) + draw(st.sampled_from(["", end, end + "# the end" + end]))


NEW = {"MODEL.WEIGHTS": "zoo://x@y", "MODEL.PIXEL_STD": [58.395, 57.12, 57.375], "MODEL.SWIN.APE": False,
       "INPUT.FORMAT": "RGB"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40)
@given(text=configs())
def test_every_other_line_and_every_comment_is_as_it_was(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode())
    new = changed(read(path), NEW)
    loaded, before = yaml.safe_load(new), yaml.safe_load(text) or {}
    assert (loaded["MODEL"]["WEIGHTS"], loaded["INPUT"]["FORMAT"]) == ("zoo://x@y", "RGB")
    assert loaded["MODEL"]["PIXEL_STD"] == NEW["MODEL.PIXEL_STD"]
    for key in before.keys() - {"MODEL"}:
        assert loaded[key] == before[key]
    for key in (before.get("MODEL") or {}).keys() - {"WEIGHTS", "PIXEL_STD"}:
        assert loaded["MODEL"][key] == before["MODEL"][key]
    own = ("WEIGHTS", "PIXEL", "- 1.0", "MODEL: {")
    kept = [line for line in text.splitlines() if not any(word in line for word in own)]
    rest = iter(new.splitlines())
    assert all(line in rest for line in kept), "a line is gone, or stands elsewhere"
    if "\r\n" in text:
        assert "\n" not in new.replace("\r\n", "")
    path.write_bytes(new.encode())
    assert changed(read(path), NEW) == new


def test_the_control_a_dump_by_a_library_is_not_as_it_was(tmp_path):
    """What the test above would find: the usual way of changing YAML."""
    document = yaml.safe_load(SWIN)
    assert [line for line in SWIN.splitlines() if line not in yaml.safe_dump(document).splitlines()]


# -- on the command line -----------------------------------------------------------------------------------------------


def test_checking_exits_with_1_and_writing_mends_it(swin, zooconv):
    arguments = ("config", BASE_384, "-l", "mask2former")
    done = zooconv(*arguments, "--check", swin)
    assert done.code == 1
    assert "x.yaml:14: MODEL.SWIN.WINDOW_SIZE is 7, must be 12" in done.out
    assert swin.read_text() == SWIN
    done = zooconv(*arguments, "--write", swin, "--json")
    data = json.loads(done.out)
    assert data["changed"]
    assert "-    WINDOW_SIZE: 7\n+    WINDOW_SIZE: 12\n" in data["diff"]
    assert Path(data["backup"]).read_text() == SWIN
    assert zooconv(*arguments, "--check", swin).code == 0


def test_the_value_that_counts_is_the_nearest_of_the_chain(swin):
    top = swin.with_name("top.yaml")
    top.write_text("_BASE_: [base.yaml, x.yaml]\nMODEL: {WEIGHTS: top.pth}\n")
    chain = read_chain(top)
    assert (chain.values["MODEL"]["WEIGHTS"], chain.place("MODEL.WEIGHTS")) == ("top.pth", f"{top}:2")
    assert chain.place("MODEL.BACKBONE.NAME") == f"{swin}:5"
    assert chain.place("INPUT.FORMAT").endswith("base.yaml:22")


def test_a_project_that_names_the_file_elsewhere_gets_it_there(swin):
    fit_to(swin, wanted_for(BASE_SWIN, "glee"))
    said = yaml.safe_load(swin.read_text())["MODEL"]
    assert (said["SWIN"]["PRETRAINED_WEIGHT"], said["WEIGHTS"]) == (f"zoo://{BASE_SWIN}@glee", "old.pth")
