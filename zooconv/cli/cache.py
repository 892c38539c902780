"""zooconv cache ls, prune, verify"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zooconv.cli.common import verb
from zooconv.output import Output, megabytes, table

if TYPE_CHECKING:
    from zooconv.sources.cache import Kept

app = typer.Typer(no_args_is_help=True, help="See, check and prune the sources that were fetched.")

Names = Annotated[list[str] | None, typer.Argument(help="Models, repositories, addresses or patterns; "
                                                         "default: all.",
                                                   metavar="NAME")]


@app.command("ls")
@verb
def ls(out: Output) -> None:
    """List what zooconv has fetched and is still there, in the hub's cache and in its own."""
    from zooconv.sources.cache import kept

    found = kept()
    if not found:
        out.say("nothing that zooconv has fetched is kept")
    else:
        out.say(f"{megabytes(sum(one.size for one in found))} in {len(found)} sources; next: zooconv cache prune")
    out.result([_data(one) for one in found], _listed(found), "\n".join(one.name for one in found))


@app.command("verify")
@verb
def verify(out: Output, names: Names = None) -> None:
    """Hash what is kept, and name what is damaged. Needs no network. Exits with 1 if anything is."""
    from zooconv.sources.cache import damaged

    bad = list(damaged(names or ()))
    out.result([vars(one) for one in bad], table([(one.name, one.path, one.why) for one in bad]),
               "\n".join(one.path for one in bad))
    if bad:
        out.say("the next fetch of these downloads them again")
        raise typer.Exit(1)
    out.say("nothing is damaged")


@app.command("prune")
@verb
def prune(out: Output, names: Annotated[list[str] | None, typer.Argument(
              help="Models, repositories, addresses or patterns; default: all, of --older-than or --max-size.",
              metavar="NAME")] = None,
          older_than: Annotated[float | None, typer.Option(help="What was not read for so many days.", min=0,
                                                           metavar="DAYS")] = None,
          max_size: Annotated[float | None, typer.Option(help="What exceeds so many GB, the least recently used first.",
                                                         min=0, metavar="GB")] = None,
          dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False
          ) -> None:
    """Remove sources that zooconv has fetched; never what others have."""
    from zooconv.cli.common import in_bytes
    from zooconv.sources.cache import prune as remove
    from zooconv.sources.cache import to_prune

    chosen = to_prune(names or (), older_than=older_than, max_size=in_bytes(max_size), now=time.time())
    going = [one for one in chosen if not one.foreign]
    for one in chosen:
        if one.foreign:
            out.say(f"kept: {one.name}; others have fetched {', '.join(one.foreign[:4])} of the same commit")
    freed = sum(one.size for one in going) if dry_run else remove(going)
    out.say(f"{'would free' if dry_run else 'freed'} {megabytes(freed)}")
    out.result([_data(one) for one in going], _listed(going), "\n".join(one.name for one in going))


def _listed(found: list[Kept]) -> str:
    rows = [(one.name, f"{one.size / 1e6:,.1f}", time.strftime("%Y-%m-%d", time.localtime(one.used)), one.where)
            for one in found]
    return table(rows, ("NAME", "MB", "LAST USED", "SOURCE")) if rows else ""


def _data(one: Kept) -> dict[str, Any]:
    note = one.note
    place = {"url": note.url} if note.url else {"repo": note.repo, "revision": note.revision}
    return {"name": one.name, **place, "size": one.size, "last_used": round(one.used),
            "files": [str(path) for path in one.files], "foreign": list(one.foreign)}
