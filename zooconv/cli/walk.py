"""The road with somebody watching: what `convert` and `fetch-convert` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zooconv.output import Output, table

if TYPE_CHECKING:
    from zooconv.names import Source
    from zooconv.options import Options

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, proved from the headers, and write nothing.")]


def walk(out: Output, source: Source, options: Options, *, dry_run: bool) -> None:
    """Walk the road for one source, and say what happened."""
    from zooconv.names import LocalSource
    from zooconv.pipeline import looking_ahead, run
    from zooconv.report import config_part, summary

    hub = None
    if not isinstance(source, LocalSource):
        from zooconv.hub import Hub

        out.say(f"{'looking at' if dry_run else 'fetching'} {source.address} …")
        hub = Hub(progress=not (out.json or out.quiet))
    if dry_run:
        with looking_ahead(source, options, hub=hub, headers=True) as preview:
            moves = [(move.target.name, str(move.value)) for move in preview.plan.moves]
            text = table(moves, ("TARGET", "MADE OF")) + "\n\n" + summary(preview.data)  # which stays on the screen
            out.result({**preview.data, "moves": dict(moves)}, text, str(preview.place.path))
        return
    with out.progress("writing") as watching:
        conversion = run(source, options, hub=hub, watching=watching)
    data = conversion.data
    config = f"\n\n{config_part(data)}\n" if "config_text" in data else ""
    out.say(summary(data) + config)
    out.result(data, str(conversion.path), str(conversion.path))
