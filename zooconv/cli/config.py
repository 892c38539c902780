"""zooconv config NAME"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zooconv.cli.common import RegistryFile, complete_layout, complete_name, verb, with_choices
from zooconv.options import Options
from zooconv.output import Output

if TYPE_CHECKING:
    from zooconv.d2config.check import Finding
    from zooconv.d2config.keys import Wanted


@verb
@with_choices
def config(out: Output, what: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_name, help=(
               "A model of the zoo, an artifact by its name or file, or a checkpoint."))], options: Options,
           layout: Annotated[str | None, typer.Option("--layout", "-l", autocompletion=complete_layout, help=(
               "The layout; default: the artifact's, else d2."))] = None,
           lazy: Annotated[bool | None, typer.Option("--lazy/--yaml", help=(
               "A LazyConfig, or YAML; default: what the project reads."))] = None,
           write: Annotated[Path | None, typer.Option(help=(
               "Give this YAML config what the weights need; the old one stays beside it, as .bak."))] = None,
           check: Annotated[Path | None, typer.Option(help=(
               "Say what in this YAML config does not fit; exits with 1 if it costs accuracy."))] = None,
           registry: RegistryFile = None) -> None:
    """Print the Detectron2 config that goes with the weights, or hold a config of yours against it."""
    from zooconv.d2config.goal import wanted_for
    from zooconv.d2config.text import config_of, form_of
    from zooconv.errors import UsageError

    if write and check:
        raise UsageError("--write and --check do not go together", why=["--write says what --check does, and mends it"],
                         next="leave one of them out")
    wanted = wanted_for(what, layout, options.choices, registry)
    if write:
        _write(out, write, wanted)
    elif check:
        _check(out, check, wanted)
    else:
        form = {True: "lazy", False: "yaml", None: None}[lazy]
        text = config_of(wanted, form)
        out.result({"layout": wanted.project, "form": form_of(wanted, form), "config": wanted.keys, "text": text,
                    "mind": wanted.mind}, text, text)


def _write(out: Output, path: Path, wanted: Wanted) -> None:
    from zooconv.d2config.file import fit_to

    done = fit_to(path, wanted)
    if done.diff:
        out.say(f"{done.diff}\nchanged {path}; as it was: {done.backup}\n")
    else:
        out.say(f"{path} was left as it is: it has all that these weights need\n")
    out.result(done.data, _told(list(done.findings)), str(path) if done.diff else "")


def _check(out: Output, path: Path, wanted: Wanted) -> None:
    from zooconv.d2config.file import check

    found = check(path, wanted)
    costly = [one for one in found if one.costs]
    out.result({"file": str(path), "layout": wanted.project, "findings": [one.data for one in found]},
               _told(found) or f"{path} fits {wanted.title}, layout {wanted.project}",
               "\n".join(one.key for one in costly))
    if costly:
        out.say(f"\nnext: zooconv config … --write {path}  (changes {len(costly)} value{'s' * (len(costly) > 1)})")
        raise typer.Exit(1)


def _told(found: list[Finding]) -> str:
    return "\n".join(one.text for one in found)
