"""zooconv plugins, and zooconv plugins new NAME"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, table

app = typer.Typer(invoke_without_command=True)


@app.callback()
@verb
def plugins(out: Output, context: typer.Context) -> None:
    """List the installed plugins, and what each gave or why it gave nothing."""
    from zooconv.plugins import plugins as installed

    if context.invoked_subcommand:
        return
    rows = [{"name": p.name, "dist": p.dist, "version": p.version, "families": [f.name for f in p.families],
             "engines": [e.name for e in p.engines], "problem": p.problem} for p in installed()]
    shown = [(p.name, p.dist, p.version, ", ".join([*(f.name for f in p.families), *(f"engine {e.name}"
                                                                                    for e in p.engines)])
              or f"left out: {p.problem}") for p in installed()]
    out.result(rows, table(shown, ("PLUGIN", "PACKAGE", "VERSION", "GIVES")), "\n".join(row[0] for row in shown))


@app.command("new")
@verb
def new(out: Output, name: Annotated[str, typer.Argument(metavar="NAME", help="The family's name, such as mynet.")],
        title: Annotated[str, typer.Option(help="The family's name as its authors write it; default: NAME.")] = "",
        into: Annotated[Path | None, typer.Option(help="The folder to make; default: zooconv-NAME.")] = None) -> None:
    """Write a new plugin: a package with one family that works, and a test that it passes."""
    from zooconv.scaffold import rendered, write_plugin

    folder = into or Path(f"zooconv-{name}")
    written = write_plugin(folder, rendered(name, title))
    out.say(f"next: cd {folder} && pip install -e '.[test]' && pytest")
    out.result([str(path) for path in written], "\n".join(map(str, written)), str(folder))
