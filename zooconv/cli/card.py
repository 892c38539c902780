"""zooconv card NAME"""

from __future__ import annotations

from typing import Annotated

import typer

from zooconv.cli.common import MaxMemory, RegistryFile, SourceFile, in_bytes, verb
from zooconv.output import Output


@verb
def card(out: Output, what: Annotated[str, typer.Argument(help="An artifact, by its name or file.", metavar="NAME")],
         against: Annotated[list[str] | None, typer.Option(help="An upstream to run it against; again for more. "
                                                           "Default: all that are installed.")] = None,
         source: SourceFile = None, registry: RegistryFile = None, max_memory: MaxMemory = None) -> None:
    """Verify an artifact in every way there is, and write its card beside it. Exits with 1 if a check fails."""
    from zooconv.card import make_card, page, write_card
    from zooconv.subject import subjects

    made = []
    for opening in subjects(what, source=source, registry=registry):
        with opening as subject:
            made.append(make_card(subject, against or (), memory=in_bytes(max_memory)))
            paths = write_card(made[-1], subject.path)
        out.say(f"wrote {paths[0]} and {paths[1].name}")
    out.result([one.model_dump(mode="json", exclude_none=True) for one in made], "\n".join(map(page, made)),
               "\n".join(one.artifact for one in made if not one.passed))
    if not all(one.passed for one in made):
        raise typer.Exit(1)
