"""zooconv inspect FILE | NAME"""

from __future__ import annotations

from typing import Annotated

import typer

from zooconv.cli.common import complete_name, verb
from zooconv.output import Output


@verb
def inspect(out: Output, file: Annotated[str, typer.Argument(
                help="A checkpoint of any kind that zooconv reads; or a model of the zoo, owner/repo@revision:file "
                     "or an https address, of which only the headers are fetched.", autocompletion=complete_name)],
            ema: Annotated[bool, typer.Option("--ema", help="Look at the averaged weights, if it has some.")] = False,
            key: Annotated[str | None, typer.Option(help="The key under which the weights stand.")] = None,
            prefix: Annotated[str | None, typer.Option(help="The prefix of the backbone's tensors.")] = None,
            digest: Annotated[bool, typer.Option("--digest/--no-digest", help="Read every tensor for the canonical "
                                                 "digest, or only the headers.")] = True) -> None:
    """Say what a checkpoint file is, without running anything in it."""
    from zooconv import pipeline

    seen = pipeline.inspect(file, ema=ema, key=key, prefix=prefix, digest=digest)
    out.result(seen.data, seen.text, f"{seen.data['family'] or 'unknown'}")
