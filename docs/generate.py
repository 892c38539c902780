"""The parts of the documentation that are made from the code: called by cog, checked in CI (`make docs-check`)."""

from __future__ import annotations

import dataclasses
import html
import inspect
import itertools
import os
import subprocess
import sys
from typing import Any

import cog


def models() -> None:
    """The zoo, family by family."""
    from zooconv.plugins import families
    from zooconv.zoo import zoo

    for family in _official(families(), many=False):
        cog.outl(f"\n## {family.title}\n")
        cog.outl("| name | variant | input | MB | licence of the weights | source | also called |")
        cog.outl("|---|---|---|---|---|---|---|")
        for m in zoo().models:
            if m.family == family.name:
                link = f"[{m.repo or m.place.split('/')[2]}]({m.place})"
                also = ", ".join(f"`{alias}`" for alias in m.aliases)
                cog.outl(f"| `{m.name}` | {m.variant} | {m.input} | {m.mb} | {m.license} | {link} | {also} |")
    for family in _official(families()):
        if family.members:
            _many(family, [m for m in zoo().models if family.name in (m.family, m.also and m.also.family)])
    cog.outl("\nRefused, because no layout can hold them:\n")
    for glob, reason in zoo().refused.items():
        cog.outl(f"- `{glob}`: {reason}.")


def _many(family: Any, models: list[Any]) -> None:
    """Those of a family that stands for many architectures, by the first word of their names."""
    groups: dict[str, list[Any]] = {}
    for m in models:
        variant = m.variant if m.family == family.name else m.also.variant
        groups.setdefault(variant.split("_")[0].rstrip("0123456789"), []).append((variant, m))
    small = sorted(word for word, group in groups.items() if len(group) < 8)
    cog.outl(f"\n## Any architecture of {family.name}\n")
    cog.outl(f"{len(models)} models of {len({v for g in groups.values() for v, _ in g})} architectures, of which those above "
             f"are {sum(m.family != family.name for m in models)}; `zooconv list 'efficientnet*'` shows them. "
             f"{sum(not m.repo for m in models)} have no copy on the hub. Tags of one and the same file count once, and "
             "answer to both names. By the first word of their names:\n")
    cog.outl("| names | architectures | models | MB | licences of the weights |\n|---|---|---|---|---|")
    rest = [one for word in small for one in groups[word]]
    for word, group in [*((w, groups[w]) for w in sorted(groups) if w not in small), ("others", rest)]:
        sizes, licenses = [m.mb for _, m in group], sorted({m.license for _, m in group})
        shown = ", ".join(licenses[:4]) + (f" and {len(licenses) - 4} more" if len(licenses) > 4 else "")
        cog.outl(f"| {word} | {len({v for v, _ in group})} | {len(group)} | {min(sizes)} to {max(sizes)} | {shown} |")
    cog.outl("\nOthers: " + ", ".join(small) + ".")


def layouts() -> None:
    """What can be written, family by family."""
    from zooconv.plugins import families

    for family in _official(families()):
        cog.outl(f"\n## {family.title}\n")
        cog.outl("| layout | mount | has not | adds | changes | read off | pixels |")
        cog.outl("|---|---|---|---|---|---|---|")
        config = next(iter(family.variants.values()))
        for layout in family.layouts:
            added = ", ".join(f"`{f.name}` = {f.fill:g}" for f in layout.fresh_tensors(config)) or "–"
            if family.derived and any(r.targets[0].match(d.name) is not None for r in layout.rules
                                      for d in list(family.derived(config))[:1]):
                added += f"; {next(iter(family.derived(config))).name.rsplit('.', 1)[-1]}, from the config"
            omitted = ", ".join(f"`{name}`" for name in layout.omit) or "–"
            changes = "; ".join(change.title for change in layout.changes) or "–"
            mean = layout.requires.pixel_mean
            pixels = f"{layout.requires.format}, mean {mean[0]:g}" if mean else f"{layout.requires.format}, as trained"
            names = " = ".join(f"`{name}`" for name in layout.names)
            mount = f"`{layout.mount}`" if layout.mount else "none"
            cog.outl(f"| {names} | {mount} | {omitted} | {added} | {changes} | {layout.source} | {pixels} |")


