"""Which tensor of a file ends up in which of a model: Detectron2's own rules, names and shapes only.

By default a name must be the model's. Under `matching_heuristics` it may be the end of the model's, behind a dot; of
several the longest is taken, and one that fits two names of the model raises. In both cases a tensor of another shape
is left out with a warning, and what the model has and the file has not stays as it was made. Sources: detectron2/
checkpoint/c2_model_loading.py (align_and_update_state_dicts), fvcore/common/checkpoint.py (_load_model).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from zooconv.doctor.caffe2 import renamed
from zooconv.doctor.loader import Raised, Reading
from zooconv.tensor import Shape, shape_text

Shapes = Mapping[str, Shape]
Entries = Mapping[str, "Shape | None"]


class Skipped(NamedTuple):
    """A tensor that is not loaded because the model's has another shape."""

    name: str
    shape: Shape
    model: str
    wanted: Shape

    def __str__(self) -> str:
        return f"{self.name} is {shape_text(self.shape)}, the model's {self.model} {shape_text(self.wanted)}"


@dataclass(frozen=True)
class Matching:
    """The model's tensors that are loaded (model's name -> file's), and all that is not as it should be."""

    loaded: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    raised: Raised | None = None


# what Detectron2 passes over without a word
_QUIET = ("pixel_mean", "pixel_std")
_ANCHORS = "anchor_generator.cell_anchors"


def match(reading: Reading, model: Shapes) -> Matching:
    """What becomes of a reading's entries in a model of these names and shapes."""
    skipped: list[Skipped] = []
    given = {name: name for name in reading.entries}
    try:
        if reading.matching:
            given = _aligned(reading, model, skipped)
    except _Ambiguous as error:
        return Matching(raised=error.raised)
    if given and all(name.startswith("module.") for name in given if name):
        given = {name[7:]: old for name, old in given.items()}
    told = {s.name for s in skipped}
    loaded, unexpected = {}, []
    for name, old in given.items():
        shape = reading.entries[old]
        if name not in model:
            if old not in told and _ANCHORS not in name:
                unexpected.append(old)
        elif shape is None or shape == model[name]:
            loaded[name] = old
        elif old not in told:
            skipped.append(Skipped(old, shape, name, model[name]))
    missing = tuple(name for name in model if name not in loaded and name not in _QUIET)
    return Matching(loaded, missing, tuple(unexpected), tuple(skipped))


class _Ambiguous(Exception):
    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.raised = Raised(kind, text)


def _aligned(reading: Reading, model: Shapes, skipped: list[Skipped]) -> dict[str, str]:
    """The names that entries are given (new -> the file's): the model's where one ends in theirs, else their own."""
    spelled = renamed(reading.entries) if reading.caffe2 else {name: name for name in reading.entries}
    if len(spelled) != len(reading.entries):
        raise _Ambiguous("AssertionError", "two names become one")
    taken: dict[str, str] = {}
    for name in sorted(model):
        entry = next((end for end in _ends(name) if end in spelled), None)
        if entry is None:
            continue
        shape = reading.entries[spelled[entry]]
        if shape is not None and shape != model[name]:
            skipped.append(Skipped(spelled[entry], shape, name, model[name]))
        elif entry in taken:
            raise _Ambiguous("ValueError", "Cannot match one checkpoint key to multiple keys in the model. "
                                           f"({entry}: {taken[entry]}, {name})")
        else:
            taken[entry] = name
    own = {name: old for name, old in spelled.items() if name not in taken}
    return {name: spelled[entry] for entry, name in taken.items()} | own


def _ends(name: str) -> Iterator[str]:
    """The name, and all that stands behind a dot in it: the longest first."""
    while name:
        yield name
        name = name.partition(".")[2]
