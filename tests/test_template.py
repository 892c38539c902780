"""Templates match whole names, and say back what they read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zooconv.mapping.template import Template

LITERALS = st.text("abcxyz._", min_size=1, max_size=6)
FIELDS = st.sampled_from(["{s}", "{b}", "{2*s}", "{2*s+1}", "{s-1}", "{3*b+2}", "{wb}", "{bn}",
                          "{p:weight|bias|gamma}"])


@st.composite
def templates(draw: st.DrawFn) -> Template:
    """Literals and fields in turn, so that no two fields touch."""
    parts = [draw(LITERALS)]
    for _ in range(draw(st.integers(0, 4))):
        parts += [draw(FIELDS), draw(LITERALS)]
    return Template("".join(parts))


@st.composite
def bound(draw: st.DrawFn) -> tuple[Template, dict[str, int | str]]:
    template = draw(templates())
    words = {"wb": ["weight", "bias"], "bn": ["weight", "bias", "running_mean", "running_var"],
             "p": ["weight", "bias", "gamma"]}
    return template, {v: draw(st.sampled_from(words[v]) if v in words else st.integers(1, 999))
                      for v in sorted(template.variables)}


@given(bound())
def test_a_rendered_name_is_read_back_as_the_same_bindings(case):
    template, bindings = case
    name = template.render(bindings)
    assert name is not None
    assert template.match(name) == bindings


@given(templates(), st.text("0123456789abcxyz._wgeihtbsam", max_size=30))
def test_a_matched_name_is_rendered_as_itself(template, name):
    bindings = template.match(name)
    assert bindings is None or template.render(bindings) == name


@given(bound(), st.text("a0.", min_size=1, max_size=3))
def test_a_match_is_anchored_at_both_ends(case, extra):
    template, bindings = case
    name = template.render(bindings)
    for longer in (extra + name, name + extra):
        read = template.match(longer)
        assert read is None or template.render(read) == longer


@pytest.mark.parametrize(("template", "name", "bindings"), [
    ("stages.{s}.blocks.{b}.fc{n}.{wb}", "stages.2.blocks.10.fc1.bias", {"s": 2, "b": 10, "n": 1, "wb": "bias"}),
    ("features.{2*s+1}.{b}.layer_scale", "features.5.0.layer_scale", {"s": 2, "b": 0}),
    ("features.{2*s+1}.{b}.layer_scale", "features.4.0.layer_scale", None),
    ("layers.{s-1}.downsample", "layers.0.downsample", {"s": 1}),
    ("norm{i}.weight", "norm.weight", None),
    ("stages.{s}.gamma", "stages.01.gamma", None),
    ("stages.{s}.gamma", "stages.٣.gamma", None),  # an Arabic digit is no index
    ("stages.{s}.gamma", "stages.1.gamma\n", None),
    ("a.{s}.{s}", "a.3.3", {"s": 3}),
    ("a.{s}.{s}", "a.3.4", None),
    ("a.b", "aXb", None),
])
def test_reading(template, name, bindings):
    assert Template(template).match(name) == bindings


def test_a_negative_index_cannot_be_written():
    assert Template("layers.{s-1}").render({"s": 0}) is None


@pytest.mark.parametrize("text", ["a.{s", "a.}s", "{s}{b}", "a.{0}", "a.{s*2}", "{p:}", "{}"])
def test_a_text_that_is_no_template_is_refused_when_it_is_made(text):
    with pytest.raises(ValueError, match="template"):
        Template(text)
