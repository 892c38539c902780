"""zooconv batch NAME …"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zooconv.cli.common import complete_name, in_bytes, verb, with_options
from zooconv.errors import UsageError
from zooconv.options import Options
from zooconv.output import Output

SELECT = "Which models"


def _option(help_: str, *flags: str, panel: str = "How", **more: Any) -> Any:
    return typer.Option(*flags, help=help_, rich_help_panel=panel, **more)


@verb
@with_options(without=("name", "config", "output", "to", "extract", "fill_from", "drop_trained", "partial"))
def batch(out: Output, names: Annotated[list[str] | None, typer.Argument(
            metavar="[NAME]...", help="Models, patterns of names like 'swin_*', repositories, or files.",
            autocompletion=complete_name)] = None, *, options: Options,
        lists: Annotated[list[Path] | None, _option(
            "A file with one name a line; - is standard input.", "--list", panel=SELECT)] = None,
        everything: Annotated[bool, _option("Every model of the zoo.", "--all", panel=SELECT)] = False,
        family: Annotated[str | None, _option("Every model of a family.", panel=SELECT)] = None,
        shard: Annotated[str | None, _option("Only the I-th of N shares of them.", metavar="I/N", panel=SELECT)] = None,
        output: Annotated[str | None, _option("A folder, or the address of a store, like s3://bucket/zoo; default: "
                                              "weights/ for models of the hub, else here.", "--output", "-o",
                                              panel="Target")] = None,
        jobs: Annotated[int | None, _option("How many at once; default: a worker a core, two where files are fetched.",
                                            "--jobs", "-j", min=1)] = None,
        keep_going: Annotated[bool, _option("Go on after a failure; it still exits with 1.",
                                            "--keep-going", "-k")] = False,
        resume: Annotated[bool, _option("Leave alone what is still as its record says.", "--resume")] = False,
        dry_run: Annotated[bool, _option("Show what would be done.", "--dry-run")] = False,
        record: Annotated[bool, _option("Leave the registry to a later batch: for shards on several machines.",
                                        "--record/--no-record")] = True,
        max_disk: Annotated[float | None, _option("How much disk may be taken, in GB.", "--max-disk")] = None,
        max_memory: Annotated[float | None, _option("How much memory may be taken, in GB.", "--max-memory")] = None,
        prune: Annotated[bool, _option("Drop each source that was fetched, once it is converted.",
                                       "--prune-sources")] = False,
        progress: Annotated[Literal["auto", "jsonl"], _option("jsonl: an event a line on standard output.")] = "auto",
        engine: Annotated[str, _option("Where tasks run: local, dask, or a plugin's.")] = "local",
        scheduler: Annotated[str | None, _option("The address of the engine's scheduler; default: workers on this "
                                                 "machine.")] = None) -> None:
    """Fetch and convert many models, several at once. Exits with 1 if one failed."""
    from zooconv.batch.live import watching
    from zooconv.batch.plan import Batch, plan
    from zooconv.batch.report import plan_data, plan_text, result_data, result_text
    from zooconv.batch.run import run_planned
    from zooconv.batch.select import select
    from zooconv.batch.store import Store, is_url

    if progress == "jsonl" and out.json:
        raise UsageError("--json and --progress jsonl are two languages for one stream", next="leave one of them out")
    store = Store(output) if output and is_url(output) else None
    if store and options.registry:
        raise UsageError("in a store, the registry lies beside the artifacts", next="leave out --registry")
    sources = select(names or (), lists=lists or (), everything=everything, family=family, shard=shard, say=out.say)
    options = replace(options, output=None if store or output is None else Path(output))
    asked = Batch(sources, options, store, engine, scheduler, jobs, keep_going, resume,
                  in_bytes(max_disk), in_bytes(max_memory), prune, record)
    planned = plan(asked, dry=dry_run)
    if dry_run:
        out.result(plan_data(planned), plan_text(planned), "\n".join(task.shown for task in planned.tasks))
        return
    try:
        with watching(out, jsonl=progress == "jsonl") as watch:
            result = run_planned(asked, planned, watch)
    except KeyboardInterrupt:
        out.say("interrupted: what is converted is recorded; go on with --resume")
        raise typer.Exit(130) from None
    if progress != "jsonl":
        out.result(result_data(result), result_text(result),
                   "\n".join(o.file for o in result.outcomes if o.status != "failed"))
    if not result.ok:
        raise typer.Exit(1)
