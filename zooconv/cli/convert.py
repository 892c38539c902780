"""zooconv convert FILE"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zooconv.cli.common import verb, with_options
from zooconv.cli.walk import DryRun, walk
from zooconv.options import Options
from zooconv.output import Output


@verb
@with_options(without=("partial",))
def convert(out: Output, file: Annotated[Path, typer.Argument(metavar="FILE", help=(
                "A checkpoint: .pth, .pt, .bin, .safetensors, .pkl, or the index of a sharded one."))],
            options: Options, dry_run: DryRun = False) -> None:
    """Convert a checkpoint file to a Detectron2 layout, or back to the names of an upstream."""
    from zooconv.errors import UsageError
    from zooconv.names import local
    from zooconv.zoo import zoo

    if not file.exists() and zoo().find(str(file)):
        raise UsageError(f"there is no file {file}", why=["it is the name of a model, which can be fetched"],
                         next=f"zooconv fetch-convert {file} --layout {options.layout}")
    walk(out, local(file), options, dry_run=dry_run)
