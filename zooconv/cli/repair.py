"""zooconv repair FILE"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, facts, megabytes, some


@verb
def repair(out: Output, file: Annotated[Path, typer.Argument(metavar="FILE", help=(
               "A checkpoint that Detectron2 does not load."))],
           output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; default: beside it, "
                                                       "as FILE_repaired.pth.")] = None,
           ema: Annotated[bool | None, typer.Option("--ema/--no-ema", help="Take the averaged weights, or the plain "
                                                    "ones, of a file that has both.")] = None,
           key: Annotated[str | None, typer.Option(help="The key under which the weights stand in the file.")] = None,
           force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
           load_check: Annotated[bool, typer.Option("--load-check/--no-load-check",
                                                    help="Have torch load the written file.")] = True) -> None:
    """Write the same tensors under the same names in the form that Detectron2 loads. The file itself stays."""
    from zooconv.repair import repair as mend

    done = mend(file, output, ema=ema, key=key, force=force, load_check=load_check)
    written, tensors = done.written, len(done.written.target)
    loads = f"torch {done.torch} loads it" if done.torch else "not loaded with torch (--no-load-check)"
    out.say(facts(
        ("source", str(done.source)), ("changed", "\n".join(done.changes) or "nothing: it was as it should be"),
        ("left out", some(done.beside, 8)),
        ("wrote", f"{done.path}  ({tensors} tensors, {megabytes(written.file.size)})"),
        ("sha256", written.file.sha256),
        ("checked", f"read back, {tensors} tensors as they were, every CRC-32 right · {loads}"),
        ("mind", f"NaN or Inf in {some(written.nonfinite)}" if written.nonfinite else ""),
        ("next", f"zooconv doctor {done.path}"),
    ))
    out.result({"source": str(done.source), "file": str(done.path), "changes": list(done.changes),
                "left_out": list(done.beside), "tensors": tensors, "sha256": written.file.sha256, "torch": done.torch,
                "size": written.file.size, "nonfinite": list(written.nonfinite)}, str(done.path), str(done.path))
