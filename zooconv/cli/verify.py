"""zooconv verify [NAME …]"""

from __future__ import annotations

from typing import Annotated

import typer

from zooconv.cli.common import RegistryFile, SourceFile, open_registry, verb
from zooconv.output import Output, table


@verb
def verify(out: Output, names: Annotated[list[str] | None, typer.Argument(
        help="Artifacts, models, files or patterns; default: all.", metavar="NAME")] = None,
           certificate: Annotated[bool, typer.Option("--certificate", help="Check the certificates, too, against "
                                                     "artifacts and sources, tensor by tensor.")] = False,
           source: SourceFile = None, registry: RegistryFile = None) -> None:
    """Hash artifacts again and hold them against the registry. Exits with 1 if one is changed or missing."""
    from zooconv.verify import verify as verify_all

    outcomes = list(verify_all(open_registry(registry), names or (), certificate=certificate, source=source))
    bad = [o for o in outcomes if o.status != "ok"]
    text = table([(o.status, o.name, o.file, o.why) for o in outcomes])
    out.result([o._asdict() for o in outcomes], text, "\n".join(o.name for o in bad))
    if bad:
        raise typer.Exit(1)