def projects() -> None:
    """The layouts by the name of the project, with the families that have them."""
    from zooconv.plugins import families

    found: dict[str, list[tuple[str, str, str]]] = {}
    for family in _official(families()):
        for layout in family.layouts:
            for name in layout.names:
                found.setdefault(name, []).append((family.title, layout.mount, layout.source))
    cog.outl("| layout | family: names begin with | read off |\n|---|---|---|")
    for name, rows in sorted(found.items()):
        mounts = "<br>".join(f"{title}: {f'`{mount}`' if mount else 'nothing'}" for title, mount, _ in rows)
        sources = "<br>".join(dict.fromkeys(source for *_, source in rows))
        cog.outl(f"| `{name}` | {mounts} | {sources} |")


def backbones() -> None:
    """The registered backbones, family by family, and the config of each."""
    from zooconv.plugins import families
    from zooconv.reference import registered_name

    cog.outl("| MODEL.BACKBONE.NAME | MODEL.ZOOCONV.FAMILY | variants |\n|---|---|---|")
    for family in _official(families()):
        if family.backbone:
            first, *more = family.variants
            some = ", ".join(f"`{name}`" for name in [first, *more][:6]) + (f" … {len(more) - 5} more" if more[5:] else "")
            cog.outl(f"| `{registered_name(family)}` | `{family.name}` | {some} |")


def settings_of_backbones() -> None:
    """The settings under MODEL.ZOOCONV."""
    from zooconv.detectron2.config import SETTINGS

    cog.outl("| key | default | meaning |\n|---|---|---|")
    for key, (default, meaning) in SETTINGS.items():
        cog.outl(f"| `{key}` | `{default!r}` | {meaning} |")


def address_words() -> None:
    """The options that an address may have."""
    from zooconv.address import _words
    from zooconv.options import Options

    told = {f.name: f.metadata["help"] for f in dataclasses.fields(Options)}
    cog.outl("| in an address | meaning |\n|---|---|")
    for field, words in itertools.groupby(_words().items(), lambda item: item[1].field):
        spelled = ", ".join(f"`{word}{'=…' if known.means is None else ''}`" for word, known in words)
        cog.outl(f"| {spelled} | {told[field]} |")
    cog.outl("| `revision=…` | Of a repository: the branch, tag or commit. |")
    cog.outl("| `file=…` | Of a repository: which of its files. |")


def dialects() -> None:
    """The tables of rules, as their authors wrote them."""
    from zooconv.plugins import families

    for family in _official(families(), many=False):
        cog.outl(f"\n## Dialects of {family.title}")
        for dialect in family.dialects:
            cog.outl(f"\n### {dialect.name}\n\n```")
            if dialect.flat:
                cog.outl(str(dialect.flat))
            for rule in dialect.rules:
                cog.outl(str(rule))
            cog.outl("```")


def command_line() -> None:
    """Every verb and every flag."""
    command = [sys.executable, "-m", "typer", "zooconv.cli.whole", "utils", "docs", "--name", "zooconv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})  # noqa: S603
    body = done.stdout.split("**Commands**:", 1)[1]
    cog.outl(html.unescape(body[body.index("## "):]).strip())


def troubles() -> None:
    """What Detectron2, fvcore and torch say of a file, with cause and mend."""
    import textwrap

    from zooconv.doctor.causes import causes

    for cause in causes():
        act = f"    {cause.mend}" if cause.mend.startswith("zooconv ") else f"`{cause.mend}`" if "(" in cause.mend else cause.mend
        cog.outl(f"### `{cause.message}`\n\n{textwrap.fill(cause.why[0].upper() + cause.why[1:], 118)}.\n\n{act}\n")


def exit_codes() -> None:
    """What a command's exit status says."""
    from zooconv import errors

    kinds = sorted((k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.ZooError)),
                   key=lambda k: k.exit_code)
    cog.outl("| exit code | meaning |")
    cog.outl("|---|---|")
    cog.outl("| 0 | done |")
    for kind in kinds:
        if kind.__base__ is errors.ZooError:
            cog.outl(f"| {kind.exit_code} | {' '.join((kind.__doc__ or '').split())} |")
    cog.outl("| 130 | Interrupted. Nothing was put in place; of a batch, what was converted before is recorded. |")


