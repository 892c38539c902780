"""Blocks that a dialect numbers stage by stage, and the canonical names through all stages: both ways, and exactly."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zooconv import CheckFailed, Dialect, Family, Flat, TensorSpec, drop, keep, rename, same_as
from zooconv.mapping.expr import Leaf
from zooconv.mapping.template import Template
from zooconv.recognise import recognise
from zooconv.testing.checkpoints import lively_weights, spelled

FLAT = Flat("stages.{s}.blocks.{b}.", "blocks.{n}.", by="norm.weight")
RULES = [
    rename("blocks.{n}.ln.{wb}", "blocks.{n}.norm.{wb}"),
    rename("blocks.{n}.shortcut.{wb}", "blocks.{n}.proj.{wb}"),
    rename("stem.{wb}", "patch.{wb}"),
    drop("blocks.{n}.mask", "follows from the size of the image"),
    drop("head.{wb}", "classifier"),
]
STAGED = Dialect("staged", RULES, flat=FLAT)


@dataclass(frozen=True)
class Config:
    """Blocks per stage; the width doubles with each."""

    depths: tuple[int, ...]


def infer(shapes):
    widths = [shapes[f"blocks.{n}.norm.weight"][0] for n in range(len(shapes)) if f"blocks.{n}.norm.weight" in shapes]
    return Config(tuple(widths.count(width) for width in sorted(set(widths))))


def tensors(config):
    yield TensorSpec("patch.weight", (2, 3, 4, 4))
    yield TensorSpec("patch.bias", (2,))
    n = 0
    for s, depth in enumerate(config.depths):
        for b in range(depth):
            yield TensorSpec(f"blocks.{n}.norm.weight", (2 * 2 ** s,))
            yield TensorSpec(f"blocks.{n}.norm.bias", (2 * 2 ** s,))
            if s and b == 0:
                yield TensorSpec(f"blocks.{n}.proj.weight", (2 * 2 ** s, 2 ** s))
                yield TensorSpec(f"blocks.{n}.proj.bias", (2 * 2 ** s,))
            n += 1


FAMILY = Family("stagy", "Stagy", infer, tensors, {}, [STAGED], [])
DEPTHS = st.lists(st.integers(1, 12), min_size=1, max_size=5).map(tuple)


def canonical(depths):
    return {spec.name: Leaf(spec.shape, "F32", spec.name) for spec in tensors(Config(depths))}


@given(DEPTHS)
def test_canonical_names_to_staged_ones_and_back_gives_every_tensor(depths):
    whole = canonical(depths)
    there = STAGED.from_canonical(whole)
    blocks = {f"stages.{s}.blocks.{b}.ln.weight" for s, depth in enumerate(depths) for b in range(depth)}
    assert {name for name in there.made if name.endswith("ln.weight")} == blocks
    assert {name for name in there.made if "shortcut" in name and "weight" in name} == {
        f"stages.{s}.blocks.0.shortcut.weight" for s in range(1, len(depths))}
    assert STAGED.to_canonical(there.made).made == whole


@given(DEPTHS, st.randoms())
def test_the_order_of_a_files_names_does_not_matter(depths, random):
    made = list(STAGED.from_canonical(canonical(depths)).made.items())
    random.shuffle(made)
    assert STAGED.to_canonical(dict(made)).made == canonical(depths)


@given(st.lists(st.tuples(st.integers(0, 6) | st.integers(0, 10**30), st.integers(0, 40)), min_size=1, max_size=30))
def test_a_numbering_of_any_blocks_is_undone(places):
    """Also of a broken or hostile file, with holes in its stages, stages without a block, and numbers without end."""
    names = [f"stages.{s}.blocks.{b}.ln.weight" for s, b in places]
    numbering = FLAT.counted(names)
    assert [numbering.outward(numbering.inward(name)) for name in names] == names
    assert len({numbering.inward(name) for name in names}) == len(set(names))


@pytest.mark.parametrize(("staged", "flat"), [
    ("stem.weight", "stem.weight"), ("stages.0.blocks.0.ln.bias", "blocks.0.ln.bias"),
    ("stages.1.blocks.1.a.b", "blocks.2.a.b"), ("stages.2.blocks.0.x", "blocks.4.x"),
])
def test_numbers_run_through_all_stages(staged, flat):
    numbering = FLAT.counted(["stages.0.blocks.0.x", "stages.2.blocks.0.x", "stages.1.blocks.2.x", "stages.1.norm.x"])
    assert (numbering.inward(staged), numbering.outward(flat)) == (flat, staged)


def test_names_may_count_from_one():
    flat = Flat("layer{s+1}.{b}.", "blocks.{n}.", by="norm.weight")
    assert flat.counted(["layer1.0.x", "layer1.1.x", "layer2.0.x"]).inward("layer2.0.x") == "blocks.2.x"
    assert flat.measured({f"blocks.{n}.norm.weight": Leaf((n // 2 + 1,), "F32", "x") for n in range(4)}).outward(
        "blocks.3.x") == "layer2.1.x"


def test_a_file_that_is_numbered_through_already_is_not_of_this_dialect():
    told = STAGED.to_canonical({name: Leaf((2,), "F32", name) for name in ("blocks.0.ln.weight", "blocks.0.mask")})
    assert (told.made, told.dropped) == ({}, {})
    assert told.unmatched == ["blocks.0.ln.weight", "blocks.0.mask"]


def test_a_dropped_tensor_and_a_second_name_are_told_in_the_files_names():
    tied = Dialect("tied", [*RULES, same_as("blocks.{n}.copy.{wb}", "blocks.{n}.ln.{wb}")], flat=FLAT)
    names = ["stages.0.blocks.0.ln.weight", "stages.1.blocks.0.ln.weight", "stages.1.blocks.0.mask",
             "stages.1.blocks.0.copy.weight"]
    told = tied.to_canonical({name: Leaf((2,), "F32", name) for name in names})
    assert list(told.made) == ["blocks.0.norm.weight", "blocks.1.norm.weight"]
    assert told.dropped[names[2]] == tied.drop_reason(names[2]) == "follows from the size of the image"
    assert told.same_as == {names[3]: names[1]}
    assert [str(alias.source) for alias in tied.aliases] == ["stages.{s}.blocks.{b}.copy.{wb}"]
    assert tied.aliases[0].same_as == Template("stages.{s}.blocks.{b}.ln.{wb}")


def test_the_anchor_is_what_files_have():
    assert str(STAGED.anchor) == "stages.{s}.blocks.{b}.ln.{wb}"
    assert str(Dialect("stem", RULES[2:], flat=FLAT).anchor) == "stem.{wb}"


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_a_file_is_recognised_and_what_it_lacks_is_told_in_its_own_numbers(prefix):
    arrays = spelled(STAGED, lively_weights(FAMILY, Config((1, 3, 2))), prefix)
    specs = {name: TensorSpec(name, array.shape) for name, array in arrays.items()}
    found = recognise(specs, [FAMILY], what="x")
    assert (found.config, found.prefix) == (Config((1, 3, 2)), prefix)
    del specs[f"{prefix}stages.1.blocks.1.ln.bias"]
    specs[f"{prefix}stages.2.blocks.1.extra"] = TensorSpec("extra", (1,))
    specs[f"{prefix}stages.2.blocks.1.shortcut.bias"] = TensorSpec("shortcut", (8,))
    with pytest.raises(CheckFailed) as caught:
        recognise(specs, [FAMILY], what="x")
    missing, extra, other = caught.value.why
    assert missing.split()[:2] == ["missing", f"{prefix}stages.1.blocks.1.ln.bias"]
    assert extra.split()[:2] == ["unexpected", f"{prefix}stages.2.blocks.1.extra"]
    assert "stages.2.blocks.1.shortcut.bias" in other
    assert "would be blocks.5.proj.bias" in other


def test_the_rules_digest_is_made_of_the_numbering_too():
    plain = Dialect("staged", RULES)
    assert str(STAGED).splitlines()[1] == "stages.{s}.blocks.{b}. = blocks.{n}., a stage for each shape of norm.weight"
    assert str(STAGED).replace(str(FLAT) + "\n", "") == str(plain)
    assert str(Dialect("staged", RULES, flat=Flat(FLAT.staged, FLAT.flat, by="norm.bias"))) != str(STAGED)


@pytest.mark.parametrize(("staged", "flat"), [
    ("stages.{s}.", "blocks.{n}."), ("stages.{s}.blocks.{b}.", "blocks."), ("{p:a|b}.{s}.", "blocks.{n}."),
])
def test_a_numbering_that_could_not_be_undone_is_refused_when_it_is_made(staged, flat):
    with pytest.raises(ValueError, match="must have"):
        Flat(staged, flat, by="x")


def test_a_rule_that_uses_a_letter_of_the_stages_for_another_thing_is_refused():
    with pytest.raises(ValueError, match=r"\{b\} stands for something else"):
        Dialect("odd", keep("blocks.{n}.fc{b}.weight"), flat=FLAT).anchor  # noqa: B018
