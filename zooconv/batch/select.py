"""Which models a batch is about: names, patterns, lists, whole families, or a share of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from zooconv.errors import UsageError
from zooconv.names import LocalSource, Source, UrlSource, resolve
from zooconv.output import some
from zooconv.plugins import family as family_of
from zooconv.zoo import Model, zoo

_TEXTS = (".txt", ".list", ".lst", ".csv")


def select(names: Sequence[str] = (), *, lists: Sequence[Path] = (), everything: bool = False,
           family: str | None = None, shard: str | None = None,
           say: Callable[[str], None] = lambda line: None) -> list[Source]:
    """The sources that are meant, each once, in the order in which they were named.

    A name is a model, `owner/repo[@revision][:file]`, a file, or a pattern of models' names. `shard` is `i/n`: every
    n-th of them, from the i-th on. Of all models, and of those that a pattern means, those that are on no hub are left
    out; `say` is told which. Raises UsageError that lists every name which means nothing.
    """
    texts = [*names, *(line for path in lists for line in _lines(path))]
    models = zoo().models if everything else ()
    fetched = _Fetched(say)
    if family is not None:
        wanted = family_of(family).name
        models = tuple(model for model in zoo().models if model.family == wanted)
    found: dict[object, Source] = {}
    wrong: list[str] = []
    for text in (*(model.name for model in fetched.of(models)), *texts):
        try:
            for source in _meant(text, fetched):
                found.setdefault(_identity(source), source)
        except UsageError as error:
            near = [line for line in error.why if line.startswith("did you mean")]
            wrong.append(error.what + (f"; {near[0]}" if near else f": {some(error.why, 3)}" if error.why else ""))
    if wrong:
        total = len(dict.fromkeys(texts))
        raise UsageError(f"{len(dict.fromkeys(wrong))} of {total} names mean nothing" if total > 1 else wrong[0],
                         why=dict.fromkeys(wrong) if total > 1 else (),
                         next="mend what is wrong (zooconv list shows all names); nothing was started")
    fetched.tell()
    if not found:
        raise UsageError("no model is named", next="zooconv batch NAME…, --list FILE, --family NAME, or --all")
    return _share(list(found.values()), shard)


class _Fetched:
    """Sorts out models that cannot be fetched, and tells of them once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.others: dict[str, None] = {}

    def of(self, models: Iterable[Model]) -> list[Model]:
        models = list(models)
        self.others |= {model.name: None for model in models if not model.place}
        return [model for model in models if model.place]

    def tell(self) -> None:
        if names := [*self.others]:
            self.say(f"left out, because no hub has {'it' if len(names) == 1 else 'them'}: {some(names)}")


def _lines(path: Path) -> Iterable[str]:
    """The names in a list: one a line; what follows a # of its own is a remark. `-` is standard input."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list {path}: {error}", next="a text file, one name a line") from None
    return [name for line in text.splitlines() if (name := re.split(r"(?:^|\s)#", line)[0].strip())]


def _meant(text: str, fetched: _Fetched) -> list[Source]:
    if any(c in text for c in "*?[") and not Path(text).exists():
        models = zoo().matching(text)
        if not models:
            raise UsageError(f"no model is called {text!r}", next="zooconv list")
        return [resolve(model.name, zoo()) for model in fetched.of(models)]
    source = resolve(text, zoo())
    if isinstance(source, LocalSource) and not source.path.is_file():
        raise UsageError(f"there is no file {text}")
    if isinstance(source, LocalSource) and source.path.suffix in _TEXTS:
        raise UsageError(f"{text} is no checkpoint; if it is a list of names: --list {text}")
    return [source]


def _identity(source: Source) -> object:
    if isinstance(source, LocalSource):
        return source.path.resolve()
    return source.url if isinstance(source, UrlSource) else (source.repo, source.revision, source.files)


def _share(sources: list[Source], shard: str | None) -> list[Source]:
    if shard is None:
        return sources
    parts = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", shard)
    if parts is None or int(parts[1]) > int(parts[2]):
        total = "".join(re.findall(r"/([1-9][0-9]*)$", shard)) or "4"
        raise UsageError(f"--shard {shard} is no share", next=f"--shard 1/{total} … {total}/{total}")
    return sources[int(parts[1]) - 1::int(parts[2])]
