"""Parity and mutation scores at full size, with random weights: `python -m zooconv.testing.prove`, or `make prove`.

    python -m zooconv.testing.prove [FAMILY[/VARIANT] …] [--largest MILLIONS] [--against PACKAGE] [--mutants NUMBER]
                                    [--write PAGE [--new]]

A variant of a family is written as its upstream would write it, converted, certified, held against the upstream's
module, and so are wrong conversions of it: all of them for small members, `--mutants` drawn at random for the others.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Iterator
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
from zooconv.testing.proofs import Row, read_page
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
class Member:
    """A member of a family, to be held against one of its upstreams. `size` is its number of parameters."""

    family: Family[Any]
    name: str
    config: Any
    against: str

    @property
    def size(self) -> int:
        return sum(math.prod(spec.shape) for spec in self.family.tensors(self.config))

    @property
    def key(self) -> tuple[str, str, str]:
        """What its row is found by."""
        return self.family.title, self.name, self.against


@dataclass(frozen=True)
class Proved:
    """What was found of one member; `why` says what stands against it, or why it was not run."""

    member: Member
    seconds: float
    why: str = ""
    parity: Parity | None = None
    score: Score | None = None
    failed: bool = False

    @property
    def row(self) -> Row | None:
        """Its row on the page; none where an upstream cannot build the member, or has no names for it."""
        family, name, against = self.member.key
        if self.parity is None or self.score is None:
            return (family, name, against, "none", f"FAILED: {self.why}", "") if self.failed else None
        worst = max(d.relative for d in self.parity.differences)
        return (family, name, f"{against} {self.parity.version}", f"{worst:.1e}", self.why or "holds",
                f"{len(self.score.killed)} of {self.score.total}")

    @property
    def text(self) -> str:
        """For the terminal."""
        told = f"\n{self.score.text}" if self.score else ""
        row = self.row or (*self.member.key, f"not run: {self.why}")
        return f"{' · '.join(filter(None, row))} · {self.seconds:.1f} s{told}\n"


def main(arguments: list[str] | None = None) -> int:
    """Prove what was asked for. 1 if a proof fails or a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m zooconv.testing.prove")
    parser.add_argument("what", nargs="*", metavar="FAMILY[/VARIANT]", help="default: of each family its toy, and the "
                        "smallest of its variants")
    parser.add_argument("--largest", type=float, metavar="MILLIONS", help="every variant of at most so many million "
                        "parameters, the smallest first")
    parser.add_argument("--all", action="store_true", help="every variant; takes hours, and much memory")
    parser.add_argument("--against", help="one upstream, of all that are installed")
    parser.add_argument("--mutants", type=int, default=12, help="how many for each large member")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page for the outcome, such as docs/proofs.md; "
                        "what it tells of other members stays")
    parser.add_argument("--new", action="store_true", help="only those that the page has no row of")
    asked = parser.parse_args(arguments)
    old = read_page(asked.write)
    known = [m for m in _members(asked.against) if not asked.what or {m.family.name, f"{m.family.name}/{m.name}"}
             & {*asked.what}]
    wanted = [m for m in known if m.size <= (asked.largest or math.inf) * 1e6 and not (asked.new and m.key in old.rows)]
    every = asked.what or asked.all or asked.largest is not None
    found: list[Proved] = []
    walked: list[Family[Any]] = []
    try:
        for one in _every(wanted, asked.mutants) if every else _smallest(wanted, asked.mutants):
            found.append(one)
            print(one.text, flush=True)
        about = {word.split("/")[0] for word in asked.what}
        walked += [f for f in families() if not f.members and (not about or f.name in about)]
    finally:  # what was found before an interruption is no less true
        if asked.write:
            order = [m.key for m in _members()]
            write_text(asked.write, old.told((one.row for one in found if one.row), walked, order).text)
    return 1 if any(one.failed for one in found) else 0


def _members(against: str | None = None) -> list[Member]:
    """Every member that could be run, by family, upstream and size; each upstream's toy first."""
    found = []
    for family in (one for one in families() if not one.members):
        for name in installed(family) if family.backbone else ():
            own = upstream(family, name).toy
            toy = {"toy": family.toy if own is None else own} if family.toy else {}
            known = [Member(family, *item, name) for item in family.variants.items()]
            found += [*(Member(family, *item, name) for item in toy.items()), *sorted(known, key=lambda m: m.size)]
    return [m for m in found if against in (None, m.against)]


def _every(wanted: list[Member], most: int) -> Iterator[Proved]:
    for member in sorted(wanted, key=lambda m: m.size):
        yield _one(member, most)


def _smallest(wanted: list[Member], most: int) -> Iterator[Proved]:
    """Of each family and upstream the toy, and the smallest variant that the upstream can build."""
    done = set()
    for member in wanted:
        pair = member.family.name, member.against
        if pair not in done:
            one = _one(member, most)
            if one.row or member.name == "toy":
                yield one
            if one.row and member.name != "toy":
                done.add(pair)


def _one(member: Member, most: int) -> Proved:
    start = perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            parity, faults, score = prove(member.family, member.config, member.against, Path(folder),
                                          most=most if member.size >= SMALL else None)
    except (UsageError, CheckFailed) as error:
        return Proved(member, perf_counter() - start, "; ".join([error.what, *error.why]),
                      failed=isinstance(error, CheckFailed))
    wrong = [*(f"{d.output} differs" for d in parity.apart), *faults, *score.survivors]
    return Proved(member, perf_counter() - start, "; ".join(wrong[:3]), parity, score, failed=bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
