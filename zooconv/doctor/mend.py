"""What to type, or to do, about a file that Detectron2 does not load whole."""

from __future__ import annotations

from collections.abc import Iterator

from zooconv.doctor.causes import explain
from zooconv.doctor.diagnosis import Diagnosis
from zooconv.mapping.fit import Fit


def mend(seen: Diagnosis) -> list[str]:
    """The command, or the act, that mends a file, and the lines that its config needs; nothing for a healthy one."""
    return [] if seen.healthy else list(_steps(seen))


def _steps(seen: Diagnosis) -> Iterator[str]:
    path, held, found = seen.content.path, seen.held, seen.found
    if seen.harmful:
        yield "delete the file, and get the weights elsewhere (prefer .safetensors)"
    elif seen.weights is None:
        raised = explain(str(seen.reading.raised)) if seen.reading.raised else None
        own = seen.none.next if seen.none else ""
        yield own or (raised.mend.replace("FILE", str(path)) if raised else f"zooconv inspect {path}")
    elif held is not None and held.whole and not seen.astray and not seen.reading.fragile:
        pass
    elif _repairable(seen):
        yield f"zooconv repair {path}{seen.choice}"
    elif found is not None and found.exact and not seen.into:
        yield _convert(seen, found)
    elif found is None and held is None and not seen.reading.raised:
        yield f"zooconv doctor {path} --into package.module:builder  (holds it against a model of your own)"
    else:
        yield f"zooconv inspect {path}  (says what it is, and what it can become)"
    for wrong in seen.wrong:
        yield wrong.text.partition("\n")[0]
    if seen.wrong and held is not None and held.target.layout:
        yield f"zooconv config {path} -l {held.target.layout.name} --write {seen.config}"


def _repairable(seen: Diagnosis) -> bool:
    """Do the names, as they are, suit the model, so that nothing but the form is amiss?

    A file without a mount suits a layout without one, which is rare: there, somebody must have said so.
    """
    after = seen.after_repair
    if after is None:
        return bool(seen.reading.raised)
    return after.whole and bool(after.target.mount or seen.settled) and not seen.astray


def _convert(seen: Diagnosis, found: Fit) -> str:
    near, names = seen.astray or seen.after_repair, [layout.name for layout in found.family.layouts]
    known = near and near.target.layout and (seen.settled or 2 * len(near.matching.loaded) > len(near.target.shapes))
    chosen = near.target.name if known and near else names[0]
    others = ", ".join(name for name in names if name != chosen)
    return (f"zooconv convert {seen.content.path} --layout {chosen}{seen.choice}"
            + (f"  (or your project's: {others})" if others and not seen.settled else ""))
