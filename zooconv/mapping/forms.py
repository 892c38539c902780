"""A file's names by their forms: which rules could be for them at all, before each is read.

A name without its digits is its form. A file of any size has few of these, as blocks repeat, and so have tables of
rules: what no form allows, no name does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from zooconv.mapping.dialect import Dialect
from zooconv.mapping.template import Bindings, Template, form


class Forms:
    """The names of a file, by form."""

    def __init__(self, names: Iterable[str]) -> None:
        self.groups: dict[str, list[str]] = {}
        for name in names:
            self.groups.setdefault(form(name), []).append(name)

    def prefixes(self, anchor: Template) -> list[str]:
        """The prefixes under which there are names of this template; usually one."""
        ends = tuple(f".{known}" for known in anchor.forms)
        likely = (name for known, names in self.groups.items() if known in anchor.forms or known.endswith(ends)
                  for name in names)
        pattern = re.compile(rf"((?:.*\.)?){anchor.pattern}", re.ASCII)
        return sorted({found[1] for name in likely if (found := pattern.fullmatch(name))})

    def named(self, template: Template) -> Iterator[tuple[str, Bindings]]:
        """The names of a template, each with its bindings."""
        likely = (name for known, names in self.groups.items() if known in template.forms for name in names)
        return ((name, bound) for name in likely if (bound := template.match(name)) is not None)

    def strange(self, dialect: Dialect, prefix: str) -> bool:
        """Is there a name under the prefix that no rule of this dialect can be for?"""
        cut = form(prefix)
        return any(known.startswith(cut) and not dialect.knows(known[len(cut):])
                   and any(name.startswith(prefix) for name in names) for known, names in self.groups.items())
