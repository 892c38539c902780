"""Does a user's config fit the weights? What differs, where it stands, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zooconv.d2config.edit import by_hand
from zooconv.d2config.keys import Wanted, dotted, merged
from zooconv.d2config.text import yaml_value
from zooconv.d2config.yaml import Chain
from zooconv.mapping.requires import Pitfall

UNSET = "(not set)"
OTHER_CLASS = "another class is built than these weights are for: they have no place in it, and it stays random"
OTHER_SHAPE = ("another backbone is built than the file holds: Detectron2 skips every tensor of another shape, with a "
               "line in its log, and it stays random")
NO_SUCH_FEATURE = "this class has no other features"
OTHER_COLOURS = "the weights saw {}: red and blue are taken for each other, and nothing warns"
OTHER_PIXELS = "the weights saw pixels normalised otherwise, and nothing warns"
UNIT_SCALE = "it is on the scale 0..1, but pixels are 0..255: next to nothing is subtracted, and nothing warns"
TURNED = "its channels stand in the other order than the weights saw them, and nothing warns"
IN_A_BASE = "it may be set in {}, which is not on this disk"
NO_DEFAULT = "it is set nowhere, and the project's default is not known here"
OTHER_FILE = "other weights are loaded than these"


@dataclass(frozen=True)
class Finding:
    """A key whose value is not what the weights need, or needs a word.

    `place` is where its value stands (`configs/x.yaml:7`), or says that a default counts. `needed` is the value that
    these weights need, where it `needs` another; `why` says whether and how it `costs` accuracy. `written`: it has it.
    """

    key: str
    place: str
    value: Any
    needed: Any
    why: str
    costs: bool = True
    written: bool = False
    needs: bool = True

    @property
    def data(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def text(self) -> str:
        """Two lines: what stands where, and why that matters."""
        value = UNSET if self.value == UNSET else yaml_value(self.value)
        verb, modal = ("was", "now") if self.written else ("is", "must be" if self.costs else "would be")
        other = f", {modal} {yaml_value(self.needed)}" if self.needs else ""
        return f"{self.place}: {self.key} {verb} {value}{other}\n    {'costs' if self.costs else 'mind'}: {self.why}"


def findings(wanted: Wanted, chain: Chain) -> list[Finding]:
    """Everything about a user's config that the weights have a word on, what costs accuracy first."""
    defaults = wanted.defaults
    said = _as_mappings(chain.values, merged(defaults, wanted.keys), chain)
    counts = merged(defaults, said)
    model = counts["MODEL"]
    asked = wanted.required.pitfalls
    pitfalls = {f"MODEL.{p.key}": p for p in (asked(wanted.config, model) if asked else ())}
    flat, own = dotted(counts), dotted(said)
    needed = dotted(wanted.keys)
    found = [_finding(wanted, chain, key, value, flat.get(key, UNSET), pitfalls.get(key), inside=key in own)
             for key, value in needed.items() if not _fits(wanted, key, flat.get(key, UNSET), value)]
    told = {one.key for one in found}
    found += [Finding(key, chain.place(key), flat[key], None, p.why, p.costs, needs=False)
              for key, p in pitfalls.items() if key not in told and _minded(key, p, needed, own)]
    return sorted(found, key=lambda one: not one.costs)


def _as_mappings(said: Mapping[str, Any], known: Mapping[str, Any], chain: Chain, under: str = "") -> dict[str, Any]:
    """What a config says, a mapping wherever there must be one. Raises UsageError where something else stands."""
    clean = dict(said)
    for key in known.keys() & said.keys():
        if isinstance(known[key], Mapping):
            value = {} if said[key] is None else said[key]
            if not isinstance(value, Mapping):
                raise by_hand(chain.documents[0].path, under + key, f"{under}{key} is no mapping")
            clean[key] = _as_mappings(value, known[key], chain, f"{under}{key}.")
    return clean


def _minded(key: str, pitfall: Pitfall, needed: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Is this pitfall about a value of the user's that is not another's business, or will do and has a drawback?"""
    return key in own and (key not in needed or (not pitfall.costs and not same(own[key], needed[key])))


def _finding(wanted: Wanted, chain: Chain, key: str, needed: Any, value: Any, pitfall: Pitfall | None, *,
             inside: bool) -> Finding:
    place = _place(chain, key, inside=inside)
    if key == f"MODEL.{wanted.required.weights}":
        return Finding(key, place, value, needed, OTHER_FILE, costs=False)
    if not inside and chain.unread:
        return Finding(key, place, value, needed, IN_A_BASE.format(", ".join(chain.unread)), costs=False)
    if pitfall is not None:
        return Finding(key, place, value, needed, pitfall.why, pitfall.costs)
    return Finding(key, place, value, needed, _why(key, value, needed))


def _why(key: str, value: Any, needed: Any) -> str:
    if value == UNSET:
        return NO_DEFAULT
    if key == "INPUT.FORMAT":
        return OTHER_COLOURS.format(needed)
    if key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        numbers = isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
        if numbers and key.endswith("MEAN") and max(value) <= 1 < max(needed):
            return UNIT_SCALE
        return TURNED if numbers and same(value[::-1], needed) else OTHER_PIXELS
    if key.endswith(".OUT_FEATURES"):
        return NO_SUCH_FEATURE
    return OTHER_CLASS if key == "MODEL.BACKBONE.NAME" else OTHER_SHAPE


def _fits(wanted: Wanted, key: str, value: Any, needed: Any) -> bool:
    """Will this value do? Of OUT_FEATURES, any that the class has."""
    if key.endswith(".OUT_FEATURES") and isinstance(value, list | tuple) and value:
        return set(value) <= set(needed)
    also = [one for required in wanted.requires for one in required.also.get(key.removeprefix("MODEL."), ())]
    usual = needed in also  # the alternatives are those of the usual value: not of a member that needs another
    return same(value, needed) or (usual and any(same(value, one) for one in also))


def same(a: Any, b: Any) -> bool:
    """Equal, as yacs compares: lists and tuples alike; numbers up to what people round away."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if {type(a), type(b)} <= {int, float}:
        return math.isclose(a, b, rel_tol=1e-3)
    return type(a) is type(b) and bool(a == b)


def _place(chain: Chain, key: str, *, inside: bool) -> str:
    return chain.place(key) if inside else f"{chain.documents[0].path}, default"

