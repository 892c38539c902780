"""The command line: one verb, one file; this one only wires them."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Annotated, Any

import typer

from zooconv import __version__
from zooconv.cli import (
    batch,
    cache,
    card,
    config,
    convert,
    diff,
    doctor,
    fetch,
    fetch_convert,
    inspect,
    layouts,
    list_,
    parity,
    plugins,
    registry,
    repair,
    show,
    verify,
)

app = typer.Typer(
    name="zooconv", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    epilog="Start with: zooconv fetch-convert convnext_tiny_22k",
)

for name, command, panel in (
    ("fetch-convert", fetch_convert.fetch_convert, "Convert"),
    ("convert", convert.convert, "Convert"),
    ("batch", batch.batch, "Convert"),
    ("fetch", fetch.fetch, "Convert"),
    ("inspect", inspect.inspect, "Look"),
    ("diff", diff.diff, "Look"),
    ("list", list_.list_, "Look"),
    ("show", show.show, "Look"),
    ("layouts", layouts.layouts, "Look"),
    ("doctor", doctor.doctor, "Mend"),
    ("repair", repair.repair, "Mend"),
    ("config", config.config, "Use"),
    ("verify", verify.verify, "Check"),
    ("parity", parity.parity, "Check"),
    ("card", card.card, "Check"),
):
    app.command(name, rich_help_panel=panel)(command)
app.add_typer(registry.app, name="registry", rich_help_panel="Record")
app.add_typer(cache.app, name="cache", rich_help_panel="Record")
app.add_typer(plugins.app, name="plugins", rich_help_panel="Look")


def _version(value: bool) -> None:
    if value:
        print(f"zooconv {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                               help="Print the version.")] = False) -> None:
    """Published backbone weights into the exact file that a Detectron2 project loads, proved on the way."""


def _terminate(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The console script."""
    gc.set_threshold(100_000)  # tables are many objects that stay: no need to walk through them again and again
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start a thread per core, for sums we never do
    signal.signal(signal.SIGTERM, _terminate)  # so that a draft is swept away, as on Ctrl-C
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    finally:
        gc.freeze()  # all memory goes with the process: no need to walk through it once more, for 50 ms
