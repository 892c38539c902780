"""Parity and mutation scores at full size, with random weights: `python -m zooconv.testing.prove`, or `make prove`.

    python -m zooconv.testing.prove [FAMILY[/VARIANT] …] [--against PACKAGE] [--mutants NUMBER] [--write PAGE]

A variant of a family is written as its upstream would write it, converted, certified, held against the upstream's
module, and so are wrong conversions of it: all of them for small members, `--mutants` drawn at random for the others.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from zooconv.atomic import write_text
from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import Leaf
from zooconv.mapping.family import Family, config_text
from zooconv.mapping.rules import Dialect
from zooconv.modules import SMALL
from zooconv.modules import weights as weights_of
from zooconv.names import local
from zooconv.options import Options
from zooconv.output import some
from zooconv.parity import Parity, compare, expect
from zooconv.pipeline import run
from zooconv.plugins import families
from zooconv.subject import read_layout
from zooconv.testing.checkpoints import lively_weights, save_safetensors, spelled
from zooconv.testing.mutation import Score, mutants, score
from zooconv.testing.roads import roads
from zooconv.upstream import installed, upstream


def prove(family: Family[Any], config: Any, against: str, folder: Path, *,
          most: int | None = None) -> tuple[Parity, list[str], Score]:
    """Convert random weights of `config` from the upstream's spelling, and prove the outcome in every way.

    The parity, what contradicts the certificate (nothing, one hopes), and the score of the mutants: all, or `most`
    chosen at random. Everything is written below `folder`. Raises ZooError; UsageError where the upstream's dialect has
    no names for some part of this member, so that its files could only be another one's.
    """
    weights = lively_weights(family, config)
    dialect = next(d for d in family.dialects if d.name == upstream(family, against).spelling(config))
    path = save_safetensors(folder / "source.safetensors", spelled(dialect, weights))
    try:
        done = run(local(path), Options(output=folder / "artifact.pth", load_check=False, report=False, force=True,
                                        layout=family.layouts[0].name, registry=folder / "registry.json"))
    except CheckFailed:
        if nameless := nameless_in(dialect, family, config):
            raise UsageError(f"{dialect.name} names cannot tell this {family.title}",
                             why=[f"they have none for {some(nameless)}"]) from None
        raise
    if (found := done.preview.found.config) != config:
        raise UsageError(f"{dialect.name} names cannot tell this {family.title}",
                         why=[f"{config_text(config)} in them is {config_text(found)}"])
    with open_checkpoint(path) as source, open_checkpoint(done.path) as artifact:
        faults = check_certificate(done.certificate, source, artifact)
        ours = read_layout(artifact, family, done.preview.plan.layout)
        expected = expect(source.tensors, done.preview.found, against)
        parity = compare(expected, ours, weights_of(ours.canonical, artifact.tensors))
        wrong = list(mutants(family, weights))
        if most is not None and most < len(wrong):
            wrong = random.Random(0).sample(wrong, most)  # noqa: S311
        return parity, faults, score(expected, ours, weights, wrong, parity.unseen)


def nameless_in(dialect: Dialect, family: Family[Any], config: Any) -> list[str]:
    """The tensors of a member that a dialect has no names for."""
    whole = {spec.name: Leaf(spec.shape, spec.dtype, spec.name) for spec in family.tensors(config)}
    return dialect.from_canonical(whole).unmatched


@dataclass(frozen=True)
class Proved:
    """What was found of one member against one upstream; `why` says what stands against it, or why it was not run."""

    family: str
    member: str
    against: str
    seconds: float
    why: str = ""
    parity: Parity | None = None
    score: Score | None = None

    @property
    def holds(self) -> bool:
        """Nothing failed; what an upstream cannot build has not failed."""
        return not self.why or self.parity is None

    @property
    def row(self) -> tuple[str, ...]:
        """Its line of the page."""
        if self.parity is None or self.score is None:
            return self.family, self.member, self.against, f"not run: {self.why}", "", ""
        worst = max(d.relative for d in self.parity.differences)
        mutants = f"{len(self.score.killed)} of {self.score.total}"
        return (self.family, self.member, f"{self.against} {self.parity.version}", f"{worst:.1e}",
                self.why or "holds", mutants)

    @property
    def text(self) -> str:
        """For the terminal."""
        told = self.score.text if self.score else ""
        return f"{' · '.join(filter(None, self.row))} · {self.seconds:.1f} s\n{told}\n"


def main(arguments: list[str] | None = None) -> int:
    """Prove what was asked for. 1 if a proof fails or a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m zooconv.testing.prove")
    parser.add_argument("what", nargs="*", metavar="FAMILY[/VARIANT]", help="default: of each family its toy, and the "
                        "smallest of its variants")
    parser.add_argument("--all", action="store_true", help="every variant; takes hours, and much memory")
    parser.add_argument("--against", help="one upstream, of all that are installed")
    parser.add_argument("--mutants", type=int, default=12, help="how many for each large member")
    parser.add_argument("--write", type=Path, help="a page for the outcome, such as docs/proofs.md")
    asked = parser.parse_args(arguments)
    found = []
    for family in (family for family in families() if not family.members):
        for against in [asked.against] if asked.against else installed(family):
            for one in _members(family, against, asked.what, asked.mutants, everything=asked.all):
                found.append(one)
                print(one.text, flush=True)
    if asked.write:
        about = {one.family for one in found}
        walked = [f for f in families() if not f.members and (f.title in about or not asked.what)]
        write_text(asked.write, page(found, walked))
    return 0 if all(one.holds for one in found) else 1


