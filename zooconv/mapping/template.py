"""Names of tensors as templates: `stages.{s}.blocks.{b}.mlp.fc{n}.{wb}`.

A template matches whole names and runs both ways: `match` reads the bindings off a name, `render` writes the name
back, and one is the inverse of the other.

    {s}                  an integer, without leading zeros
    {2*s+1}  {s-1}       an affine function of one: matches only what an integer s >= 0 gives
    {p:weight|bias}      one of these words
    {wb}                 short for {wb:weight|bias}
    {bn}                 short for {bn:weight|bias|running_mean|running_var}, what a batch norm holds
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise, product

Bindings = Mapping[str, int | str]

_FIELD = re.compile(r"\{([^{}]*)\}")
_AFFINE = re.compile(r"(?:([1-9][0-9]*)\*)?([A-Za-z]\w*)([+-][0-9]+)?")
_CHOICE = re.compile(r"([A-Za-z]\w*):([\w.]+(?:\|[\w.]+)*)")
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_SHORT = {"wb": "wb:weight|bias", "bn": "bn:weight|bias|running_mean|running_var"}


def form(name: str) -> str:
    """A name without its digits. A file of any size has few forms, and most rules are for none of them."""
    return name.translate(_NO_DIGITS)


@dataclass(frozen=True, slots=True)
class Integer:
    """The field `{scale*name+shift}`."""

    name: str
    scale: int = 1
    shift: int = 0

    pattern = "(0|[1-9][0-9]*)"
    words = ("",)  # of a form, which has no digits

    @property
    def as_is(self) -> bool:
        return (self.scale, self.shift) == (1, 0)

    def read(self, text: str) -> int | None:
        value, rest = divmod(int(text) - self.shift, self.scale)
        return value if rest == 0 and value >= 0 else None

    def write(self, value: int | str) -> str | None:
        number = self.scale * int(value) + self.shift
        return str(number) if number >= 0 else None


@dataclass(frozen=True, slots=True)
class Choice:
    """The field `{name:word|word}`."""

    name: str
    words: tuple[str, ...]

    as_is = True

    @property
    def pattern(self) -> str:
        return f"({'|'.join(map(re.escape, self.words))})"

    def read(self, text: str) -> str | None:
        return text

    def write(self, value: int | str) -> str | None:
        return value if isinstance(value, str) and value in self.words else None


@dataclass(frozen=True)
class Template:
    """An anchored, invertible pattern of names. Raises ValueError for a text that is none."""

    text: str
    parts: tuple[str | Integer | Choice, ...] = field(init=False, repr=False, compare=False)
    fields: tuple[Integer | Choice, ...] = field(init=False, repr=False, compare=False)
    variables: frozenset[str] = field(init=False, repr=False, compare=False)  # the names that a match binds

    def __post_init__(self) -> None:
        parts = self._parsed()
        fields = tuple(part for part in parts if not isinstance(part, str))
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "variables", frozenset(part.name for part in fields))
        for before, after in pairwise(parts):
            if isinstance(before, Integer) and isinstance(after, Integer):
                raise ValueError(f"template {self.text!r}: two integers touch, "  # noqa: TRY004 - it is the text's value
                                 "so a name could be read in two ways")

    def _parsed(self) -> tuple[str | Integer | Choice, ...]:
        pieces = _FIELD.split(self.text)
        if any("{" in literal or "}" in literal for literal in pieces[::2]):
            raise ValueError(f"template {self.text!r}: a brace is left open")
        try:
            return tuple(_field(piece) if i % 2 else piece for i, piece in enumerate(pieces) if i % 2 or piece)
        except ValueError as error:
            raise ValueError(f"template {self.text!r}: {error}") from None

    @cached_property
    def pattern(self) -> str:
        """The regular expression of the whole name, one group a field."""
        return "".join(re.escape(part) if isinstance(part, str) else part.pattern for part in self.parts)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    @cached_property
    def forms(self) -> frozenset[str]:
        """Every form that its names have."""
        spelled = ((part,) if isinstance(part, str) else part.words for part in self.parts)
        return frozenset(form("".join(words)) for words in product(*spelled))

    @cached_property
    def _readers(self) -> tuple[tuple[str, type[int | str]], ...] | None:
        """How fields are read that bind each a variable of its own, to what stands there: most templates' do."""
        if len(self.variables) < len(self.fields) or not all(part.as_is for part in self.fields):
            return None
        return tuple((part.name, int if isinstance(part, Integer) else str) for part in self.fields)

    @cached_property
    def _format(self) -> str | None:
        """The name as a format, if its numbers stand there as they are bound."""
        if not all(part.as_is for part in self.fields):
            return None
        return "".join(part.replace("%", "%%") if isinstance(part, str) else f"%({part.name})s" for part in self.parts)

    @cached_property
    def _words(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple((part.name, frozenset(part.words)) for part in self.fields if isinstance(part, Choice))

    @cached_property
    def _finite(self) -> dict[str, Bindings] | None:
        """All names of a template without numbers, with their bindings: there may be thousands, one for each tensor."""
        if any(isinstance(part, Integer) for part in self.fields):
            return None
        names = [part.name for part in self.fields]
        read = (dict(zip(names, words, strict=True)) for words in product(*(part.words for part in self.fields)))
        return {name: bindings for bindings in read if (name := self.render(bindings)) is not None}

    def match(self, name: str) -> Bindings | None:
        """The bindings under which this template is `name`, or None."""
        return self._read(self._regex.fullmatch(name)) if self._finite is None else self._finite.get(name)

    def begins(self, name: str) -> tuple[Bindings, str] | None:
        """The bindings under which `name` begins with this template, and what follows; or None."""
        found = self._regex.match(name)
        bindings = self._read(found)
        return None if found is None or bindings is None else (bindings, name[found.end():])

    def _read(self, found: re.Match[str] | None) -> Bindings | None:
        if found is None:
            return None
        if self._readers is not None:
            return {name: read(text) for (name, read), text in zip(self._readers, found.groups(), strict=True)}
        bindings: dict[str, int | str] = {}
        for part, text in zip(self.fields, found.groups(), strict=True):
            value = part.read(text)
            if value is None or bindings.setdefault(part.name, value) != value:
                return None
        return bindings

    def render(self, bindings: Bindings) -> str | None:
        """The name under these bindings, of words and numbers >= 0, or None where an index of it would be negative, or
        a word unknown.
        """
        if self._format is not None:
            unknown = [name for name, words in self._words if bindings[name] not in words]
            return None if unknown else self._format % bindings
        pieces = [part if isinstance(part, str) else part.write(bindings[part.name]) for part in self.parts]
        return None if None in pieces else "".join(p for p in pieces if p is not None)

    def __str__(self) -> str:
        return self.text


parse_template = cache(Template)  # tables repeat themselves; each text is read, and its pattern compiled, once


@cache
def _field(text: str) -> Integer | Choice:
    text = _SHORT.get(text, text)
    if affine := _AFFINE.fullmatch(text):
        scale, name, shift = affine.groups()
        return Integer(name, int(scale or 1), int(shift or 0))
    if choice := _CHOICE.fullmatch(text):
        return Choice(choice[1], tuple(choice[2].split("|")))
    raise ValueError(f"cannot read {{{text}}}; write {{s}}, {{2*s+1}}, {{p:weight|bias}}, {{wb}} or {{bn}}")
