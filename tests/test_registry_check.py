"""A registry's text, schema and files are checked; and it is exported to tables that mean what they say."""

from __future__ import annotations

import csv
import io
import json

import jsonschema
import pytest
from support import ROOT
from test_registry import put, record

from zooconv import UsageError, convert
from zooconv.registry import Check, Registry
from zooconv.registry.check import check
from zooconv.registry.export import COLUMNS, export

# To ECMA-262, whose patterns a schema has, $ is the end of a text; to Python's re, also before a last newline.
TEXT = (ROOT / "docs" / "registry.schema.json").read_text().replace('$"', '\\\\Z"').replace("$)", "\\\\Z)")
SCHEMA = jsonschema.Draft202012Validator(json.loads(TEXT))
DIGEST = "0" * 64


# -- the published schema and the reader are one -----------------------------------------------------------------------

FULL = {
    "source": {"type": "hf", "repo": "timm/x", "revision": "0" * 40, "url": "https://example.org/x.pth",
               "files": [{"file": "x.pth", "size": 1, "sha256": DIGEST}],
               "content": {"tree": DIGEST, "tensors": 1, "params": 1, "dtypes": {"F32": 1}, "canonical": DIGEST}},
    "converter": {"name": "toy", "dist": "zooconv", "version": "1", "rules": DIGEST, "options": {"bgr": True}},
    "layout": "d2", "changes": ["window 7 to 8"],
    "output": {"format": "pth", "writer": "zooconv pth 1", "files": [{"file": "x_d2.pth", "size": 1, "sha256": DIGEST}],
               "content": {"tree": DIGEST, "tensors": 1, "params": 1, "dtypes": {"F32": 1}, "canonical": DIGEST},
               "dropped": 0, "certificate": DIGEST},
    "checks": {"load": {"status": "pass"}, "finite": {"status": "skip", "nonfinite": ["w"]},
               "parity": {"status": "pass", "against": {"timm": {"status": "pass"}}}},
    "license": "mit", "x-note": "random weights",
}
VALUES = (None, True, -1, 0, 2**53, 1.5, "", "x", "X", "../x", "a/b/c/d", "x\n", DIGEST + "\n", "x" * 600, "pkl",
          "local", "url", "http://example.org", [], [1], ["x"], {}, {"x": 1}, {"F32": 0}, {"F99": 1},
          {"status": "maybe"})


