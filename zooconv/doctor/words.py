"""A diagnosis in words: the verdict in one line, the facts in a table, what mends it at the end; and as plain data."""

from __future__ import annotations

import textwrap
from typing import Any

from zooconv.doctor.diagnosis import Diagnosis
from zooconv.doctor.mend import mend
from zooconv.doctor.names import Held
from zooconv.mapping.family import config_text
from zooconv.output import facts, some

WIDTH = 100


def verdict(seen: Diagnosis) -> str:
    """What Detectron2 does with the file, in one line."""
    name, reading, held = seen.content.path.name, seen.reading, seen.held
    if seen.harmful:
        runs = " and Detectron2 would let it" if seen.content.path.suffix == ".pkl" else ""
        return f"{name}: do not load it: it asks to call {', '.join(seen.harmful)}{runs}"
    if reading.unknown:
        return f"{name}: what Detectron2 makes of it cannot be told: {reading.unknown.splitlines()[0]}"
    if raised := reading.raised or (held.matching.raised if held else None):
        return f"{name}: Detectron2 does not load it: {raised}"
    if held is None:
        return f"{name}: Detectron2 reads {len(reading.entries)} tensors; for which model, no family here knows"
    return f"{name}: {_share(held)}{_but(seen)}"


def _share(held: Held) -> str:
    got, all_ = len(held.matching.loaded), len(held.target.shapes) - len(held.spare)
    if not got:
        return "Detectron2 loads nothing of it: none of its names is the model's"
    if held.partly:
        return f"Detectron2 loads {got} of {all_} tensors of {held.target.title}; the others stay random"
    return f"Detectron2 loads it: {got} of {all_} tensors of {held.target.title}"


def _but(seen: Diagnosis) -> str:
    if seen.reading.fragile and seen.held and seen.held.matching.loaded:
        return f", but only with {seen.reading.fragile}"
    if seen.astray and seen.held and not seen.held.partly:
        where = "" if seen.astray is seen.held else f" in a project of layout {seen.astray.target.name}"
        return f", but{where} {len(seen.astray.astray)} others may go astray"
    return ", but the config does not go with them" if seen.wrong and seen.held and seen.held.whole else ""


def text(seen: Diagnosis) -> str:
    """The whole diagnosis, for people."""
    return verdict(seen) + "\n\n" + facts(*_rows(seen))


def _rows(seen: Diagnosis) -> list[tuple[str, str]]:
    """A label and a fact each; those that are empty are left out."""
    because = seen.because or (_reason(seen) if seen.reading.raised or seen.held is None else "")
    return [
        ("file", _file(seen)), ("is", _identity(seen)), ("read", _read(seen)),
        *(_names_rows(seen, seen.held) if seen.held else []),
        ("beside", some(seen.weights.beside) if seen.weights else ""),
        ("because", textwrap.fill(because, WIDTH)),
        ("mend", "\n".join(mend(seen))),
    ]


def _names_rows(seen: Diagnosis, held: Held) -> list[tuple[str, str]]:
    matching, astray = held.matching, (seen.astray or held).astray
    if not matching.loaded and not matching.skipped:
        return [("it has", some(list(seen.reading.entries))), ("the model has", some(list(held.target.shapes)))]
    skipped = [*map(str, matching.skipped[:4]), *(["…"] if len(matching.skipped) > 4 else [])]
    layouts = [f"{h.target.name}: {_outcome(h)}" for h in seen.each if h.matching.loaded]
    return [
        ("lost", _names(held.lost, "not in the file: they stay random")),
        ("skipped", "\n".join(skipped)),
        ("astray", _names(astray, "may be taken for any tensor of the model whose name ends so")),
        ("passed over", _names([n for n in held.left if n not in astray], "the model has no such tensors")),
        ("as made", _names(held.spare, "the model makes them itself")),
        ("around", f"{held.around:,} more in the file, not the backbone's and not judged" if held.around else ""),
        ("layouts", "\n".join(layouts) if len(layouts) > 1 else ""),
    ]


def _outcome(held: Held) -> str:
    """What becomes of a file in one layout, in a few words."""
    if held.matching.raised:
        return str(held.matching.raised)
    odd = [f"{len(names)} {what}" for names, what in (
        (held.lost, "lost"), (held.matching.skipped, "skipped"), (held.astray, "may go astray"),
        ([] if held.astray else held.left, "passed over"),
        (held.spare, "as made")) if names]
    return ", ".join(["nothing" if not held.matching.loaded else "a part" if held.partly else "all", *odd])


def _file(seen: Diagnosis) -> str:
    weights = seen.weights
    held = f", {len(weights.tensors)} tensors under {'.'.join(weights.wrapper) or 'no key'}" if weights else ""
    return f"{seen.content.path}  ({seen.content.format}{held})"


def _identity(seen: Diagnosis) -> str:
    found = seen.found
    if found is None:
        return ""
    nearly = "" if found.exact else "nearly "
    return (f"{nearly}{found.family.title} {found.variant or '(no known variant)'}, {found.dialect.name} names"
            f"{f' under {found.prefix}' if found.prefix else ''}  ({config_text(found.config)})")


def _read(seen: Diagnosis) -> str:
    reading = seen.reading
    if reading.raised or reading.unknown:
        return ""
    how = "as a file of Caffe2, names rewritten and matched by their ends" if reading.caffe2 and reading.matching else (
        "names matched by their ends" if reading.matching else "exact names")
    return f"{len(reading.entries)} tensors, {how}"


def _reason(seen: Diagnosis) -> str:
    return "\n".join([seen.none.what, *seen.none.why[:4]]) if seen.none else ""


def _names(names: list[str], what: str) -> str:
    return f"{len(names)}: {some(names)}  ({what})" if names else ""


def data(seen: Diagnosis) -> dict[str, Any]:
    """The whole diagnosis, for programs."""
    reading, held, found, weights = seen.reading, seen.held, seen.found, seen.weights
    raised = reading.raised or (held.matching.raised if held else None)
    return {
        "file": str(seen.content.path), "verdict": verdict(seen), "healthy": seen.healthy,
        "format": seen.content.format, "wrapper": list(weights.wrapper) if weights else None,
        "beside": list(weights.beside) if weights else None, "tensors": len(weights.tensors) if weights else None,
        "family": found.family.name if found else None, "dialect": found.dialect.name if found else None,
        "prefix": found.prefix if found else None, "exact": found.exact if found else None,
        "raises": raised._asdict() if raised else None, "matching": reading.matching, "caffe2": reading.caffe2,
        "fragile": reading.fragile, "unknown": reading.unknown, "harmful": list(seen.harmful),
        "names": _held_data(held) if held else None,
        "astray": (seen.astray or held).astray if held else [],
        "layouts": {h.target.name: _outcome(h) for h in seen.each if h.target.layout},
        "config": [one.data for one in seen.wrong], "because": seen.because or _reason(seen), "mend": mend(seen),
    }


def _held_data(held: Held) -> dict[str, Any]:
    return {"target": held.target.title, "layout": held.target.layout.name if held.target.layout else None,
            "loaded": dict(held.matching.loaded), "lost": held.lost, "left": held.left, "spare": held.spare,
            "skipped": [s._asdict() for s in held.matching.skipped], "around": held.around}
