"""zooconv list [GLOB]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zooconv.cli.common import complete_layout, verb
from zooconv.output import Output, table

if TYPE_CHECKING:
    from zooconv.zoo import Model


@verb
def list_(out: Output, glob: Annotated[str, typer.Argument(metavar="GLOB", help=(
              "A pattern, like 'convnext_*_22k'."))] = "*",
          family: Annotated[str | None, typer.Option(help="Only this family's models.")] = None,
          layout: Annotated[str | None, typer.Option("--layout", "-l", help="Only models that can become this.",
                                                     autocompletion=complete_layout)] = None,
          license_: Annotated[str | None, typer.Option("--license", help="Only models of this licence, or pattern: "
                                                       "'*-nc-*'.")] = None,
          max_size: Annotated[int | None, typer.Option(help="Only models of at most this many MB.")] = None) -> None:
    """List the models that can be fetched by name."""
    from fnmatch import fnmatchcase

    from zooconv.zoo import zoo

    if family:
        _known_family(family)
    if layout:
        _known_layout(layout)
    models = [m for m in zoo().matching(glob)
              if (family is None or family in (m.family, m.also and m.also.family))
              and (license_ is None or fnmatchcase(m.license, license_))
              and (max_size is None or m.mb <= max_size)
              and (layout is None or layout in m.layouts)]
    rows = [(m.name, m.family, str(m.mb), m.license, str(m.input)) for m in models]
    text = table(rows, ("NAME", "FAMILY", "MB", "LICENCE", "INPUT")) if rows else ""
    if not rows:
        out.say(_nothing(glob))
    out.result([facts(m) for m in models] if out.json else [], text, "\n".join(m.name for m in models))


def _nothing(glob: str) -> str:
    from zooconv.names import near_names
    from zooconv.zoo import zoo

    near = "" if glob == "*" or zoo().matching(glob) else "".join(f"\n  did you mean {name}?"
                                                                  for name in near_names(glob.strip("*"), zoo()))
    return f"no model is all that{near or '; zooconv list shows all that there are'}"


def facts(model: Model) -> dict[str, Any]:
    """All that is known of a model, as plain data."""
    from dataclasses import asdict

    return {**asdict(model), "also": model.also and model.also._asdict(), "layouts": model.layouts}


def _known_family(name: str) -> None:
    from zooconv.plugins import family

    family(name)


def _known_layout(name: str) -> None:
    from difflib import get_close_matches

    from zooconv.errors import UsageError
    from zooconv.plugins import families, layout_names

    known = sorted({name for family in families() for name in layout_names(family)})
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise UsageError(f"there is no layout {name!r}", next=f"--layout {near[0]}" if near else "zooconv layouts")
