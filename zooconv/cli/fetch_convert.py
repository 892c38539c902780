"""zooconv fetch-convert NAME"""

from __future__ import annotations

from typing import Annotated

import typer

from zooconv.cli.common import complete_name, verb, with_options
from zooconv.cli.walk import DryRun, walk
from zooconv.options import Options
from zooconv.output import Output


@verb
@with_options
def fetch_convert(out: Output, model: Annotated[str, typer.Argument(
        metavar="NAME", help="A model of the zoo, a repository (owner/repo, or owner/repo@revision:file), a file, or "
                            "zoo://NAME@LAYOUT,OPTION…",
        autocompletion=complete_name)], options: Options, dry_run: DryRun = False) -> None:
    """Download a model's weights and convert them to a Detectron2 layout."""
    from zooconv.pipeline import meant

    source, options = meant(model, options)
    walk(out, source, options, dry_run=dry_run)
