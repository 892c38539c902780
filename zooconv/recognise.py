"""What is this file? Header names and shapes -> family, dialect, config.

Every dialect of every family, and every layout, is held against the tensors. An exact fit is accepted; several exact
fits are accepted only where they mean the same; anything else is refused, with all that stands in the way of the
nearest one. Families that stand for many architectures are asked when the others have spoken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.family import Family, Layout, config_text
from zooconv.mapping.fit import Fit, explained, fit
from zooconv.mapping.forms import Forms
from zooconv.mapping.template import parse_template
from zooconv.plugins import all_layouts
from zooconv.tensor import TensorSpec

Reading = tuple[Family[Any], Dialect, str, Layout | None]

SHOWN = 20
NEARLY = 0.02  # of a file's tensors may not fit for it to be called damaged rather than another family's


def recognise(tensors: Mapping[str, TensorSpec], families: Iterable[Family[Any]], *, what: str,
              prefix: str | None = None, layout: str | None = None, layouts_first: bool = False) -> Fit:
    """The one reading of these tensors. `what` names the file in messages; `prefix` settles which backbone is meant.

    An upstream's own naming comes first, then files that zooconv or a project wrote; or the other way round. A family
    that stands for many architectures is asked only where no other one has the file, or none that has the `layout`.
    Raises CheckFailed where nothing fits exactly, or what does lacks the layout that a near miss has; UsageError where
    two readings disagree.
    """
    families = list(families)
    usual = Readings(tensors, [family for family in families if not family.members], prefix, layouts_first)
    exact = usual.exact()
    if not exact or not _held(exact, layout):
        general = Readings(tensors, members(tensors, families), prefix, layouts_first)
        wider = _outermost(general.exact())
        if wider and _held(wider, layout):
            exact = wider
        elif not exact and (relative := _relative(usual, families, what)) is not None:
            raise relative
        exact = exact or wider
        if not exact:
            raise _refusal(tensors, [*usual.near(), *general.near()], what)
        if not _held(exact, layout) and (near := _meant(tensors, [*usual.near(), *general.near()], layout)):
            raise _refusal(tensors, near, what)
    readings = {_meaning(f) for f in exact}
    if len(readings) > 1:
        choices = sorted({f.prefix for f in exact})
        raise UsageError(f"{what} can be read in {len(readings)} ways",
                         why=[f"{f.family.name}, {f.dialect.name} names, {f.prefix or 'no'} prefix" for f in exact],
                         next=f"say which: --prefix {choices[-1]}")
    return min(exact, key=lambda f: f.layout is not None and f.layout.mount != f.prefix)  # its own mount tells it apart


def _held(fits: list[Fit], layout: str | None) -> bool:
    """Can one of them be written in this layout, as far as its family goes?"""
    return layout is None or any(layout in one.names for found in fits for one in all_layouts(found.family))


def _meant(tensors: Mapping[str, TensorSpec], fits: list[Fit], layout: str | None) -> list[Fit]:
    """The readings that are inexact by little, in families that have the layout which the exact ones lack."""
    return [f for f in fits if not f.exact and len(f.problems) <= NEARLY * len(tensors) and _held([f], layout)]


def _outermost(fits: list[Fit]) -> list[Fit]:
    """Without readings of a part of what another reads: one architecture may hold another whole."""
    return [f for f in fits if not any(f.prefix != g.prefix and f.prefix.startswith(g.prefix) for g in fits)]


def members(tensors: Mapping[str, TensorSpec], families: Iterable[Family[Any]]) -> list[Family[Any]]:
    """The architectures that these tensors could be of, from the families that stand for many."""
    return [member for family in families if family.members for member in family.members(tensors)]


class Readings:
    """Every way to read a file: in each dialect and each layout of some families, wherever its anchor stands.

    `prefix` leaves those under it alone. `layouts_first` puts layouts before dialects.
    """

    def __init__(self, tensors: Mapping[str, TensorSpec], families: Iterable[Family[Any]], prefix: str | None = None,
                 layouts_first: bool = False) -> None:
        self.tensors, self.families, self.prefix, self.layouts_first = tensors, [*families], prefix, layouts_first
        self.forms = Forms(tensors)

    def exact(self) -> list[Fit]:
        """Those that fit exactly, of the first kind that has any. Few need to be tried: most know other names."""
        for layouts in (self.layouts_first, not self.layouts_first):
            fits = (self._fit(*one) for one in self._all(layouts=layouts) if not self._strange(*one[1:]))
            if exact := [found for found in fits if found.exact]:
                return exact
        return []

    def near(self) -> Iterator[Fit]:
        """Those that fit somewhat."""
        every = chain.from_iterable(self._all(layouts=kind) for kind in (self.layouts_first, not self.layouts_first))
        return (found for one in every if (found := self._fit(*one)).fitted)

    def _all(self, *, layouts: bool) -> Iterator[Reading]:
        for family in self.families:
            kinds = [(layout.body, layout) for layout in family.layouts] if layouts else [
                (dialect, None) for dialect in family.dialects]
            for dialect, layout in kinds:
                for prefix in self.forms.prefixes(dialect.anchor):
                    if self.prefix in (None, prefix):
                        yield family, dialect, prefix, layout

    def _strange(self, dialect: Dialect, prefix: str, layout: Layout | None) -> bool:
        """Are there names that it has no rule for, and that no layout adds?"""
        adds = layout is not None and (layout.fresh or layout.carries or layout.parts)
        return not adds and self.forms.strange(dialect, prefix)

    def _fit(self, family: Family[Any], dialect: Dialect, prefix: str, layout: Layout | None) -> Fit:
        return fit(family, dialect, self.tensors, prefix, layout)


def _meaning(found: Fit) -> tuple[object, ...]:
    """Two fits mean the same when each canonical tensor is made of the same source tensors in the same way."""
    made = sorted((name, str(value)) for name, value in found.translation.made.items())
    return found.family.name, found.prefix, tuple(made)


def _relative(readings: Readings, families: Iterable[Family[Any]], what: str) -> CheckFailed | None:
    """What is to be said of a relative of a family that its layouts cannot hold, if this is one."""
    for family in families:
        for refusal in family.refusals:
            for anchor in [parse_template(refusal.has)] if refusal.anywhere else [d.anchor for d in family.dialects]:
                for prefix in readings.forms.prefixes(anchor):
                    if refusal.applies(readings.tensors, prefix):
                        return CheckFailed(f"{what} is not a {family.title} that its Detectron2 layouts can hold",
                                           why=[refusal.reason], next=f"zooconv list --family {family.name}")
    return None


def _refusal(tensors: Mapping[str, TensorSpec], fits: list[Fit], what: str) -> CheckFailed:
    near = min(fits, key=lambda f: (len(f.problems) - f.fitted, len(f.problems)), default=None)
    if near is None or 2 * near.fitted < len(tensors):
        names = list(tensors)
        return CheckFailed(f"{what} holds no backbone that any family here knows",
                           why=[f"{len(names)} tensors: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}"],
                           next="zooconv plugins  (shows the families that are installed)")
    problems = explained(near)
    config = f" ({config_text(near.config)})" if near.config is not None else ""
    lines = [str(p) for p in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"… and {len(problems) - SHOWN} more")
    return CheckFailed(f"{what} is nearly a {near.family.title} in {near.dialect.name} names{config}, "
                       f"but {len(problems)} tensor{'s do' if len(problems) > 1 else ' does'} not fit",
                       why=lines, next="nothing was written; check that the file is whole and unmodified")
