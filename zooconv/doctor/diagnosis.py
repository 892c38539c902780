"""The examination of one file: what it is, what Detectron2 makes of it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zooconv.checkpoint.container import Unwrapped, unwrap
from zooconv.checkpoint.open import open_checkpoint
from zooconv.checkpoint.pickle_vm import is_harmful
from zooconv.d2config.check import OTHER_FILE, Finding, findings
from zooconv.d2config.keys import Wanted, wanted_of
from zooconv.d2config.yaml import Chain, read_chain
from zooconv.doctor.causes import explain
from zooconv.doctor.content import Content, looking_into
from zooconv.doctor.loader import Reading, foretell
from zooconv.doctor.names import Held, hold_all, nearest, repaired, targets_for
from zooconv.doctor.target import Target, module_target
from zooconv.errors import ZooError
from zooconv.mapping.family import Layout
from zooconv.mapping.fit import Fit
from zooconv.mapping.plan import make_plan
from zooconv.tensor import TensorSpec


@dataclass(frozen=True)
class Diagnosis:
    """All that was found out about a file.

    `weights` is None where no weights can be found in it, for the reason `none`; `choice` is the option that settles
    which of two sets they are. `each` is what becomes of the file in each model that it can be for, the best first.
    `wrong` is what in `config` does not go with the weights.
    """

    content: Content
    reading: Reading
    weights: Unwrapped | None
    none: ZooError | None
    choice: str
    found: Fit | None
    each: tuple[Held, ...]
    after_repair: Held | None
    wrong: tuple[Finding, ...] = ()
    config: Path | None = None
    into: str = ""
    settled: bool = False
    harmful: tuple[str, ...] = ()

    @property
    def held(self) -> Held | None:
        """What becomes of it in the model that it is best for."""
        return self.each[0] if self.each else None

    @property
    def astray(self) -> Held | None:
        """A model that gets all that it needs, and near which other tensors may end up: that with most of these."""
        known = [layout.name for layout in self.found.family.layouts] if self.found else []
        odd = [(-len(held.astray), known.index(held.target.layout.name), held) for held in self.each
               if held.target.layout and held.astray and not held.partly]
        return min(odd, default=(0, 0, None), key=lambda row: row[:2])[2]

    @property
    def healthy(self) -> bool:
        """Does Detectron2 load the file whole, wherever it runs?"""
        reading, held = self.reading, self.held
        loads = not (reading.raised or reading.unknown or reading.fragile or self.harmful)
        return loads and held is not None and held.whole and not self.astray and not self.wrong

    @property
    def because(self) -> str:
        """Why Detectron2 does not load it whole."""
        raised = self.reading.raised or (self.held.matching.raised if self.held else None)
        if self.content.format == "safetensors" and (self.reading.fragile or raised is not None):
            return "the file is safetensors, for which Detectron2 has no reader of its own"
        if self.reading.fragile:
            missing = explain(f"No module named '{'numpy._core' if 'numpy' in self.reading.fragile else 'x'}'")
            return missing.why if missing else ""
        cause = explain(str(raised)) if raised else None
        if cause:
            return cause.why
        if self.reading.caffe2 and self.held and not self.held.whole and self.content.path.suffix == ".pkl":
            return ('a .pkl without "__author__" is taken for a file of Caffe2, every "_" in whose names becomes a "."'
                    if self.reading.under != "model" else "")
        if self.astray:
            return ("with matching_heuristics a tensor goes to any name of the model that ends in its own: what the "
                    "backbone has no place for may end up in a decoder")
        return ""


def diagnose(path: Path, query: str = "", *, layout: str | None = None, into: str | None = None,
             config: Path | None = None) -> Diagnosis:
    """Examine a file, of whatever container; nothing in it is executed.

    It is held against the layout that fits it best, or against `layout`, or against the module that calling `into`
    gives. `config` is a Detectron2 config, whose backbone and pixel settings are looked at. Raises UsageError for a
    path, a layout, a builder or a config that is none.
    """
    chain = read_chain(config) if config else None
    settings = chain.values if chain else {}
    named, _, asked = str(settings.get("MODEL", {}).get("WEIGHTS") or "").partition("?")
    query = query or (asked if Path(named).name == path.name else "")
    with looking_into(path) as content:
        reading = foretell(content, query)
        weights, none, choice = _weights(content)
        specs = {n: TensorSpec(n, t.shape, t.dtype) for n, t in weights.tensors.items()} if weights else {}
        found = nearest(specs) if specs else None
        targets = _targets(found, layout, into, settings)
        each = hold_all(reading, targets) if reading.entries else []
        mended = hold_all(repaired(specs.values()), targets) if specs else []
        after_repair = mended[0] if mended else None
        aim = (each or mended)[:1]
        layout_meant = aim[0].target.layout if aim else None
        wrong = _wrong(chain, path, found, layout_meant) if chain else ()
        harmful = tuple(filter(is_harmful, content.scan.globals))
        return Diagnosis(content, reading, weights, none, choice, found, tuple(each), after_repair, wrong, config,
                         into or "", bool(layout or into), harmful)


def _wrong(chain: Chain, path: Path, found: Fit | None, layout: Layout | None) -> tuple[Finding, ...]:
    """What in a config costs accuracy with these weights, and whether it loads another file."""
    wrong: list[Finding] = []
    if found is not None and found.exact and layout is not None and (wanted := _wanted(found, layout, path)):
        wrong = [one for one in findings(wanted, chain) if one.costs]
    named = str(chain.values.get("MODEL", {}).get("WEIGHTS") or "").partition("?")[0]
    if named and Path(named).name != path.name:
        wrong.append(Finding("MODEL.WEIGHTS", chain.place("MODEL.WEIGHTS"), named, str(path), OTHER_FILE))
    return tuple(wrong)


def _wanted(found: Fit, layout: Layout, path: Path) -> Wanted | None:
    """What a config must say for these weights in this layout; None where the layout cannot be made of them."""
    try:
        return wanted_of(make_plan(found, layout), str(path))
    except ZooError:
        return None


def _weights(content: Content) -> tuple[Unwrapped | None, ZooError | None, str]:
    """The weights that a repair would take, or why it would take none; and how to ask for them."""
    if content.trouble is not None:
        return None, content.trouble, ""
    try:
        if content.format == "shard index":
            with open_checkpoint(content.path) as whole:
                return Unwrapped(dict(whole.tensors), whole.wrapper, whole.beside), None, ""
        return unwrap(content.tree, strays=True), None, ""
    except ZooError as error:
        reason = error
    try:  # the plain ones of a file that has averaged ones, too: they are those that Detectron2 takes
        return unwrap(content.tree, strays=True, ema=False), None, " --no-ema"
    except ZooError:
        return None, reason, ""


def _targets(found: Fit | None, layout: str | None, into: str | None, settings: dict[str, Any]) -> list[Target]:
    if into:
        return [module_target(into)]
    if found is None:
        return []
    backbone = settings.get("MODEL", {}).get("BACKBONE", {})
    return targets_for(found, layout, str(backbone.get("NAME")) if isinstance(backbone, dict) else None)
