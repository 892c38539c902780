"""timm's architectures, read off `architectures.txt.gz`: which there are, and what each holds."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path

from .tree import COUNTER, KEPT, Row, read

TABLE = Path(__file__).with_name("architectures.txt.gz")


@dataclass(frozen=True, eq=False)
class Architecture:
    """Architectures of timm that keep the very same tensors; of their features, indices, strides, channels.

    No tensor tells which of them is meant. Where a model's name does, that one comes first; it is the same config.
    """

    architectures: tuple[str, ...]
    out_indices: tuple[int, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def meaning(self, name: str) -> Architecture:
        """The same, with this one first."""
        return replace(self, architectures=(name, *(other for other in self.architectures if other != name)))

    @property
    def _known(self) -> tuple[object, ...]:
        return frozenset(self.architectures), self.out_indices, self.strides, self.channels

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._known == other._known

    def __hash__(self) -> int:
        return hash(self._known)


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    `wrap` says what `features_only` calls tensors, `image` is the height and width that a tag was trained on, `probes`
    are two tensors by which this one is found among all others.
    """

    config: Architecture
    wrap: str
    image: tuple[int, ...]
    probes: tuple[tuple[str, tuple[int, ...]], ...]
    text: str

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every tensor of the whole model, the heads of all its tags included."""
        return tuple(read(self.text))

    def kept(self) -> Iterator[Row]:
        return (row for row in self.rows if row.fate == KEPT)

    def apart(self, amount: int) -> int:
        """How many tensors too many or too few a file of so many has; counters and what is dropped may be absent."""
        least = sum(row.fate == KEPT and row.kind != COUNTER for row in self.rows)
        return max(least - amount, amount - len(self.rows), 0)

    def renamed(self, name: str) -> str:
        """What the features call a tensor of the whole model, or a template of them."""
        return renamed(self.wrap, name)


def renamed(wrap: str, name: str) -> str:
    """What the features call a tensor: `wrap` is +, with what stands before it, or _, with what is joined.

    timm.models._features: FeatureGetterNet and FeatureHookNet hold the model, as `model` and `body`; FeatureListNet
    joins the children of sequential modules to these by an underscore.
    """
    if wrap.startswith("+"):
        return wrap[1:] + name
    first, _, rest = name.partition(".")
    return f"{first}_{rest}" if first in wrap[1:].split(",") else name


@cache
def entries() -> tuple[Entry, ...]:
    """The whole table, each entry as text yet."""
    return tuple(map(_entry, gzip.decompress(TABLE.read_bytes()).decode().splitlines()))


@cache
def by_name() -> Mapping[str, Entry]:
    """Every architecture's entry."""
    return {name: entry for entry in entries() for name in entry.config.architectures}


def _entry(line: str) -> Entry:
    names, wrap, indices, strides, channels, image, probes, text = line.split("\t")
    pairs = (probe.split(":") for probe in probes.split(" "))
    config = Architecture(tuple(names.split(" ")), _numbers(indices), _numbers(strides), _numbers(channels))
    return Entry(config, wrap, _numbers(image), tuple((name, _numbers(shape)) for name, shape in pairs), text)


@lru_cache(1024)
def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


class Variants(Mapping[str, Architecture]):
    """The config of every architecture by name, read when it is asked for."""

    def __getitem__(self, name: str) -> Architecture:
        return by_name()[name].config.meaning(name)

    def __iter__(self) -> Iterator[str]:
        return iter(by_name())

    def __len__(self) -> int:
        return len(by_name())


def resembling(shapes: Mapping[str, tuple[int, ...]]) -> list[Entry]:
    """The entries whose probes a file has, as the whole model or the features name them, under one prefix or another.

    Larger architectures have the probes of smaller ones: of these only such as a file of so many tensors could be of,
    or else the one that comes nearest, for whoever wants to know what is wrong with the file.
    """
    wanted = _spellings()
    ends: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        for prefix, rest in _splits(name):
            if rest in wanted:
                ends.setdefault(prefix, set()).add((rest, shape))
    amount = cache(lambda prefix: sum(name.startswith(prefix) for name in shapes))
    near: dict[int, list[Entry]] = {}
    for entry in entries():
        upstream = set(entry.probes)
        features = {(entry.renamed(name), shape) for name, shape in entry.probes}
        if apart := [entry.apart(amount(p)) for p, found in ends.items() if upstream <= found or features <= found]:
            near.setdefault(min(apart), []).append(entry)
    return near[min(near)] if near else []


def _splits(name: str) -> Iterable[tuple[str, str]]:
    """A name as prefix and rest, in every way."""
    yield "", name
    at = name.find(".")
    while at >= 0:
        yield name[:at + 1], name[at + 1:]
        at = name.find(".", at + 1)


@cache
def _spellings() -> frozenset[str]:
    return frozenset(spelled for entry in entries() for name, _ in entry.probes
                     for spelled in (name, entry.renamed(name)))
