"""zooconv plugins"""

from __future__ import annotations

from zooconv.cli.common import verb
from zooconv.output import Output, table


@verb
def plugins(out: Output) -> None:
    """List the installed plugins, and what each gave or why it gave nothing."""
    from zooconv.plugins import plugins as installed

    rows = [{"name": p.name, "dist": p.dist, "version": p.version, "families": [f.name for f in p.families],
             "problem": p.problem} for p in installed()]
    shown = [(p.name, p.dist, p.version, ", ".join(f.name for f in p.families) or f"left out: {p.problem}")
             for p in installed()]
    out.result(rows, table(shown, ("PLUGIN", "PACKAGE", "VERSION", "FAMILIES")), "\n".join(row[0] for row in shown))
