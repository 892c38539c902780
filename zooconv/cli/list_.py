"""zooconv list [GLOB]"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, table


@verb
def list_(out: Output, glob: Annotated[str, typer.Argument(help="A pattern, like 'convnext_*_22k'.")] = "*",
          family: Annotated[str | None, typer.Option(help="Only this family's models.")] = None) -> None:
    """List the models that can be fetched by name."""
    from zooconv.plugins import family as family_of
    from zooconv.zoo import zoo

    wanted = family_of(family).name if family else None
    models = [m for m in zoo().matching(glob) if wanted in (None, m.family)]
    rows = [(m.name, m.family, m.variant, str(m.input), str(m.mb), m.license, m.repo or m.url) for m in models]
    text = table(rows, ("NAME", "FAMILY", "VARIANT", "INPUT", "MB", "LICENCE", "SOURCE")) if rows else ""
    if not rows:
        out.say(f"no model is called {glob!r}; zooconv list shows all" if glob != "*" else
                f"family {wanted} has no zoo: it converts files, and has no models to fetch by name")
    out.result([asdict(m) for m in models], text, "\n".join(m.name for m in models))
