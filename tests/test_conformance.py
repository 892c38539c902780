"""The test kit passes what is right, and names what is wrong, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT
from toy import PLAIN, SEPARATE, TOY, Config

from zooconv import CheckFailed, UsageError, cat, keep, merge, plugins, rename
from zooconv.testing import assert_family
from zooconv.testing.conformance import Check, NotChecked, checks, toy
from zooconv.testing.mutation import mutants
from zooconv.testing.proofs import read_page
from zooconv.testing.prove import main, prove
from zooconv.zoo import tables

FAMILIES = [family for family in plugins.families() if not family.members]
WITH_MODELS = {table.family for table in tables()}
ALL = [(family, check) for family in FAMILIES for check in checks(family)]


EXCUSED = [
    (lambda family: family.name not in WITH_MODELS, "models", "it has no zoo.toml"),
    (lambda family: not family.upstreams, "computes what", "it names no upstream"),
    (lambda family: family.name == "eva02", "layout glee: changed", "not of 14 x 14 patches"),
    (lambda family: family.name == "vit", "layout uninext-vit: changed", "made for patches of 16 pixels"),
]


@pytest.mark.parametrize(("family", "check"), ALL, ids=lambda x: x.title if isinstance(x, Check) else x.name)
def test_every_family_here_satisfies(family, check):
    excuse = next((why for name, title, why in EXCUSED if check.title.startswith(title) and name(family)), None)
    if excuse:
        with pytest.raises(NotChecked, match=excuse):
            check.run()
    else:
        check.run()


def test_a_strangers_family_is_checked_in_one_line(install):
    install("toy")
    outcomes = assert_family(TOY)
    assert {o.status for o in outcomes if "zoo" not in o.why} == {"ok"}


# -- what the kit must find --------------------------------------------------------------------------------------------


def with_rules(*rules):
    return {"dialects": [replace(SEPARATE, rules=list(rules))]}


REST = SEPARATE.rules[2:]
QKV, MIX = SEPARATE.rules[:2]
BROKEN = {
    "a name that no file can spell": ({"name": "To y"}, "not names: ['To y']"),
    "two tensors of one name": ({"tensors": lambda config: [*TOY.tensors(config), *TOY.tensors(config)]},
                                "tensors() names mix.weight twice"),
    "a config that is not read back": ({"infer": lambda shapes: Config(3)},
                                      "infer() reads Config(dim=3, patch=16, scaled=False), of Config("),
    "two tensors that become one": (with_rules(
        QKV, MIX, rename("norm", "norm.weight"), rename("norm", "norm.bias"), *keep("patch.{wb}")),
        "norm.weight and norm.bias both become norm"),
    "a tensor without a rule": (with_rules(QKV, *REST), "no rule has mix.weight on its right side"),
    "parts in an order that is not undone": (with_rules(
        merge(["q.{wb}", "k.{wb}"], "qkv.{wb}", cat(axis=0)), MIX, *REST), "k.weight (6x4 given, 4x4 wanted)"),
    "a layout without a place for a tensor": ({"layouts": [replace(PLAIN, rules=PLAIN.rules[1:])]}, "patch.weight"),
    "a module that is not the table": ({"backbone": "toy:other_backbone"}, "weight: absent in the table, 2x2 in the"),
    "another function": ({"upstreams": {"toy": "toy:Mistaken"}}, "not the same function: relative differences mixed"),
    "no layout at all": ({"layouts": []}, "it has no layout"),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_a_broken_family_is_told_what_is_wrong(install, monkeypatch, flaw):
    install("toy")
    changes, told = BROKEN[flaw]
    broken = replace(TOY, **changes)
    monkeypatch.setattr("toy.TOY", broken)
    with pytest.raises(AssertionError) as caught:
        assert_family(broken)
    assert told in str(caught.value)


def test_a_family_that_is_not_installed_is_told_how(monkeypatch):
    with pytest.raises(AssertionError, match=r"pip install -e \."):
        assert_family(TOY)


def test_a_heavy_import_is_found(work, install, monkeypatch):
    (work / "heavy.py").write_text("import numpy\nfrom toy import *\nfrom dataclasses import replace\n"
                                   "def tensors(config):\n    yield from TOY.tensors(config)\n"
                                   "FAMILY = replace(TOY, tensors=tensors)\n")
    monkeypatch.syspath_prepend(work)
    monkeypatch.setenv("PYTHONPATH", f"{work}:{Path(__file__).parent}")
    import heavy

    with pytest.raises(AssertionError, match="importing heavy imports numpy; import them inside functions"):
        next(iter(checks(heavy.FAMILY))).run()


def test_an_upstream_may_bring_a_toy_of_its_own(install, work, monkeypatch):
    install("toy")
    particular = replace(TOY, upstreams={"toy": "toy:Particular"})
    monkeypatch.setattr("toy.TOY", particular)
    assert {o.status for o in assert_family(particular) if "zoo" not in o.why} == {"ok"}
    with pytest.raises(UsageError, match="cannot build this Toy"):
        prove(particular, TOY.toy, "toy", work)


def test_a_dialect_may_bring_a_toy_of_its_own():
    """Where it has names for a part of the family alone, that part is what it is tried on."""
    narrow = Config(dim=6)
    assert toy(TOY) == toy(TOY, SEPARATE) == TOY.toy != narrow
    own = replace(SEPARATE, toy=narrow)
    assert toy(TOY, own) == narrow
    assert str(own) == str(SEPARATE)  # which the rules digest is made of


def test_what_cannot_be_checked_is_said(install, monkeypatch):
    install("toy")
    poor = replace(TOY, upstreams={"toy": "toy:Absent"})
    monkeypatch.setattr("toy.TOY", poor)
    told = {o.title: o.why for o in assert_family(poor) if o.status == "not checked"}
    assert told["computes what toy computes, and wrong conversions are caught"] == "no_such_package is not installed"


def test_a_layout_that_refuses_the_toy_is_not_asked_to_hold_it(install, monkeypatch):
    install("toy")
    picky = replace(TOY, layouts=[PLAIN, replace(PLAIN, names=("picky",), refuses=lambda config: "it is too small")])
    monkeypatch.setattr("toy.TOY", picky)
    (road,) = [check for check in checks(picky) if "whole road" in check.title]
    road.run()
    with pytest.raises(AssertionError, match="no layout can be made of it"):
        next(c for c in checks(replace(picky, layouts=picky.layouts[1:])) if "whole road" in c.title).run()


# -- wrong conversions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [TOY, *(pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES if f.upstreams)],
                         ids=lambda f: f.name)
def test_every_wrong_conversion_is_caught_and_none_of_them_is_the_right_one(family, install, work, capsys):
    if family is TOY:
        install("toy")
    against = next(iter(family.upstreams))
    parity, faults, score = prove(family, family.toy, against, work)
    with capsys.disabled():
        print(f"\n{family.title} against {against}: {score.text}")
    print(*(f"{mutant}, by {how}" for mutant, how in score.killed), sep="\n")
    assert (parity.passed, faults, score.survivors, score.unreached) == (True, [], [], [])
    assert score.total > 20


def test_kinds_of_mistakes_that_only_some_families_allow_are_made(install):
    install("toy")
    from zooconv.testing.checkpoints import lively_weights

    made = {mutant.kind for mutant in mutants(TOY, lively_weights(TOY, TOY.toy))}
    assert {"op forgotten", "parts in the wrong order", "thirds in the wrong order", "transposed"} <= made


def test_a_proof_that_does_not_see_far_says_what_it_did_not_see(install, work, monkeypatch):
    install("toy")
    shallow = replace(TOY, upstreams={"toy": "toy:Shallow"})
    monkeypatch.setattr("toy.TOY", shallow)
    plugins_forgotten()
    parity, _, score = prove(shallow, TOY.toy, "toy", work)
    assert parity.passed
    assert parity.skipped == {"mixed": "it is not shown"}
    assert set(parity.unseen) == {"norm.weight", "norm.bias", "qkv.weight", "qkv.bias", "mix.weight"}
    assert "bias zeroed: qkv.bias" in score.unreached
    assert score.survivors == ["wrong epsilon: every norm's, ten times too large"]


def plugins_forgotten():
    plugins.plugins.cache_clear()


def test_the_command_proves_what_it_is_asked_to(work, capsys):
    assert main(["convnext/toy", "--against", "timm", "--write", "proofs.md"]) == 0
    assert "| ConvNeXt | toy | timm " in (work / "proofs.md").read_text()
    out = capsys.readouterr().out
    assert out.startswith("ConvNeXt · toy · timm 1")
    assert " · holds · 392 of 392 · " in out
    assert "SURVIVED" not in out


@pytest.mark.slow  # each job is a process that imports torch
def test_members_are_proved_side_by_side_as_they_are_one_by_one(work):
    for page, jobs in (("one.md", "1"), ("two.md", "2")):
        assert main(["convnext/atto", "--mutants", "1", "--jobs", jobs, "--write", page]) == 0
    assert (work / "one.md").read_text() == (work / "two.md").read_text()
    assert len(rows(work / "two.md")) >= 4


def rows(page):
    return list(read_page(page).rows)


def test_a_bound_leaves_out_larger_members_and_what_a_page_told_before_stays(install, work, capsys):
    """A toy of two channels has 1,570 parameters, one of four 3,164."""
    install("toy")
    page = work / "proofs.md"
    assert main(["toy", "--largest", "0.002", "--write", str(page)]) == 0
    assert rows(page) == [("Toy", "two", "toy")]
    page.write_text(page.read_text().replace("toy 1.0", "toy 0.9"))
    capsys.readouterr()
    assert main(["toy", "--new", "--write", str(page)]) == 0
    assert [line.split(" · ")[1] for line in capsys.readouterr().out.splitlines() if " · " in line] == ["toy", "four"]
    assert rows(page) == [("Toy", "toy", "toy"), ("Toy", "two", "toy"), ("Toy", "four", "toy")]
    assert "| Toy | two | toy 0.9 |" in page.read_text()
    assert main(["toy/two", "--write", str(page)]) == 0
    assert "| Toy | two | toy 1.0 |" in page.read_text()
    assert len(rows(page)) == 3


def test_a_proof_that_fails_stands_on_the_page_and_in_the_exit_code(install, work, monkeypatch):
    install("toy")
    monkeypatch.setattr("toy.TOY", replace(TOY, upstreams={"toy": "toy:Mistaken"}))
    plugins_forgotten()
    assert main(["toy/two", "--write", "proofs.md"]) == 1
    assert "| Toy | two | toy 1.0 | 1.0e-03 | mixed differs |" in (work / "proofs.md").read_text()


def test_a_proof_that_breaks_off_is_a_failure_and_the_others_are_still_made(install, work, monkeypatch):
    install("toy")

    def broken(family, config, *more, **options):
        if config.dim == 2:
            raise CheckFailed("the weights do not fit")
        return prove(family, config, *more, **options)

    monkeypatch.setattr("zooconv.testing.prove.prove", broken)
    assert main(["toy", "--write", "proofs.md"]) == 1
    text = (work / "proofs.md").read_text()
    assert "| Toy | two | toy | none | FAILED: the weights do not fit |" in text
    assert "| Toy | four | toy 1.0 |" in text


def test_the_page_of_proofs_is_as_a_run_wrote_it():
    page = ROOT / "docs" / "proofs.md"
    assert read_page(page).text == page.read_text()
    assert len(rows(page)) > 60
