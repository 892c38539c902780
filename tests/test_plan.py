"""A plan is proved from headers alone: nothing lost, nothing invented, everything undone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from zooconv import CheckFailed, Dialect, Family, Fresh, Layout, TensorSpec, cat, drop, group_order, keep, merge, rename
from zooconv.mapping.expr import Fill, ShapeError, evaluate, leaves
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.zoo import zoo

# A toy transformer block, to have merges and reorderings in one small family.
TABLE = [TensorSpec("qkv.weight", (12, 4)), TensorSpec("qkv.bias", (12,)), TensorSpec("mix.weight", (4, 8)),
         TensorSpec("norm.weight", (4,))]
CANONICAL = keep("qkv.{wb}", "mix.weight", "norm.weight")
SEPARATE = Dialect("separate", [
    merge(["q.{wb}", "k.{wb}", "v.{wb}"], "qkv.{wb}", cat(axis=0)),
    rename("mixer", "mix.weight", group_order(1, (0, 2, 1, 3))),
    rename("norm.weight", "norm.weight"),
    drop("head.{wb}", "classifier"),
])
PLAIN = Layout(("plain",), "backbone.", CANONICAL, "toy")
TOY = Family("toy", "Toy", lambda shapes: (), lambda config: TABLE, {"toy": ()}, [SEPARATE], [PLAIN])


def source(**changes):
    shapes = {f"{part}.weight": (4, 4) for part in "qkv"} | {f"{part}.bias": (4,) for part in "qkv"}
    shapes |= {"mixer": (4, 8), "norm.weight": (4,), "head.weight": (10, 4)} | changes
    return {name: TensorSpec(name, shape) for name, shape in shapes.items() if shape}


def with_op(op):
    """The dialect with another op for its mixer."""
    return replace(SEPARATE, rules=[replace(r, op=op) if str(r).startswith("mixer") else r for r in SEPARATE.rules])


def planned(layout=PLAIN, dialect=SEPARATE, **options):
    return make_plan(fit(TOY, dialect, source()), layout, **options)


def test_every_source_tensor_is_used_once_or_dropped_with_a_reason():
    plan = planned()
    used = [leaf.name for move in plan.moves for leaf in leaves(move.value)]
    assert sorted([*used, *plan.dropped]) == sorted(source())
    assert plan.dropped == {"head.weight": "classifier"}


def test_every_target_tensor_is_made_once_under_the_mount_in_the_tables_order():
    assert [(t.name, t.shape) for t in planned().targets] == [(f"backbone.{s.name}", s.shape) for s in TABLE]


def test_what_a_layout_omits_is_dropped_with_its_reason():
    lean = replace(PLAIN, omit={"norm.weight": "this one has no norm"})
    plan = planned(lean)
    assert plan.dropped["norm.weight"] == "this one has no norm"
    assert "backbone.norm.weight" not in {t.name for t in plan.targets}


def test_what_a_layout_adds_is_filled_and_no_fresh_leaves_it_out():
    rich = replace(PLAIN, fresh=lambda config: [Fresh("gain", (3,), 1.0)])
    assert planned(rich).moves[-1].value == Fill((3,), "F32", 1.0)
    assert planned(rich).fresh == ["backbone.gain"]
    assert planned(rich, fresh=False).fresh == []


COUNTING = replace(PLAIN, fresh=lambda config: [Fresh("steps", (), 7, "I64"), Fresh("gain", (3,), 1.0)])


def test_a_layout_may_add_a_counter_which_comes_and_goes_whatever_it_has_counted():
    plan = planned(COUNTING)
    assert [t for t in plan.targets if t.name == "backbone.steps"] == [TensorSpec("backbone.steps", (), "I64")]
    assert evaluate(plan.moves[-2].value).view("<i8") == 7
    there = {t.name: t for t in plan.targets}
    carried = make_plan(fit(TOY, COUNTING.body, there, "backbone.", COUNTING), COUNTING)
    assert str({m.target.name: m.value for m in carried.moves}["backbone.steps"]) == "backbone.steps"
    left = make_plan(fit(TOY, COUNTING.body, there, "backbone.", COUNTING), PLAIN)
    assert list(left.known) == ["backbone.gain"]  # what was learned is looked after, what was counted is not
    assert "counter" in left.dropped["backbone.steps"]


def test_a_tensor_of_another_kind_is_not_what_a_layout_adds():
    there = {t.name: t for t in planned(COUNTING).targets} | {"backbone.steps": TensorSpec("backbone.steps", (), "F32")}
    found = fit(TOY, COUNTING.body, there, "backbone.", COUNTING)
    assert [str(p) for p in found.problems] == ["unexpected  backbone.steps"]


@pytest.mark.parametrize(("value", "dtype"), [(0.5, "I64"), (2**53, "I64"), (float("inf"), "I64"), (1, "U8")])
def test_a_start_value_that_its_dtype_cannot_hold_is_refused(value, dtype):
    with pytest.raises(ShapeError, match="everywhere"):
        _ = Fresh("steps", (), value, dtype).start


def test_a_layout_that_forgets_a_tensor_is_refused_by_name():
    with pytest.raises(CheckFailed) as caught:
        planned(replace(PLAIN, rules=CANONICAL[:-1]))
    assert caught.value.why == ("unplaced    norm.weight  (no rule of the layout has a place for it)",)


def test_a_layout_refuses_a_member_that_its_class_cannot_hold_with_the_reason():
    picky = replace(PLAIN, refuses=lambda config: "it has no depth" if config == () else None)
    with pytest.raises(CheckFailed, match="layout plain cannot hold this Toy") as caught:
        planned(picky)
    assert caught.value.why == ("it has no depth",)
    assert planned(replace(PLAIN, refuses=lambda config: None)).targets


def test_a_layout_that_splits_undoes_the_merge_and_moves_each_part_alone():
    split = replace(PLAIN, rules=SEPARATE.rules[:3])
    plan = planned(split)
    assert {m.target.name: str(m.value) for m in plan.moves}["backbone.q.weight"] == "q.weight"


def test_an_op_that_is_not_undone_by_its_inverse_is_refused():
    """The control of the proof: an op whose way back is not the way back."""
    with pytest.raises(CheckFailed) as caught:
        planned(dialect=with_op(Lying(group_order(1, (0, 2, 1, 3)))))
    assert caught.value.why[0].startswith("not undone  mixer")


class Lying:
    """Runs an op forwards, and claims that the way back is to do nothing."""

    def __init__(self, op):
        self.op = op

    def forward(self, args, count):
        return self.op.forward(args, count)

    def backward(self, args, count):
        return args

    def __str__(self):
        return "lying"


@pytest.mark.parametrize(("changes", "kind"), [
    ({"q.weight": None}, "missing"), ({"extra": (1,)}, "unexpected"), ({"mixer": (4, 7)}, "shape"),
    ({"norm.weight": (5,)}, "shape"),
])
def test_a_fit_that_is_not_exact_says_what_is_in_the_way(changes, kind):
    assert kind in {problem.kind for problem in fit(TOY, SEPARATE, source(**changes)).problems}


def test_the_rules_digest_changes_with_anything_that_decides_which_bytes_go_where():
    base = planned().rules
    variants = [
        planned(replace(PLAIN, mount="net.")), planned(replace(PLAIN, fresh=lambda config: [Fresh("gain", (3,), 1.0)])),
        planned(replace(PLAIN, fresh=lambda config: [Fresh("gain", (3,), 1.0, "I64")])),
        planned(replace(PLAIN, omit={"norm.weight": "gone"})),
        planned(dialect=with_op(group_order(1, (0, 1, 2, 3)))),
    ]
    assert len({base, *(plan.rules for plan in variants)}) == 6


def test_the_zoo_names_only_variants_that_its_families_know():
    from zooconv.plugins import family

    assert all(model.variant in family(model.family).variants for model in zoo().models)


@pytest.mark.parametrize("name", ["k.weight2", "1.k.weight"])
def test_a_stranger_is_never_passed_over(name):
    read = fit(TOY, SEPARATE, source() | {name: TensorSpec(name, (4, 4))})
    assert [(p.kind, p.name) for p in read.problems] == [("unexpected", name)]


def test_a_part_without_the_others_is_a_stranger_too():
    """A key whose query and value are missing belongs to no tensor of the table: it must not go without a word."""
    numbered = merge([f"{{n}}.{p}.{{wb}}" for p in "qkv"], "qkv{n}.{wb}", cat(axis=0))
    extra = Dialect("numbered", [numbered, *SEPARATE.rules])
    read = fit(TOY, extra, source() | {"7.k.weight": TensorSpec("7.k.weight", (4, 4))})
    assert [str(p) for p in read.problems] == [
        "unexpected  7.k.weight  (means nothing without 7.q.weight, 7.v.weight)"]


def test_a_header_that_implies_more_tensors_than_a_file_could_hold_is_not_followed():
    endless = replace(TOY, tensors=lambda config: (TensorSpec(f"t{n}", (1,)) for n in itertools.count()))
    (problem,) = fit(endless, SEPARATE, source()).problems
    assert (problem.kind, "more than" in problem.detail) == ("unreadable", True)
