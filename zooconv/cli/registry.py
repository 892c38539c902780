"""zooconv registry merge, check, export, install-merge-driver, merge-driver"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zooconv.cli.common import RegistryFile, open_registry, verb
from zooconv.output import Output, table

app = typer.Typer(no_args_is_help=True, help="Merge, check and export registries.")

Written = Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file; default: stdout.")]


@app.command("merge")
@verb
def merge(out: Output, files: Annotated[list[Path], typer.Argument(help="Registries.", metavar="FILE")],
          output: Annotated[Path | None, typer.Option("--output", "-o", help="The registry to write, which may be one "
                            "of those merged; default: stdout, with files as seen from the first one's folder.")]
          = None,
          prefer: Annotated[Literal["first", "last"] | None, typer.Option(
              help="Whose record is taken where two differ; default: that is an error, and nothing is written.")]
          = None) -> None:
    """Unite registries, artifact by artifact. Exits with 1 where two record one name differently."""
    from zooconv.errors import UsageError
    from zooconv.registry import Registry, update
    from zooconv.registry.merge import union

    for path in files:
        open_registry(path)
    if output is not None and output.exists() and all(not output.samefile(path) for path in files):
        raise UsageError(f"{output} exists, and is none of the registries that are merged",
                         next=f"zooconv registry merge {' '.join(map(str, files))} {output} -o {output}")

    def united() -> Registry:
        return union([open_registry(path) for path in files], (output or files[0]).parent, prefer=prefer)

    def take(registry: Registry) -> None:
        registry.records = united().records

    merged = update(output, take) if output else united()
    if output is not None:
        out.say(f"{output}: {len(merged.records)} artifacts of {len(files)} registries")
    out.result({"file": output and str(output), "artifacts": sorted(merged.records)},
               "" if output else merged.text().rstrip("\n"), str(output or ""))


@app.command("check")
@verb
def check(out: Output, file: Annotated[Path | None, typer.Argument(metavar="FILE", help=(
              "The registry; default: $ZOOCONV_REGISTRY, else ./registry.json."))] = None,
          files: Annotated[bool, typer.Option("--files/--no-files", help="Look for the artifacts' files, and at their "
                                              "sizes.")] = True,
          fix: Annotated[bool, typer.Option("--fix", help="Rewrite the text in its one canonical form first.")] = False
          ) -> None:
    """Check a registry's text, its schema and its files' sizes. Exits with 1 if something is wrong."""
    from zooconv import settings
    from zooconv.registry import check as room

    path = file or settings.registry_path() or Path("registry.json")
    if fix:
        room.fix(open_registry(path).path)
    faults = room.check(path, files=files)
    out.result([fault._asdict() for fault in faults], table([(f.name or str(path), f.problem) for f in faults]),
               "\n".join(f.name or str(path) for f in faults))
    if faults:
        raise typer.Exit(1)
    out.say(f"{path} is well")


@app.command("export")
@verb
def export(out: Output, format_: Annotated[Literal["csv", "md"], typer.Option("--format", help="csv, or md "
                                                                               "(Markdown).")] = "md",
           output: Written = None, registry: RegistryFile = None) -> None:
    """Print a registry as a table: an artifact a row."""
    from zooconv.atomic import write_text
    from zooconv.registry.export import export as exported
    from zooconv.registry.export import rows

    book = open_registry(registry)
    text = exported(book, format_)
    if output:
        write_text(output, text)
        out.say(f"wrote {output}: {len(book.records)} artifacts")
    out.result(rows(book), "" if output else text.rstrip("\n"), str(output or "") or text.rstrip("\n"))


@app.command("install-merge-driver")
@verb
def install_merge_driver(out: Output, registry: RegistryFile = None, uninstall: Annotated[bool, typer.Option(
        "--uninstall", help="Take it out again.")] = False) -> None:
    """Have git merge the registry artifact by artifact: in this clone's config, and in .gitattributes."""
    from zooconv import settings
    from zooconv.registry import driver

    path = registry or settings.registry_path() or Path("registry.json")
    done = driver.uninstall(path) if uninstall else driver.install(path)
    out.result(done, "\n".join(done) or "there was nothing to take out", "\n".join(done))


@app.command("merge-driver")
@verb
def merge_driver(out: Output, base: Annotated[Path, typer.Argument(help="The ancestor (%O).")],
                 ours: Annotated[Path, typer.Argument(help="Our side (%A), which receives the result.")],
                 theirs: Annotated[Path, typer.Argument(help="The other side (%B).")]) -> None:
    """What git calls; see install-merge-driver. Exits with 1 where both sides changed a record differently."""
    from zooconv.errors import CheckFailed
    from zooconv.registry.driver import merge_files

    conflicts = merge_files(base, ours, theirs)
    if conflicts:
        raise CheckFailed("both sides changed these artifacts, differently", why=map(str, conflicts),
                          next="delete one line of each pair, and the marks, then: zooconv registry check --fix")
    out.result({"conflicts": []}, "")
