"""zooconv doctor FILE, and zooconv doctor --error TEXT"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zooconv.cli.common import complete_layout, verb
from zooconv.output import Output, facts


@verb
def doctor(out: Output, file: Annotated[str | None, typer.Argument(metavar="FILE", help=(
               "A checkpoint of any kind, as MODEL.WEIGHTS would name it."))] = None,
           layout: Annotated[str | None, typer.Option("--layout", "-l", autocompletion=complete_layout,
                                                      help="What the project loads; default: the layout that fits "
                                                           "best.")] = None,
           config: Annotated[Path | None, typer.Option(help="The project's YAML config.")] = None,
           into: Annotated[str | None, typer.Option(help="A model to hold it against: package.module:builder, which is "
                                                         "imported and called.")] = None,
           error: Annotated[str | None, typer.Option(help="An error message to explain; with or without a file.")]
           = None) -> None:
    """Say what Detectron2 does with a file, why, and what mends it. Exits with 1 unless it loads the file whole."""
    from zooconv.errors import UsageError

    if file is None and error is None:
        raise UsageError("neither a file nor an error message was given", next="zooconv doctor FILE")
    if error is not None:
        _explain(out, error, file)
    else:
        assert file is not None
        _examine(out, file, layout, config, into)


def _explain(out: Output, message: str, file: str | None) -> None:
    from zooconv.doctor.causes import causes, explain
    from zooconv.errors import CheckFailed

    cause = explain(message)
    if cause is None:
        raise CheckFailed("this message is not one that Detectron2 has about a checkpoint, as far as zooconv knows",
                          why=[f"it knows {len(causes())}: docs/detectron2/troubleshooting.md"],
                          next=f"zooconv doctor {file or 'FILE'}  (examines the file itself)")
    mend = cause.mend.replace("FILE", file) if file else cause.mend
    out.result({"message": cause.message, "because": cause.why, "mend": [mend]},
               facts(("message", cause.message), ("because", cause.why), ("mend", mend)), mend)


def _examine(out: Output, file: str, layout: str | None, config: Path | None, into: str | None) -> None:
    from zooconv.doctor.diagnosis import diagnose
    from zooconv.doctor.words import data, text, verdict

    path, _, query = (file, "", "") if Path(file).exists() else file.partition("?")
    seen = diagnose(Path(path), query, layout=layout, into=into, config=config)
    out.result(data(seen), text(seen), verdict(seen))
    if not seen.healthy:
        raise typer.Exit(1)