def environment() -> None:
    """The variables that are read."""
    from zooconv import settings

    cog.outl("| variable | meaning |")
    cog.outl("|---|---|")
    for name, meaning in ((settings.REGISTRY, settings.registry_path), (settings.DISABLE_PLUGINS, settings.disabled_plugins),
                          (settings.CACHE, settings.cache_path), (settings.DEBUG, settings.debug)):
        cog.outl(f"| `{name}` | {' '.join((meaning.__doc__ or '').split())} |")


def hooks() -> None:
    """The hooks, with their whole documentation."""
    from zooconv import hookspecs

    for name, hook in vars(hookspecs).items():
        if name.startswith("zooconv_"):
            cog.outl(f"### `{name}{inspect.signature(hook)}`\n".replace("zooconv.mapping.family.", "").replace("Iterable", "Iterable"))
            cog.outl(inspect.cleandoc(hook.__doc__ or ""))


def documented(*names: str) -> None:
    """Classes of the public API: what each is, its fields, and its methods."""
    import zooconv

    for title in names:
        kind = getattr(zooconv, title)
        cog.outl(f"### `zooconv.{title}`\n\n{inspect.cleandoc(kind.__doc__ or '')}\n")
        if dataclasses.is_dataclass(kind):
            fields = ", ".join(f"`{f.name}: {f.type}`" + ("" if f.default is dataclasses.MISSING
                               and f.default_factory is dataclasses.MISSING else " (optional)")
                               for f in dataclasses.fields(kind))
            cog.outl(f"Fields: {fields}.\n")
        for name, member in vars(kind).items():
            if inspect.isfunction(member) and not name.startswith("_") and member.__doc__:
                arguments = ", ".join(list(inspect.signature(member).parameters)[1:])
                cog.outl(f"- `{name}({arguments})`: {' '.join(inspect.cleandoc(member.__doc__).split())}")
        cog.outl("")


def events() -> None:
    """The events of a batch."""
    from zooconv.batch.events import schema

    cog.outl("| event | fields | says |\n|---|---|---|")
    for name, fields, meaning in schema():
        cog.outl(f"| `{name}` | {fields} | {meaning} |")


def conformance() -> None:
    """Every check of a family, for the example."""
    from zooconv.testing.conformance import checks
    from zooconv_vgg import FAMILY

    for check in checks(FAMILY):
        cog.outl(f"- {check.title}")


def fixtures() -> None:
    """The fixtures of the pytest plugin."""
    from zooconv.testing import pytest_plugin

    for name in ("local_hub", "hub_client"):
        cog.outl(f"- `{name}`: {' '.join((getattr(pytest_plugin, name).__doc__ or '').split())}")


def kit() -> None:
    """The modules of the test kit, and their functions for plugin authors."""
    from zooconv.testing import checkpoints, conformance, hub, mutation, prove, prove_members

    shown = {conformance: ["assert_family", "checks"], mutation: ["mutants", "score"], prove: ["prove"],
             prove_members: ["prove_member"], hub: ["LocalHub"], checkpoints: ["random_weights", "lively_weights", "spelled", "save_pth", "save_safetensors"]}
    cog.outl("| module | | |\n|---|---|---|")
    for module, names in shown.items():
        for name in names:
            first = inspect.cleandoc(getattr(module, name).__doc__ or "").split("\n\n")[0]
            cog.outl(f"| `{module.__name__}` | `{name}` | {' '.join(first.split())} |")


def mutants() -> None:
    """The score of a toy ConvNeXt against timm, as measured now."""
    import tempfile
    from pathlib import Path

    from zooconv.testing.prove import prove
    from zooconv_zoo.convnext import FAMILY

    with tempfile.TemporaryDirectory() as folder:
        _, _, score = prove(FAMILY, FAMILY.toy, "timm", Path(folder))
    cog.outl(f"```\n{score.text}\n```")


def source(path: str, language: str = "python") -> None:
    """A file of this repository, whole."""
    from pathlib import Path

    cog.outl(f"```{language}")
    cog.out(Path(path).read_text(encoding="utf-8"))
    cog.outl("```")


def _official(families: Any, *, many: bool = True) -> list[Any]:
    return [f for f in families if f.name != "vgg" and (many or not f.members)]
