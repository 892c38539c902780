"""zooconv layouts [NAME]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zooconv.cli.common import complete_layout, verb
from zooconv.output import Output, facts, some, table

if TYPE_CHECKING:
    from zooconv.mapping.family import Family, Layout


@verb
def layouts(out: Output,
            name: Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=complete_layout, help=(
                "A family, whose layouts are told in full; or a layout, for the families that have it."))] = None
            ) -> None:
    """List the Detectron2 layouts that can be written."""
    from zooconv.plugins import all_layouts, families, layout_names
    from zooconv.plugins import family as family_of

    having = [] if name in {f.name for f in families()} else [f for f in families() if name in layout_names(f)]
    known = having or ([family_of(name)] if name else families())
    rows = [_facts(f, layout) for f in known for layout in all_layouts(f) if not having or name in layout.names]
    out.result(rows, _full(rows) if name else _overview(rows), "\n".join(name for row in rows for name in row["names"]))
    if name is None:
        out.say("\nnext: zooconv layouts FAMILY  (what each lacks, adds and changes)")


def _overview(rows: list[dict[str, Any]]) -> str:
    shown = [(row["family"], row["names"][0], row["mount"] or "-", ", ".join(row["names"][1:])) for row in rows]
    return table(shown, ("FAMILY", "LAYOUT", "MOUNT", "ALSO CALLED"))


def _full(rows: list[dict[str, Any]]) -> str:
    return "\n\n".join(facts(
        ("layout", f"{', '.join(row['names'])}  ({row['family']})"), ("mount", row["mount"] or "none"),
        ("lacks", some(list(row["lacks"]))), ("adds", some(row["adds"], 2)), ("changes", "\n".join(row["changes"])))
        for row in rows)


def _facts(family: Family[Any], layout: Layout) -> dict[str, Any]:
    config = next(iter(family.variants.values()))
    requires = layout.requires
    return {"family": family.name, "names": list(layout.names), "mount": layout.mount, "source": layout.source,
            "lacks": dict(layout.omit), "adds": [f.name for f in layout.fresh_tensors(config)],
            "changes": [change.title for change in layout.changes],
            "requires": {"format": requires.format, "pixel_mean": requires.pixel_mean, "pixel_std": requires.pixel_std,
                         "note": requires.advice(layout.after(config))}}
