"""The command line: one verb, one file; this one only wires them."""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from zooconv import __version__

# Each verb's file, and the panel of the help that it stands in.
VERBS = {
    "fetch-convert": ("fetch_convert", "Convert"),
    "convert": ("convert", "Convert"),
    "batch": ("batch", "Convert"),
    "fetch": ("fetch", "Convert"),
    "inspect": ("inspect", "Look"),
    "diff": ("diff", "Look"),
    "list": ("list_", "Look"),
    "show": ("show", "Look"),
    "layouts": ("layouts", "Look"),
    "doctor": ("doctor", "Mend"),
    "repair": ("repair", "Mend"),
    "config": ("config", "Use"),
    "verify": ("verify", "Check"),
    "parity": ("parity", "Check"),
    "card": ("card", "Check"),
    "registry": ("registry", "Record"),
    "cache": ("cache", "Record"),
    "plugins": ("plugins", "Look"),
}


def wired(*verbs: str) -> typer.Typer:
    """The command line with these verbs, or with all: a verb that is called need not wait for the others' files."""
    app = typer.Typer(name="zooconv", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
                      context_settings={"help_option_names": ["--help", "-h"]},
                      epilog="Start with: zooconv fetch-convert convnext_tiny_22k")
    app.callback()(root)
    for name in verbs or VERBS:
        file, panel = VERBS[name]
        module = import_module(f"zooconv.cli.{file}")
        if isinstance(verbs_of_its_own := getattr(module, "app", None), typer.Typer):
            app.add_typer(verbs_of_its_own, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(getattr(module, file))
    return app


def _version(value: bool) -> None:
    if value:
        print(f"zooconv {__version__}")
        raise typer.Exit


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
        wired(*(verb for verb in sys.argv[1:2] if verb in VERBS))()
    finally:
        gc.freeze()  # all memory goes with the process: no need to walk through it once more, for 50 ms
