"""zooconv diff A B"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, facts, some, table


@verb
def diff(out: Output, a: Annotated[Path, typer.Argument(help="A checkpoint.", metavar="A")],
         b: Annotated[Path, typer.Argument(help="Another, in any naming.", metavar="B")]) -> None:
    """Compare two checkpoints in canonical names: keys, shapes, values. Exits with 1 if they differ."""
    from zooconv.diff import diff as compare

    found = compare(a, b)
    beside = [f"{side}: {some(names)}" for side, names in found.beside.items() if names]
    text = facts(("A", found.a), ("B", found.b), ("names", found.names), ("same", f"{found.same} tensors"),
                 ("beside", "\n".join(beside)))
    if found.changes:
        text += "\n\n" + table([(c.how, c.name, c.detail) for c in found.changes])
    out.result(found.data, text, "\n".join(c.name for c in found.changes))
    if found.changes:
        raise typer.Exit(1)