def leaves(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(inner, (*path, key))


def changed(path, change):
    """FULL with one place changed; `change` is given what holds the place, and its key."""
    table = json.loads(json.dumps({"schema": 1, "artifacts": {"x/d2": FULL}}))
    inside = table["artifacts"]
    for key in ("x/d2", *path)[:-1]:
        inside = inside[key]
    change(inside, ("x/d2", *path)[-1])
    return table


def readable(work, table):
    (work / "r.json").write_text(json.dumps(table))
    try:
        Registry.read(work / "r.json")
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("path", list(leaves(FULL)), ids=lambda path: ".".join(map(str, path)) or "record")
def test_what_the_reader_refuses_the_published_schema_refuses_and_nothing_else(work, path):
    tables = [changed(path, lambda inside, key, value=value: inside.__setitem__(key, value)) for value in VALUES]
    tables += [changed(path, lambda inside, key: inside.pop(key)),
               changed((*path, "more"), lambda inside, key: isinstance(inside, dict) and inside.update({key: "x"}))]
    for table in tables:
        assert readable(work, table) == SCHEMA.is_valid(table), json.dumps(table)


@pytest.mark.parametrize("name", ["x", "a/b/c", "a/b/c/d", "A", "a..b", "../x", "/x", "x/", "", "x" * 129, "x y"])
def test_the_two_agree_on_names(work, name):
    table = {"schema": 1, "artifacts": {name: FULL}}
    assert readable(work, table) == SCHEMA.is_valid(table)


# -- check -------------------------------------------------------------------------------------------------------------


def test_a_conversions_registry_is_well_until_its_file_is_not(source, zooconv, work):
    artifact = convert(source, load_check=False).path
    done = zooconv("registry", "check")
    assert (done.code, done.out, done.err) == (0, "", "registry.json is well\n")
    artifact.write_bytes(artifact.read_bytes() + b"x")
    assert "bytes, recorded" in zooconv("registry", "check").out
    artifact.unlink()
    missing = zooconv("registry", "check", "--json")
    assert (missing.code, missing.json) == (1, [{"name": "small/d2", "problem": "no file small_d2.pth"}])
    assert zooconv("registry", "check", "--no-files").code == 0


def test_a_text_that_is_not_canonical_is_told_and_mended(work, zooconv):
    put(work / "registry.json", "b/d2", "a/d2")
    canonical = (work / "registry.json").read_bytes()
    (work / "registry.json").write_text(json.dumps(json.loads(canonical), indent=2))
    told = zooconv("registry", "check", "--no-files")
    assert (told.code, "is not canonical" in told.out) == (1, True)
    assert zooconv("registry", "check", "--no-files", "--fix").code == 0
    assert (work / "registry.json").read_bytes() == canonical


@pytest.mark.parametrize(("text", "word"), [
    ("<<<<<<< ours\n", "marks of a merge conflict"), ("{}", "no schema number"), ("", "Expecting value"),
    ('{"schema": 1, "artifacts": {"a": 1, "a": 2}}', "stands twice"), ("\0" * 100, "Expecting value"),
    ('{"schema": 1, "artifacts": {"a": NaN}}', "NaN is no number"),
])
def test_what_is_no_registry_is_a_finding_and_is_not_mended(work, zooconv, text, word):
    (work / "registry.json").write_text(text)
    (fault,) = check(work / "registry.json")
    assert word in fault.problem
    with pytest.raises(UsageError):
        Registry.read(work / "registry.json")
    assert zooconv("registry", "check", "--fix").code == 2
    assert (work / "registry.json").read_text() == text


def test_two_names_of_one_file_are_a_finding(work):
    registry = Registry(work / "registry.json", {"a/d2": record(), "b/d2": record()})
    registry.path.write_text(registry.text())
    assert [str(fault.problem) for fault in check(registry.path, files=False)] == ["its file x_d2.pth is a/d2's, too"]


def test_a_registry_that_is_not_there_is_a_usage_error(work, zooconv):
    assert zooconv("registry", "check").code == 2
    assert zooconv("registry", "check", "--fix").code == 2
    assert list(work.iterdir()) == []


# -- export ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(work):
    """A registry whose licences are hostile to tables."""
    licences = ["=1+cmd|' /C calc'!A0", "a | b", 'say "mit", twice', "two\nlines", "@x", "-1", "<b>&amp;"]
    registry = Registry(work / "registry.json", {
        f"m{i}/d2": record(license=text, checks={"load": {"status": "pass"}, "finite": {"status": "skip"}})
        for i, text in enumerate(licences)})
    registry.path.write_text(registry.text())
    return registry, licences


def test_a_csv_is_read_back_and_no_cell_is_a_formula(odd):
    registry, licences = odd
    rows = list(csv.DictReader(io.StringIO(export(registry, "csv"))))
    assert [row["licence"].removeprefix("'") for row in rows] == licences
    assert {value[0] for row in rows for value in row.values()} & set("=+-@") == set()
    assert rows[0]["checks"] == "finite skip, load pass"
    assert (rows[0]["size"], rows[0]["sha256"], rows[0]["source"]) == ("1", DIGEST, "x.pth")


def test_a_markdown_table_has_the_same_cells_in_every_row(odd):
    import re

    lines = export(odd[0], "md").splitlines()
    assert len(lines) == 2 + len(odd[1])
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(COLUMNS) + 1}
    assert "\\<b\\>&amp;amp;" in lines[-1]


def test_export_names_the_commit_and_writes_a_file(work, zooconv):
    registry = Registry(work / "registry.json", {"x/d2": record(source=FULL["source"], checks={
        "parity": Check(status="pass", against={"timm": {"status": "pass"}}).model_dump(exclude_none=True)})})
    registry.path.write_text(registry.text())
    done = zooconv("registry", "export", "--format", "csv", "-o", "table.csv")
    assert (done.code, done.out, done.err) == (0, "", "wrote table.csv: 1 artifacts\n")
    (row,) = csv.DictReader((work / "table.csv").read_text().splitlines())
    assert row["source"] == f"timm/x@{'0' * 40}:x.pth"
    assert zooconv("registry", "export", "--json").json[0] == row | {"size": 1}