def _one(family: Family[Any], name: str, config: Any, against: str, most: int) -> Proved:
    start = perf_counter()
    size = sum(math.prod(spec.shape) for spec in family.tensors(config))
    try:
        with tempfile.TemporaryDirectory() as folder:
            parity, faults, score = prove(family, config, against, Path(folder), most=most if size >= SMALL else None)
    except UsageError as error:
        return Proved(family.title, name, against, perf_counter() - start, "; ".join([error.what, *error.why]))
    wrong = [*(f"{d.output} differs" for d in parity.apart), *faults, *score.survivors]
    return Proved(family.title, name, against, perf_counter() - start, "; ".join(wrong[:3]), parity, score)


def page(found: Iterable[Proved], walked: Iterable[Family[Any]]) -> str:
    """The outcome as a page, with the roads of some families."""
    rows = "\n".join(f"| {' | '.join(one.row)} |" for one in found)
    return f"""# Proofs

Written by `make prove`, with random weights. [proof.md](proof.md) tells what this means.

## Does it compute the same?

Each member is written as its upstream would write it, converted, certified, and held against the upstream's own module
in float64; wrong conversions of it, made on purpose, must be caught (all of them for the toys, a random choice for the
others). The limit is 1e-12.

| family | member | against | largest relative difference | certificate | wrong conversions caught |
|---|---|---|---|---|---|
{rows}

## Was a byte lost?

Every dialect into every layout, with a toy. *Exact*: every source tensor that is not dropped comes back from the
artifact byte for byte; a number: the same but for the changes that stand below the table; `-`: refused.
{"".join(_roads(family) for family in walked)}"""


def _roads(family: Family[Any]) -> str:
    """A family's table, dialects by layouts."""
    notes: list[str] = []
    lines = [f"\n### {family.title}\n", f"| from, to | {' | '.join(layout.name for layout in family.layouts)} |",
             "|---" * (1 + len(family.layouts)) + "|"]
    for dialect in family.dialects:
        with tempfile.TemporaryDirectory() as folder:
            walked = list(roads(family, dialect, Path(folder)))
        notes += [one.why for one in walked if one.status in ("changed", "failed") and one.why not in notes]
        cells = [{"exact": "exact", "refused": "-"}.get(one.status) or f"{one.status}, {1 + notes.index(one.why)}"
                 for one in walked]
        lines.append(f"| {dialect.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{n}. {note}" for n, note in enumerate(notes, 1)), *([""] if notes else [])])


def _members(family: Family[Any], against: str, what: list[str], most: int, *, everything: bool) -> Iterator[Proved]:
    """What was asked for; by default the toy that the upstream can build, and the smallest variant that it can."""
    def size(name: str) -> int:
        return sum(math.prod(spec.shape) for spec in family.tensors(family.variants[name]))

    meant = not what or any(word.split("/")[0] == family.name for word in what)
    if not (meant and family.backbone and against in family.upstreams):
        return
    own = upstream(family, against).toy
    toy = {"toy": family.toy if own is None else own} if family.toy else {}
    known = toy | {name: family.variants[name] for name in sorted(family.variants, key=size)}
    if what or everything:
        for name, config in known.items():
            if everything or family.name in what or f"{family.name}/{name}" in what:
                yield _one(family, name, config, against, most)
        return
    for name, config in known.items():
        one = _one(family, name, config, against, most)
        if one.parity is not None or name == "toy":
            yield one
        if one.parity is not None and name != "toy":
            return


if __name__ == "__main__":
    sys.exit(main())
