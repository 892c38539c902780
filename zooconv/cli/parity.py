"""zooconv parity NAME|FILE"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zooconv.cli.common import MaxMemory, RegistryFile, SourceFile, in_bytes, verb
from zooconv.output import Output, facts, some, table

if TYPE_CHECKING:
    from zooconv.parity import Parity


@verb
def parity(out: Output, what: Annotated[str, typer.Argument(metavar="NAME|FILE", help=(
               "An artifact, by its name or file; or a checkpoint, to be converted for the occasion."))],
           against: Annotated[list[str] | None, typer.Option(help="An upstream to hold it against, such as timm; again "
                                                             "for more. Default: the one whose names the source has, "
                                                             "else the family's first.")] = None,
           layout: Annotated[str, typer.Option("--layout", "-l", help="The layout, for a checkpoint.")] = "d2",
           source: SourceFile = None, registry: RegistryFile = None,
           max_memory: MaxMemory = None) -> None:
    """Run an artifact and its source's own implementation side by side. Exits with 1 if they differ."""
    from zooconv.parity import parity as measure
    from zooconv.subject import record_parity, subjects

    done: list[tuple[str, Parity]] = []
    for opening in subjects(what, layout=layout, source=source, registry=registry):
        with opening as subject:
            for name in against or (None,):
                out.say(f"running {subject.name or subject.path}, and what it is held against, in float64; a large "
                        "model takes minutes …")
                result = measure(subject.source, subject.found, subject.artifact, subject.ours, name,
                                 memory=in_bytes(max_memory), chosen=subject.chosen)
                done.append((subject.name or str(subject.path), result))
                record_parity(subject, result)
    out.result([{"name": name, **result.data} for name, result in done],
               "\n\n".join(text(name, result) for name, result in done),
               "\n".join(name for name, result in done if not result.passed))
    if not all(result.passed for _, result in done):
        raise typer.Exit(1)


def text(name: str, result: Parity) -> str:
    """One outcome, for people."""
    rows = [(d.output, "x".join(map(str, d.shape)), f"{d.absolute:.1e}", f"{d.relative:.1e}", f"{d.relative32:.1e}",
             "" if d.within(result.limit) else "differs") for d in result.differences]
    worst = max(d.relative for d in result.differences)
    blind = f"; not {some(result.unseen)}" if result.unseen else ""
    seen = f"{result.tensors - len(result.unseen)} of {result.tensors} tensors take part in what was compared{blind}"
    verdict = "the same function" if result.passed else "NOT the same function"
    head = facts(
        ("artifact", name),
        ("against", f"{result.package} {result.version}, given the source's weights ({result.spelled})"),
        ("changed", "\n".join(result.changes)),
        ("images", f"{'x'.join(map(str, result.images))} of seeded noise"),
    )
    foot = facts(
        ("skipped", "\n".join(f"{name}: {why}" for name, why in result.skipped.items())),
        ("reach", seen),
        ("verdict", f"{verdict}: largest relative difference {worst:.1e}, limit {result.limit:g}"),
    )
    return f"{head}\n\n{table(rows, ('OUTPUT', 'SHAPE', 'FLOAT64 ABS', 'REL', 'FLOAT32 REL', ''))}\n\n{foot}"
