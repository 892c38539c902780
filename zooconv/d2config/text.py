"""A config as text: YAML, or the Python of a LazyConfig."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zooconv.d2config.keys import Wanted
from zooconv.errors import UsageError
from zooconv.mapping.lazy import Call, LazyBackbone, Named

WIDTH = 110
FORMS = {"yaml": "YAML", "lazy": "LazyConfig"}


def form_of(wanted: Wanted, asked: str | None = None) -> str:
    """`yaml` or `lazy`: what is asked for, else what the project reads.

    Raises UsageError for one that the project does not read.
    """
    lazy, model = wanted.required.lazy, wanted.required.model
    own = "lazy" if lazy and not model else "yaml"
    if asked == "yaml" and own == "lazy":
        raise UsageError(f"layout {wanted.project} has no YAML config for a {wanted.family.title}",
                         why=["its project builds the backbone in a LazyConfig, which is Python"],
                         next="without --yaml, --check and --write, it is printed, to be pasted")
    if asked == "lazy" and not lazy:
        raise UsageError(f"layout {wanted.project} has no LazyConfig for a {wanted.family.title}",
                         why=["its project builds the backbone from a YAML config"] if model else
                             ["no project is known that builds it: the class is yours"], next="leave --lazy out")
    return asked or own


def config_of(wanted: Wanted, form: str | None = None, *, comments: bool = True) -> str:
    """The config that goes with the weights, with what to mind in comments before it."""
    body = lazy_text(wanted) if form_of(wanted, form) == "lazy" else yaml_text(wanted.keys)
    return "\n".join([*(_comments([wanted.title, *(f"mind: {note}" for note in wanted.mind)]) if comments else ()),
                      body])


def yaml_text(config: Mapping[str, Any], indent: str = "") -> str:
    """Nested mappings as YAML, lists in one line."""
    lines = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", yaml_text(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {yaml_value(value)}")
    return "\n".join(lines)


def yaml_value(value: Any) -> str:
    """A number, text, truth value, list, or nothing, as YAML in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_value, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else "null" if value is None else str(value)


# -- LazyConfig ------------------------------------------------------------------------------------------------------


def lazy_text(wanted: Wanted) -> str:
    """A LazyConfig's lines, to stand below those that make `model`, `dataloader` and `train`."""
    required, keys = wanted.required, wanted.keys
    assert required.lazy is not None
    backbone, pixels = required.lazy(wanted.config, keys["MODEL"]), keys["MODEL"]
    rest = {**backbone.beside, "model.pixel_mean": pixels["PIXEL_MEAN"], "model.pixel_std": pixels["PIXEL_STD"],
            **dict.fromkeys(backbone.formats, keys["INPUT"]["FORMAT"]), "train.init_checkpoint": wanted.weights}
    place = f"model.{backbone.at or wanted.layout.mount.strip('.')}"
    return "\n".join([*_imports(backbone), "", f"{place} = {_opened(backbone)}",
                      *(f"{name} = {python_lines(value, len(name) + 3)}" for name, value in rest.items())])


def python_lines(value: Any, before: int = 0) -> str:
    """A value as Python: in one line, or an item a line where calls would not fit into one, after `before` columns."""
    text = python_value(value)
    if before + len(text) <= WIDTH or not any(True for _ in _targets(value)) or isinstance(value, Call):
        return text
    items = [f"{python_value(k)}: {python_value(v)}" for k, v in value.items()] if isinstance(value, Mapping) else \
        [python_value(item) for item in value]
    return "\n".join([text[0], *(f"    {item}," for item in items), text[-1]])


def python_value(value: Any) -> str:
    """A value of a LazyConfig as Python in one line."""
    if isinstance(value, Named):
        return _name(value.target)
    if isinstance(value, Call):
        arguments = (f"{name}={python_value(one)}" for name, one in value.arguments.items())
        return f"{_callee(value)}({', '.join([*map(python_value, value.first), *arguments])})"
    if isinstance(value, list):
        return f"[{', '.join(map(python_value, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(python_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{python_value(k)}: {python_value(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _opened(backbone: LazyBackbone) -> str:
    """The backbone's call, an argument a line; what the weights do not decide comes last."""
    free = ["# not the weights' affair: as the project's own configs have it", *_arguments(backbone.free)]
    lines = [*_arguments(backbone.call.arguments), *(free if backbone.free else ())]
    inner = textwrap.indent("\n".join(line if line.startswith("#") else f"{line}," for line in lines), "    ")
    return f"{_callee(backbone.call)}(\n{inner}\n)"


def _arguments(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={python_lines(value, len(name) + 5)}" for name, value in values.items()]


def _callee(call: Call) -> str:
    return f"L({_name(call.target)})" if call.lazy else _name(call.target)


def _name(target: str) -> str:
    return target.partition(":")[2]


def _imports(backbone: LazyBackbone) -> list[str]:
    """The imports of everything that is named, a module a line."""
    modules: dict[str, set[str]] = {}
    for target in _targets([backbone.call, backbone.free, backbone.beside]):
        module, _, name = target.partition(":")
        modules.setdefault(module, set()).add(name.partition(".")[0])
    modules.setdefault("detectron2.config", set()).add("LazyCall as L")
    return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Named | Call):
        yield value.target
    inner: Iterable[Any] = ()
    if isinstance(value, Call):
        inner = (*value.first, *value.arguments.values())
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    for one in inner:
        yield from _targets(one)


def _comments(notes: Iterable[str]) -> list[str]:
    return [line for note in notes for line in textwrap.wrap(note, WIDTH, initial_indent="# ", subsequent_indent="#   ",
                                                             break_long_words=False, break_on_hyphens=False)]
