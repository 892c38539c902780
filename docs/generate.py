"""The parts of the documentation that are made from the code: called by cog, checked in CI (`make docs-check`)."""

from __future__ import annotations

import html
import inspect
import os
import subprocess
import sys
from typing import Any

import cog


def models() -> None:
    """The zoo, family by family."""
    from zooconv.plugins import families
    from zooconv.zoo import zoo

    for family in _official(families()):
        cog.outl(f"\n## {family.title}\n")
        cog.outl("| name | variant | input | MB | licence of the weights | source | also called |")
        cog.outl("|---|---|---|---|---|---|---|")
        for m in zoo().models:
            if m.family == family.name:
                link = f"[{m.repo}](https://huggingface.co/{m.repo})"
                also = ", ".join(f"`{alias}`" for alias in m.aliases)
                cog.outl(f"| `{m.name}` | {m.variant} | {m.input} | {m.mb} | {m.license} | {link} | {also} |")
    cog.outl("\nRefused, because no layout can hold them:\n")
    for glob, reason in zoo().refused.items():
        cog.outl(f"- `{glob}`: {reason}.")


def layouts() -> None:
    """What can be written, family by family."""
    from zooconv.plugins import families

    for family in _official(families()):
        cog.outl(f"\n## {family.title}\n")
        cog.outl("| layout | mount | has not | adds | read off | pixels |")
        cog.outl("|---|---|---|---|---|---|")
        config = next(iter(family.variants.values()))
        for layout in family.layouts:
            added = ", ".join(f"`{f.name}` = {f.fill:g}" for f in layout.fresh_tensors(config)) or "–"
            omitted = ", ".join(f"`{name}`" for name in layout.omit) or "–"
            mean = layout.requires.pixel_mean
            pixels = f"{layout.requires.format}, mean {mean[0]:g}" if mean else f"{layout.requires.format}, as trained"
            names = " = ".join(f"`{name}`" for name in layout.names)
            cog.outl(f"| {names} | `{layout.mount}` | {omitted} | {added} | {layout.source} | {pixels} |")


def dialects() -> None:
    """The tables of rules, as their authors wrote them."""
    from zooconv.plugins import families

    for family in _official(families()):
        for dialect in family.dialects:
            cog.outl(f"\n### {dialect.name}\n\n```")
            for rule in dialect.rules:
                cog.outl(str(rule))
            cog.outl("```")


def command_line() -> None:
    """Every verb and every flag."""
    command = [sys.executable, "-m", "typer", "zooconv.cli.app", "utils", "docs", "--name", "zooconv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})  # noqa: S603
    body = done.stdout.split("**Commands**:")[1]
    cog.outl(html.unescape(body[body.index("## "):]).strip())


def exit_codes() -> None:
    """What a command's exit status says."""
    from zooconv import errors

    kinds = sorted((k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.ZooError)),
                   key=lambda k: k.exit_code)
    cog.outl("| exit code | meaning |")
    cog.outl("|---|---|")
    cog.outl("| 0 | done |")
    for kind in kinds:
        if kind is not errors.ZooError:
            cog.outl(f"| {kind.exit_code} | {' '.join((kind.__doc__ or '').split())} |")
    cog.outl("| 130 | Interrupted. Nothing was put in place. |")


def environment() -> None:
    """The variables that are read."""
    from zooconv import settings

    cog.outl("| variable | meaning |")
    cog.outl("|---|---|")
    for name, meaning in ((settings.REGISTRY, settings.registry_path), (settings.DISABLE_PLUGINS, settings.disabled_plugins),
                          (settings.DEBUG, settings.debug)):
        cog.outl(f"| `{name}` | {' '.join((meaning.__doc__ or '').split())} |")


def hooks() -> None:
    """The hooks, with their whole documentation."""
    from zooconv import hookspecs

    for name, hook in vars(hookspecs).items():
        if name.startswith("zooconv_"):
            cog.outl(f"### `{name}{inspect.signature(hook)}`\n".replace("zooconv.mapping.family.", "").replace("Iterable", "Iterable"))
            cog.outl(inspect.cleandoc(hook.__doc__ or ""))


def source(path: str, language: str = "python") -> None:
    """A file of this repository, whole."""
    from pathlib import Path

    cog.outl(f"```{language}")
    cog.out(Path(path).read_text(encoding="utf-8"))
    cog.outl("```")


def _official(families: Any) -> list[Any]:
    return [f for f in families if f.name != "vgg"]
