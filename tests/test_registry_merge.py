"""Registries of several writers become one: whatever the order, without loss, and through git itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_registry import RECORD, put, record

from zooconv import CheckFailed, UsageError
from zooconv.registry import Check, Registry
from zooconv.registry.driver import install, merge_files, uninstall
from zooconv.registry.merge import three_way, union

HERE = Path("/registries/here")


def named(name, **changes):
    file = {"file": f"{name.replace('/', '_')}.pth", "size": 1, "sha256": "0" * 64}
    return record(output=RECORD["output"] | {"files": [file]}, **changes)


# -- any registries: every one of these is a way in which a record of one artifact may come to differ ------------------

OUTCOMES = st.sampled_from([{"status": "pass", "max_abs": 0.0}, {"status": "fail", "max_abs": 2.5}])
CHECKS = st.fixed_dictionaries({}, optional={
    "load": st.sampled_from([Check(status="pass"), Check(status="skip")]),
    "parity": st.one_of(st.just(Check(status="skip")),
                        st.dictionaries(st.sampled_from(["timm", "transformers"]), OUTCOMES, min_size=1).map(
                            lambda against: Check(status="fail" if any(o["status"] == "fail" for o in against.values())
                                                  else "pass", against=against)))})
OWN = st.fixed_dictionaries({}, optional={"x-note": st.sampled_from(["random weights", "of the lab"])})
NAMES = [f"{model}/{layout}" for model in "abc" for layout in ("d2", "fpn")]


def registries(licences=("mit",)):
    def one(name):
        return st.builds(lambda licence, checks, own: named(name, license=licence, **own).model_copy(
            update={"checks": checks}), st.sampled_from(licences), CHECKS, OWN)

    return st.fixed_dictionaries({}, optional={name: one(name) for name in NAMES}).map(
        lambda records: Registry(HERE / "registry.json", records))


def text(*given):
    try:
        return union(given, HERE).text()
    except CheckFailed:
        return None


@given(registries(("mit", "apache-2.0")), registries(("mit", "apache-2.0")))
def test_the_order_of_two_does_not_matter(a, b):
    assert text(a, b) == text(b, a)


@given(registries(), registries(), registries())
def test_the_order_of_merging_does_not_matter(a, b, c):
    whole = text(a, b, c)
    assume(whole is not None)
    assert union([union([a, b], HERE), c], HERE).text() == whole
    assert union([a, union([b, c], HERE)], HERE).text() == whole


@given(registries())
def test_a_registry_merged_with_itself_or_with_nothing_is_itself(a):
    assert text(a) == text(a, a) == text(a, Registry(HERE / "registry.json", {})) == a.text()


@given(registries(), registries())
def test_no_record_no_outcome_and_no_note_is_lost(a, b):
    assume(text(a, b) is not None)
    merged = union([a, b], HERE).records
    for name, one in [*a.records.items(), *b.records.items()]:
        assert (merged[name].source, merged[name].output, merged[name].license) == (one.source, one.output, one.license)
        assert one.model_extra.items() <= merged[name].model_extra.items()
        for check, found in one.checks.items():
            kept = merged[name].checks[check]
            assert found.status == "skip" or (found.against or {}).items() <= (kept.against or {}).items()
            assert found.status in ("skip", kept.status) or "fail" in (found.status, kept.status)


@given(registries(), registries(), st.sampled_from(["first", "last"]))
def test_a_preference_settles_everything(a, b, prefer):
    merged = union([a, b], HERE, prefer=prefer)
    assert merged.records.keys() == a.records.keys() | b.records.keys()


@given(registries(("mit", "bsd")), registries(("mit", "bsd")))
def test_of_two_sides_the_one_that_did_not_change_gives_way(base, ours):
    for sides in ((base.records, ours.records, base.records), (base.records, base.records, ours.records)):
        assert three_way(*sides) == (dict(sorted(ours.records.items())), [])


@given(registries(("mit", "bsd")), registries(("mit", "bsd")), registries(("mit", "bsd")))
def test_the_two_sides_are_equal_before_the_ancestor(base, a, b):
    (left, one), (right, other) = three_way(base.records, a.records, b.records), three_way(
        base.records, b.records, a.records)
    assert left == right
    assert [c.name for c in one] == [c.name for c in other]


# -- what the cells are for --------------------------------------------------------------------------------------------


def parity(one, **against):
    status = "fail" if any(o["status"] == "fail" for o in against.values()) else "pass"
    return one.model_copy(update={"checks": one.checks | {"parity": Check(status=status, against=against)}})


def test_parity_that_each_side_measured_is_in_the_union():
    one = named("a/d2")
    timm, other = parity(one, timm={"status": "pass"}), parity(one, transformers={"status": "fail"})
    merged, conflicts = three_way({"a/d2": one}, {"a/d2": timm}, {"a/d2": other})
    assert (merged["a/d2"].checks["parity"].against, conflicts) == (
        {"timm": {"status": "pass"}, "transformers": {"status": "fail"}}, [])
    assert merged["a/d2"].checks["parity"].status == "fail"


def test_a_side_that_converted_again_and_one_that_measured_are_in_conflict():
    """The measurement is of bytes that are no longer there."""
    base, again = named("a/d2"), named("a/d2", layout="fpn")
    merged, (conflict,) = three_way({"a/d2": base}, {"a/d2": again}, {"a/d2": parity(base, timm={"status": "pass"})})
    assert merged == {}
    assert str(conflict) == "a/d2: layout: fpn | d2"


def test_what_one_side_removed_is_gone_unless_the_other_changed_it():
    base, changed = {"a/d2": named("a/d2")}, {"a/d2": named("a/d2", license="mit")}
    assert three_way(base, {}, base) == three_way(base, base, {}) == ({}, [])
    assert [str(c) for c in three_way(base, changed, {})[1]] == ["a/d2: theirs removed it, the other side changed it"]


def test_two_names_of_one_file_are_a_conflict():
    a, b = named("a/d2"), named("a/d2")
    with pytest.raises(CheckFailed, match="is the file of a/d2, too"):
        union([Registry(HERE / "r.json", {"a/d2": a}), Registry(HERE / "s.json", {"b/d2": b})], HERE)
    last = union([Registry(HERE / "r.json", {"a/d2": a}), Registry(HERE / "s.json", {"b/d2": b})], HERE, prefer="last")
    assert list(last.records) == ["b/d2"]


# -- by the command line -----------------------------------------------------------------------------------------------


def test_files_are_named_as_the_merged_registry_sees_them(work, zooconv):
    for folder in ("one", "two"):
        (work / folder).mkdir()
        put(work / folder / "registry.json", f"{folder}/d2")
    assert zooconv("registry", "merge", "one/registry.json", "two/registry.json", "-o", "registry.json", "-q").code == 0
    merged = Registry.read(work / "registry.json")
    assert {n: r.path for n, r in merged.records.items()} == {"one/d2": "one/one_d2.pth", "two/d2": "two/two_d2.pth"}
    refused = zooconv("registry", "merge", "one/registry.json", "two/registry.json", "-o", "one/registry.json")
    assert (refused.code, "../two/two_d2.pth is no name" in refused.err) == (2, True)
    assert f"-o {work.resolve()}/registry.json" in refused.err
    assert list(Registry.read(work / "one" / "registry.json").records) == ["one/d2"]


def test_conflicts_are_told_all_at_once_and_nothing_is_written(work, zooconv):
    put(work / "a.json", "x/d2", "y/d2", "z/d2")
    other = Registry.read(work / "a.json")
    for name in ("x/d2", "y/d2"):
        other.records[name] = other.records[name].model_copy(update={"license": "mit"})
    (work / "b.json").write_text(other.text())
    done = zooconv("registry", "merge", "a.json", "b.json", "-o", "out.json")
    assert (done.code, done.out, (work / "out.json").exists()) == (1, "", False)
    assert "x/d2: license: unknown | mit" in done.err
    assert "y/d2: license: unknown | mit" in done.err
    for prefer, licence in (("first", "unknown"), ("last", "mit")):
        printed = zooconv("registry", "merge", "a.json", "b.json", "--prefer", prefer)
        assert {r["license"] for n, r in printed.json["artifacts"].items() if n != "z/d2"} == {licence}


def test_a_registry_that_is_not_merged_is_not_overwritten(work, zooconv):
    put(work / "a.json", "a/d2")
    put(work / "b.json", "b/d2")
    before = (work / "b.json").read_bytes()
    assert zooconv("registry", "merge", "a.json", "-o", "b.json").code == 2
    assert zooconv("registry", "merge", "a.json", "nothing.json").code == 2
    assert (work / "b.json").read_bytes() == before
    assert zooconv("registry", "merge", "a.json", "b.json", "-o", "b.json", "--json").json["artifacts"] == [
        "a/d2", "b/d2"]


# -- git ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def git(work):
    """git in a repository whose registry has one artifact; and what it answered."""
    def run(*arguments):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *identity, *arguments], cwd=work, capture_output=True, text=True, check=False)

    run("init", "-q", "-b", "main")
    put(work / "registry.json", "m/d2")
    run("add", "."), run("commit", "-qm", "one")
    return run


def branched(git, work):
    """Two branches that add neighbouring records."""
    for branch, name in (("ours", "n/d2"), ("theirs", "o/d2")):
        git("checkout", "-q", "-b", branch, "main")
        put(work / "registry.json", name)
        git("commit", "-qam", branch)


WAYS = [("merge", "-q", "ours"), ("rebase", "-q", "ours"), ("cherry-pick", "ours")]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_neighbouring_additions_merge_with_the_driver_and_conflict_without(git, work, way):
    branched(git, work)
    assert git(*way).returncode != 0
    assert "<<<<<<<" in (work / "registry.json").read_text()
    git(way[0], "--abort")

    install(work / "registry.json")
    assert git(*way).returncode == 0
    merged = Registry.read(work / "registry.json")
    assert list(merged.records) == ["m/d2", "n/d2", "o/d2"]
    assert (work / "registry.json").read_text() == merged.text()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_a_true_conflict_is_gits_conflict_and_either_side_of_it_is_a_registry(git, work, way):
    install(work / "registry.json")
    for branch, licence in (("ours", "mit"), ("theirs", "bsd")):
        git("checkout", "-q", "-b", branch, "main")
        registry = Registry.read(work / "registry.json")
        registry.put("m/d2", registry.records["m/d2"].model_copy(update={"license": licence}))
        registry.put(f"{branch}/d2", named(f"{branch}/d2"))
        (work / "registry.json").write_text(registry.text())
        git("commit", "-qam", branch)
    done = git(*way)
    assert done.returncode != 0
    assert "m/d2: license: " in done.stderr
    assert git("diff", "--name-only", "--diff-filter=U").stdout.split() == ["registry.json"]
    marked = (work / "registry.json").read_text()
    with pytest.raises(UsageError, match="marks of a merge conflict"):
        Registry.read(work / "registry.json")
    assert {resolved(marked, side).records["m/d2"].license for side in ("ours", "theirs")} == {"mit", "bsd"}
    assert list(resolved(marked, "ours").records) == ["m/d2", "ours/d2", "theirs/d2"]


def resolved(text, side):
    """A text with marks, of which one side is kept."""
    kept, keeping = [], True
    for each in text.splitlines(keepends=True):
        if each.startswith(("<<<<<<<", "=======", ">>>>>>>")):
            keeping = {"<": side == "ours", "=": side == "theirs", ">": True}[each[0]]
        elif keeping:
            kept.append(each)
    with NamedTemporaryFile("w", suffix=".json") as file:
        file.write("".join(kept))
        file.flush()
        return Registry.read(Path(file.name))


@settings(max_examples=30)
@given(registries(("mit", "bsd")), registries(("mit", "bsd")), registries(("mit", "bsd")))
def test_either_side_of_any_conflict_is_a_registry_without_loss(tmp_path_factory, base, ours, theirs):
    folder = tmp_path_factory.getbasetemp()
    for name, registry in (("o", base), ("a", ours), ("b", theirs)):
        (folder / name).write_text(registry.text())
    conflicts = {c.name for c in merge_files(folder / "o", folder / "a", folder / "b")}
    merged, _ = three_way(base.records, ours.records, theirs.records)
    for side, records in (("ours", ours.records), ("theirs", theirs.records)):
        kept = resolved((folder / "a").read_text(), side).records
        assert kept == merged | {name: records[name] for name in conflicts & records.keys()}


def test_the_driver_is_installed_once_and_taken_out_whole(git, work, zooconv):
    (work / ".gitattributes").write_text("*.pth binary\n")
    config = (work / ".git" / "config").read_text()
    for _ in range(2):
        assert zooconv("registry", "install-merge-driver").code == 0
    assert (work / ".gitattributes").read_text() == "*.pth binary\n/registry.json merge=zooconv-registry\n"
    assert git("check-attr", "merge", "registry.json").stdout == "registry.json: merge: zooconv-registry\n"
    assert sys.executable in git("config", "merge.zooconv-registry.driver").stdout
    for _ in range(2):
        assert uninstall(work / "registry.json") is not None
    assert (work / ".gitattributes").read_text() == "*.pth binary\n"
    assert (work / ".git" / "config").read_text() == config


def test_outside_a_repository_the_driver_is_refused(work, zooconv):
    done = zooconv("registry", "install-merge-driver", env={"GIT_CEILING_DIRECTORIES": str(work.parent)})
    assert (done.code, "git does not do it" in done.err) == (2, True)
    assert not (work / ".gitattributes").exists()


def test_what_is_no_registry_is_left_to_git_as_it_is(work, zooconv):
    put(work / "a.json", "a/d2")
    (work / "b.json").write_text(json.dumps({"schema": 2, "artifacts": {}}))
    before = (work / "a.json").read_bytes()
    (work / "o.json").touch()
    done = zooconv("registry", "merge-driver", "o.json", "a.json", "b.json")
    assert (done.code, "has schema 2" in done.err, (work / "a.json").read_bytes()) == (2, True, before)
