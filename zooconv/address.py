"""The address of an artifact: what MODEL.WEIGHTS of a config says instead of a file.

    zoo://convnext_tiny_22k
    zoo://convnext_tiny_22k@maskdino
    zoo://vit_base_patch14_dinov2@vitdet,patch=16
    zoo://timm/convnext_tiny.fb_in22k@d2,revision=0331cdf4ded6,bgr

    zoo://NAME[@LAYOUT][,option[=value]…]

NAME is a model of the zoo or a repository on the hub. The options are those of `zooconv fetch-convert` that decide what
the artifact holds, spelled as there, without the dashes. A repository has two more, `revision` and `file`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from zooconv.errors import UsageError
from zooconv.options import WAY_BACK, Options

SCHEME = "zoo://"
# Detectron2 chooses by a path's suffix how to read it: detectron2/checkpoint/detection_checkpoint.py.
READ_OTHERWISE = {".pkl": "is unpickled, as Detectron's own models are", ".pyth": "is read as pycls writes it"}


@dataclass(frozen=True)
class Address:
    """A model by name, or a repository with its revision and file, and the options of its artifact.

    `options` are fields of `Options`: the layout, where it is told, and recorded ones.
    """

    name: str
    options: Mapping[str, Any]
    revision: str | None = None
    file: str | None = None

    @property
    def model(self) -> str:
        """What `zooconv.names.resolve` understands."""
        return (self.name + (f"@{self.revision}" if self.revision else "") + (f":{self.file}" if self.file else ""))

    @property
    def chosen(self) -> Options:
        """The options, the others at their defaults."""
        return Options(**self.options)

    def over(self, options: Options) -> Options:
        """These options over others'. Raises UsageError where both say something, and not the same."""
        defaults = Options()
        for name, value in self.options.items():
            given = getattr(options, name)
            if given not in (getattr(defaults, name), value):
                raise UsageError(f"{self} says {name} {value}, and the command line says {name} {given}",
                                 next="say it once")
        return replace(options, **self.options)

    def __str__(self) -> str:
        """The one spelling of this address: with the layout, the options in the order of `Options`."""
        chosen = self.chosen.recorded
        told = [f"{word}={chosen[known.field]}" if known.means is None else word for word, known in _words().items()
                if known.field in chosen and known.means in (None, chosen[known.field])]
        origin = [f"{key}={value}" for key, value in (("revision", self.revision), ("file", self.file)) if value]
        return SCHEME + ",".join([f"{self.name}@{self.chosen.layout}", *told, *origin])


def parse(text: str) -> Address:
    """Read an address. Raises UsageError for one that is malformed, with the grammar."""
    body = text.removeprefix(SCHEME)
    for suffix, how in READ_OTHERWISE.items():
        if body.endswith(suffix):
            raise UsageError(f"{text} ends in {suffix}, which some Detectron2 {how}",
                             why=["zooconv gives a .pth, and the end of an address must not say otherwise"],
                             next="leave the suffix out; behind a file's name, put another option")
    target, *words = body.split(",")
    name, at, layout = target.partition("@")
    if not name or (at and not layout) or "@" in layout or "" in words:
        raise _malformed(text, "a name or an option is empty, or there are two layouts")
    options: dict[str, Any] = {"layout": layout} if at else {}
    origin: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key in ("revision", "file") and value and key not in origin:
            origin[key] = value
        else:
            option, meant = _option(text, key, value if equals else None)
            if option in options:
                raise _malformed(text, f"{key!r} is said twice, or in two ways")
            options[option] = meant
    if origin and "/" not in name:
        raise UsageError(f"{text}: {' and '.join(origin)} can be said of a repository only",
                         next=f"zooconv show {name}  (names it)")
    return Address(name, options, origin.get("revision"), origin.get("file"))


class _Word(NamedTuple):
    """What a word of the grammar sets: a field to the value that the word itself `means`, or to one of a `kind`.

    Where it has `values`, to one of these.
    """

    field: str
    kind: type
    means: bool | None = None
    values: tuple[str, ...] = ()


@cache
def _words() -> dict[str, _Word]:
    """The words of the grammar: the flags of the recorded options, without their dashes."""
    hints = get_type_hints(Options)
    words: dict[str, _Word] = {}
    for f in fields(Options):
        if f.metadata["recorded"] and f.name not in WAY_BACK:
            yes, _, no = f.metadata["flags"][0].replace("--", "").partition("/")
            kinds = getattr(hints[f.name], "__args__", (hints[f.name],))
            if bool in kinds:
                words |= {word: _Word(f.name, bool, means) for word, means in ((yes, True), (no, False)) if word}
            elif get_origin(kinds[0]) is Literal:
                words[yes] = _Word(f.name, str, values=get_args(kinds[0]))
            else:
                words[yes] = _Word(f.name, kinds[0])
    return words


def _option(text: str, key: str, value: str | None) -> tuple[str, Any]:
    if (word := _words().get(key)) is None:
        near = difflib.get_close_matches(key, _words(), 1)
        raise _malformed(text, f"there is no option {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
    if (value is None) != (word.means is not None):
        raise _malformed(text, f"{key!r} {'takes no value' if word.means is not None else 'needs a value'}")
    if value is None:
        return word.field, word.means
    if word.values and value not in word.values:
        raise _malformed(text, f"{key!r} takes {' or '.join(word.values)}, not {value!r}")
    try:
        return word.field, word.kind(value)
    except ValueError:
        raise _malformed(text, f"{key!r} takes a whole number, not {value!r}") from None


def _malformed(text: str, why: str) -> UsageError:
    known = ", ".join(word + ("=…" if known.means is None else "") for word, known in _words().items())
    return UsageError(f"{text} is no address of an artifact: {why}",
                      why=["an address is zoo://NAME[@LAYOUT][,option[=value]…]", f"options: {known}",
                           "of a repository owner/name also: revision=…, file=…"],
                      next="zoo://convnext_tiny_22k@maskdino  (for example)")
