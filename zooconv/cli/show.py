"""zooconv show NAME"""

from __future__ import annotations

from typing import Annotated

import typer

from zooconv.cli.common import complete_name, verb
from zooconv.cli.list_ import facts as facts_of
from zooconv.output import Output, facts


@verb
def show(out: Output, name: Annotated[str, typer.Argument(
             metavar="NAME", help="A model of the zoo, by any of its names.", autocompletion=complete_name)]) -> None:
    """Show all that is known of one model."""
    from zooconv.errors import UsageError
    from zooconv.mapping.family import config_facts, config_text
    from zooconv.names import resolve
    from zooconv.plugins import family
    from zooconv.zoo import zoo

    model = zoo().find(name.removeprefix("zoo://"))
    if model is None:
        source = resolve(name, zoo())
        model = source.model
    if model is None:
        raise UsageError(f"{name} is no model of the zoo", next=f"zooconv fetch-convert {name} --dry-run")
    known = family(model.family)
    config = known.variants[model.variant]
    text = facts(
        ("name", model.name), ("also", ", ".join(model.aliases)),
        ("is", f"{known.title} {model.variant}  ({config_text(config)})"),
        ("source", f"{model.place or 'none'}  ({model.mb} MB)"), ("mirrors", "\n".join(model.mirrors)),
        ("sha256", model.promised), ("licence", model.license),
        ("input", f"{model.input} x {model.input}, mean {_triple(model.mean)}, std {_triple(model.std)}, on 0..1, RGB"),
        ("mind", model.note), ("layouts", ", ".join(model.layouts)),
        ("next", f"zooconv fetch-convert {model.name} --layout …" if model.place else ""),
    )
    out.result({**facts_of(model), "config": config_facts(config)}, text, model.repo or model.url)


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:g}" for v in values)
