"""zooconv layouts [FAMILY]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, some, table

if TYPE_CHECKING:
    from zooconv.mapping.family import Family, Layout


@verb
def layouts(out: Output,
            family: Annotated[str | None, typer.Argument(help="Only this family's layouts.")] = None) -> None:
    """List the Detectron2 layouts that can be written."""
    from zooconv.plugins import all_layouts, families
    from zooconv.plugins import family as family_of

    rows = [_facts(f, layout) for f in ([family_of(family)] if family else families()) for layout in all_layouts(f)]
    shown = [(row["family"], " = ".join(row["names"]), row["mount"], some(list(row["lacks"])) or "-",
              some(row["adds"], 2) or "-", "; ".join(row["changes"]) or "-") for row in rows]
    out.result(rows, table(shown, ("FAMILY", "LAYOUT", "MOUNT", "LACKS", "ADDS", "CHANGES")),
               "\n".join(name for row in rows for name in row["names"]))


def _facts(family: Family[Any], layout: Layout) -> dict[str, Any]:
    config = next(iter(family.variants.values()))
    requires = layout.requires
    return {"family": family.name, "names": list(layout.names), "mount": layout.mount, "source": layout.source,
            "lacks": dict(layout.omit), "adds": [f.name for f in layout.fresh_tensors(config)],
            "changes": [change.title for change in layout.changes],
            "requires": {"format": requires.format, "pixel_mean": requires.pixel_mean, "pixel_std": requires.pixel_std,
                         "note": requires.advice(layout.after(config))}}
