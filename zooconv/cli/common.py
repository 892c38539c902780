"""What all verbs share: the flags --json and -q, how a failure ends, and the options of a conversion."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from zooconv import settings
from zooconv.errors import UsageError, ZooError
from zooconv.options import CHOICES, Options
from zooconv.output import Output

if TYPE_CHECKING:
    from zooconv.registry import Registry

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only what a script needs.")]

RegistryFile = Annotated[Path | None, typer.Option("--registry", help="The registry; default: $ZOOCONV_REGISTRY, else "
                                                   "./registry.json.")]
SourceFile = Annotated[Path | None, typer.Option("--source", help="The file that was converted, where it is not found "
                                                 "by its record.")]

MaxMemory = Annotated[float | None, typer.Option("--max-memory", help="How much memory may be used, in GB; default: "
                                                 "all that is free.")]


def in_bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * 1e9)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A command: `function` is given an `out`, `--json` and `-q` choose it, and a known failure is told plainly."""
    signature = inspect.signature(function, eval_str=True)
    flags = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
             for name, kind in (("json", Json), ("quiet", Quiet))]

    @functools.wraps(function)
    def run(**given: Any) -> None:
        out = Output(json=given.pop("json"), quiet=given.pop("quiet"))
        try:
            function(out, **given)
        except ZooError as error:
            if settings.debug():
                raise
            out.error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted: nothing was put in place", file=sys.stderr)
            raise typer.Exit(130) from None

    return _with_parameters(run, [*list(signature.parameters.values())[1:], *flags])


def with_options(function: Callable[..., None] | None = None, *, without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Give a function the flags of `Options`, but for some; it receives them as one argument `options`."""
    names = {f.name for f in fields(Options)} - {*without}
    return _with_flags(function, names) if function else functools.partial(_with_flags, names=names)


def with_choices(function: Callable[..., None]) -> Callable[..., None]:
    """Give a function the flags that ask for changes; it receives them in one argument `options`."""
    return _with_flags(function, set(CHOICES))


def _with_flags(decorated: Callable[..., None], names: set[str]) -> Callable[..., None]:
    hints = get_type_hints(Options)
    flags = [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default,
                               annotation=Annotated[hints[f.name], typer.Option(
                                   *f.metadata["flags"], help=f.metadata["help"],
                                   rich_help_panel=f.metadata["group"], show_default=f.name == "layout")])
             for f in fields(Options) if f.name in names]

    @functools.wraps(decorated)
    def run(*args: Any, **given: Any) -> None:
        options = Options(**{name: given.pop(name) for name in list(given) if name in names})
        decorated(*args, options=options, **given)

    mine = [p for p in inspect.signature(decorated, eval_str=True).parameters.values() if p.name != "options"]
    return _with_parameters(run, [*mine, *flags])


def _with_parameters(function: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def open_registry(path: Path | None) -> Registry:
    """The registry that a user means. Raises UsageError where there is none."""
    from zooconv.registry import Registry

    named = path or settings.registry_path()
    path = named or Path("registry.json")
    if not path.exists():
        raise UsageError(f"there is no registry {path}", next=("mend its name" if named else "name it: --registry FILE")
                         + ", or convert something first")
    return Registry.read(path)


def complete_name(incomplete: str) -> list[str]:
    """Names of the zoo, for the shell's completion."""
    from zooconv.zoo import zoo

    return [name for model in zoo().models for name in (model.name, *model.aliases) if name.startswith(incomplete)]


def complete_layout(incomplete: str) -> list[str]:
    """Layouts of all families, for the shell's completion."""
    from zooconv.plugins import families, layout_names

    names = {name for family in families() for name in layout_names(family)}
    return sorted(name for name in names if name.startswith(incomplete))
