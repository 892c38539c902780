"""zooconv verify [NAME …]"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, table


@verb
def verify(out: Output, names: Annotated[list[str] | None, typer.Argument(
        help="Artifacts, models, files or patterns; default: all.", metavar="[NAME]...")] = None,
           registry: Annotated[Path | None, typer.Option(help="The registry; default: $ZOOCONV_REGISTRY, else "
                                                              "./registry.json.")] = None) -> None:
    """Hash artifacts again and hold them against the registry. Exits with 1 if one is changed or missing."""
    from zooconv import settings
    from zooconv.errors import UsageError
    from zooconv.registry import Registry
    from zooconv.verify import verify as verify_all

    path = registry or settings.registry_path() or Path("registry.json")
    if not path.exists():
        raise UsageError(f"there is no registry {path}", next="name it: --registry FILE, or convert something first")
    outcomes = list(verify_all(Registry.read(path), names or ()))
    bad = [o for o in outcomes if o.status != "ok"]
    text = table([(o.status, o.name, o.file, o.why) for o in outcomes])
    out.result([o._asdict() for o in outcomes], text, "\n".join(o.name for o in bad))
    if bad:
        raise typer.Exit(1)
