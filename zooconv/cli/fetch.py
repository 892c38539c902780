"""zooconv fetch NAME"""

from __future__ import annotations

from typing import Annotated

import typer

from zooconv.cli.common import complete_name, verb
from zooconv.output import Output, facts, megabytes


@verb
def fetch(out: Output, name: Annotated[str, typer.Argument(
        help="A model of the zoo, or a hub repository: owner/repo, or owner/repo@revision:file.",
        autocompletion=complete_name)]) -> None:
    """Download a model's weights into the hub's cache, and verify them."""
    from zooconv import pipeline
    from zooconv.hub import Hub

    got = pipeline.fetch(name, hub=Hub(progress=not (out.json or out.quiet)))
    out.say(facts(("source", str(got)), ("passed over", "\n".join(got.passed)),
                  *((f.file, f"{megabytes(f.size)}, sha256 {f.sha256}, as {'promised' if got.url else 'the hub says'}")
                    for f in got.files)))
    out.result({"path": str(got.path), **got.origin, "license": got.license,
                "files": [f._asdict() for f in got.files]}, str(got.path), str(got.path))
