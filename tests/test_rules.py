"""A dialect is a table that runs both ways, and says of every tensor what became of it."""

from __future__ import annotations

import pytest

from zooconv import Dialect, cat, cut, drop, keep, linear, merge, rename, same_as, split, together
from zooconv.mapping.expr import Concat, Leaf, Slice

ATTENTION = Dialect("separate", [
    merge(["blocks.{b}.q.{wb}", "blocks.{b}.k.{wb}", "blocks.{b}.v.{wb}"], "blocks.{b}.qkv.{wb}", cat(axis=0)),
    rename("blocks.{b}.fc.{wb}", "blocks.{b}.mlp.{wb}", linear),
    drop("head.{wb}", "classifier"),
])


def leaves(**shapes):
    return {name.replace("__", "."): Leaf(shape, "F32", name.replace("__", ".")) for name, shape in shapes.items()}


QKV = leaves(blocks__0__q__weight=(4, 4), blocks__0__k__weight=(4, 4), blocks__0__v__weight=(4, 4))


def test_a_merge_joins_its_sources_in_the_order_of_the_rule():
    for order in (list(QKV), list(reversed(QKV))):
        made = ATTENTION.to_canonical({name: QKV[name] for name in order}).made
        assert list(made) == ["blocks.0.qkv.weight"]
        joined = made["blocks.0.qkv.weight"]
        assert isinstance(joined, Concat)
        assert [leaf.name for leaf in joined.args] == list(QKV)


def test_a_merge_runs_backwards_as_a_split():
    made = ATTENTION.from_canonical({"blocks.0.qkv.weight": Leaf((12, 4), "F32", "qkv")}).made
    assert {name: (value.start, value.stop) for name, value in made.items() if isinstance(value, Slice)} == {
        "blocks.0.q.weight": (0, 4), "blocks.0.k.weight": (4, 8), "blocks.0.v.weight": (8, 12)}


def test_a_split_rule_runs_forwards_as_a_split():
    fused = Dialect("fused", [split("kv.{wb}", ["k.{wb}", "v.{wb}"], cut(axis=0))])
    made = fused.to_canonical(leaves(kv__weight=(6, 2))).made
    assert {name: value.shape for name, value in made.items()} == {"k.weight": (3, 2), "v.weight": (3, 2)}


def test_a_merge_with_a_source_missing_makes_nothing_and_says_what_is_absent():
    told = ATTENTION.to_canonical({name: QKV[name] for name in list(QKV)[:2]})
    assert told.made == {}
    assert told.incomplete == {"blocks.0.qkv.weight": ("blocks.0.v.weight",)}


def test_every_tensor_is_made_dropped_or_left_over():
    told = ATTENTION.to_canonical(leaves(blocks__1__fc__weight=(8, 4, 1, 1), head__bias=(10,), extra=(1,)))
    assert told.made["blocks.1.mlp.weight"].shape == (8, 4)
    assert told.dropped == {"head.bias": "classifier"}
    assert told.unmatched == ["extra"]


def test_two_sources_of_one_target_are_a_clash():
    two = Dialect("two", [rename("norm.{wb}", "final.{wb}"), rename("norm_pre.{wb}", "final.{wb}")])
    told = two.to_canonical(leaves(norm__weight=(4,), norm_pre__weight=(4,)))
    assert told.clashes == {"final.weight": ("norm_pre.weight",)}


def test_a_shape_without_a_rule_is_told_and_makes_nothing():
    told = ATTENTION.to_canonical(leaves(blocks__0__fc__weight=(8, 4, 3, 3)))
    assert told.made == {}
    assert "8x4x3x3" in told.misshapen["blocks.0.fc.weight"]


def test_a_second_name_is_dropped_and_says_whose_it_is():
    tied = Dialect("tied", [*keep("norm.{wb}"), same_as("norms.3.{wb}", "norm.{wb}")])
    told = tied.to_canonical(leaves(norm__weight=(4,), norms__3__weight=(4,)))
    assert told.same_as == {"norms.3.weight": "norm.weight"}
    assert [str(alias.source) for alias in tied.aliases] == ["norms.3.{wb}"]


def test_the_first_rule_that_can_write_the_other_side_has_the_name():
    shifted = Dialect("shifted", [rename("stem.{wb}", "down.0.{wb}"), rename("layers.{s-1}.{wb}", "down.{s}.{wb}")])
    made = shifted.from_canonical(leaves(down__0__weight=(1,), down__1__weight=(1,))).made
    assert list(made) == ["stem.weight", "layers.0.weight"]


def test_a_rule_that_binds_a_variable_on_one_side_only_has_no_inverse_and_is_refused():
    with pytest.raises(ValueError, match=r"\{b\} stands on one side only"):
        rename("stages.{s}.{b}.gamma", "stages.{s}.gamma")


def test_what_a_dialect_never_holds_is_named_by_templates():
    poor = Dialect("poor", keep("norm.{wb}"), lacks=["token", "blocks.{b}.scale"])
    assert [poor.lacking(name) for name in ("token", "blocks.3.scale", "blocks.3.scales", "norm.bias")] == [
        True, True, False, False]
    assert str(poor).endswith("\nlacks token\nlacks blocks.{b}.scale")


def test_the_canonical_spelling_tells_tables_apart():
    assert str(ATTENTION) != str(Dialect("separate", ATTENTION.rules[:2]))
    assert str(rename("a.{wb}", "b.{wb}", linear)) != str(rename("a.{wb}", "b.{wb}"))


def test_tensors_that_come_together_are_made_together_or_not_at_all():
    norm = Dialect("norm", [together(["{b}_s", "{b}_rm"], ["{b}.weight", "{b}.mean"])])
    whole = {name: Leaf((2,), "F32", name) for name in ("0_s", "0_rm")}
    told = norm.to_canonical(whole)
    assert {name: str(value) for name, value in told.made.items()} == {"0.weight": "0_s", "0.mean": "0_rm"}
    assert norm.from_canonical(told.made).made == whole
    alone = norm.to_canonical({"0_s": whole["0_s"]})
    assert (alone.made, alone.incomplete) == ({}, {"0.weight": ("0_rm",), "0.mean": ("0_rm",)})
