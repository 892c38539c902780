"""Names by their forms: the same answers as from every name, and most questions never put."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zooconv.mapping.dialect import Dialect
from zooconv.mapping.forms import Forms
from zooconv.mapping.rules import drop, rename
from zooconv.mapping.template import Template, form

TEXTS = ["stages.{s}.blocks.{b}.fc1.{wb}", "stages.{s}.{b}.fc{n}.{wb}", "layer{s+1}.{b}.conv{n}.weight", "norm.{wb}",
         "layer1.{p:a1|b22}.{wb}", "features.{2*s}.{wb}", "{tensor:stem.0.weight|norm.bias}", "0.{b}.x"]
NAMES = st.from_regex("|".join(Template(text).pattern for text in TEXTS), fullmatch=True)
PREFIXES = st.sampled_from(["", "backbone.", "m.0.", "m.1.", "a.b2."])
FILES = st.lists(st.builds(str.__add__, PREFIXES, NAMES | st.text("abs.019", min_size=1, max_size=9)), max_size=12)


@given(st.sampled_from(TEXTS), NAMES)
def test_a_template_matches_no_name_of_a_form_that_it_has_not(text, name):
    template = Template(text)
    assert form(name) in template.forms or template.match(name) is None
    assert template.match(name) is None or re.fullmatch(template.pattern, name, re.ASCII)


@given(st.sampled_from(TEXTS), FILES)
def test_the_names_of_a_template_are_those_that_it_matches(text, names):
    template = Template(text)
    every = {name: bound for name in names if (bound := template.match(name)) is not None}
    assert dict(Forms(names).named(template)) == every


@given(st.sampled_from(TEXTS), FILES)
def test_prefixes_are_those_under_which_a_name_is_spelled_as_the_anchor(text, names):
    template = Template(text)
    cuts = {name[:i] for name in names for i in range(len(name)) if i == 0 or name[i - 1] == "."}
    every = {cut for cut in cuts for name in names
             if name.startswith(cut) and re.fullmatch(template.pattern, name.removeprefix(cut), re.ASCII)}
    assert Forms(names).prefixes(template) == sorted(every)


@given(FILES, PREFIXES)
def test_a_file_is_strange_to_a_dialect_only_if_a_name_has_no_rule(names, prefix):
    dialect = Dialect("toy", [*(rename(text, text) for text in TEXTS[:4]), drop(TEXTS[5], "a classifier")])
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    ruled = [any(Template(text).match(name) is not None for text in [*TEXTS[:4], TEXTS[5]]) for name in inside]
    assert not (Forms(names).strange(dialect, prefix) and all(ruled))


@pytest.mark.parametrize(("prefix", "strange"), [("m.0.", True), ("m.1.", False)])
def test_only_names_under_the_prefix_are_strange(prefix, strange):
    dialect = Dialect("toy", [rename("norm.{wb}", "norm.{wb}")])
    assert Forms(["m.0.norm.weight", "m.0.other", "m.1.norm.weight"]).strange(dialect, prefix) is strange
