"""Parity and mutation scores at full size, with random weights: `python -m zooconv.testing.prove`, or `make prove`.

    python -m zooconv.testing.prove [FAMILY[/VARIANT] …] [--largest MILLIONS] [--against PACKAGE] [--mutants NUMBER]
                                    [--jobs NUMBER] [--write PAGE [--new]]

A variant of a family is written as its upstream would write it, converted, certified, held against the upstream's
module, and so are wrong conversions of it: all of them for small members, `--mutants` drawn at random for the others.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from zooconv.atomic import write_text
from zooconv.batch.local import start
from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.engine import Crew
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Leaf
from zooconv.mapping.family import Family, config_text
from zooconv.modules import OVERHEAD, SMALL, without_values
from zooconv.modules import weights as weights_of
from zooconv.names import local
from zooconv.options import Options
from zooconv.output import some
from zooconv.parity import Parity, compare, expect
from zooconv.pipeline import run
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.subject import read_layout
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import lively_weights_on_disk, save_safetensors, spelled
from zooconv.testing.mutation import Score, mutants, score
from zooconv.testing.proofs import Key, Row, read_page
from zooconv.upstream import import_package, installed, upstream


def prove(family: Family[Any], config: Any, against: str, folder: Path, *,
          most: int | None = None) -> tuple[Parity, list[str], Score]:
    """Convert random weights of `config` from the upstream's spelling, and prove the outcome in every way.

    The parity, what contradicts the certificate (nothing, one hopes), and the score of the mutants: all, or `most`
    chosen at random. Everything is written below `folder`. Raises ZooError, as `spelling` where nothing can be proved.
    """
    dialect = spelling(family, config, against)
    weights = lively_weights_on_disk(family, config, folder / "weights")
    path = save_safetensors(folder / "source.safetensors", spelled(dialect, weights))
    done = run(local(path), Options(output=folder / "artifact.pth", load_check=False, report=False, force=True,
                                    layout=family.layouts[0].name, registry=folder / "registry.json"))
    with open_checkpoint(path) as source, open_checkpoint(done.path) as artifact:
        faults = check_certificate(done.certificate, source, artifact)
        ours = read_layout(artifact, family, done.preview.plan.layout)
        expected = expect(source.tensors, done.preview.found, against)
        parity = compare(expected, ours, weights_of(ours.canonical, artifact.tensors))
        wrong = list(mutants(family, weights))
        if most is not None and most < len(wrong):
            wrong = random.Random(0).sample(wrong, most)  # noqa: S311
        return parity, faults, score(expected, ours, weights, wrong, parity.unseen)


def spelling(family: Family[Any], config: Any, against: str) -> Dialect:
    """The names in which an upstream publishes a member. Nothing is made for it, however large the member is.

    Raises UsageError where the upstream cannot build the member, or where files in its names would not be recognised
    as this one's; CheckFailed where nothing knows them.
    """
    import torch

    other = upstream(family, against)
    dialect = next(d for d in family.dialects if d.name == other.spelling(config))
    whole = {spec.name: Leaf(spec.shape, spec.dtype, spec.name) for spec in family.tensors(config)}
    made = dialect.from_canonical(whole)
    values = {**made.made, **{second: made.made[first] for second, first in dialect.second_names(made.made).items()}}
    specs = {name: TensorSpec(name, value.shape, value.dtype) for name, value in values.items()}
    wrong = UsageError(f"{dialect.name} names cannot tell this {family.title}")
    try:
        found = recognise(specs, families(), what=f"this {family.title}").config
    except CheckFailed:
        if not made.unmatched:
            raise
        raise UsageError(wrong.what, why=[f"they have none for {some(made.unmatched)}"]) from None
    if found != config:
        raise UsageError(wrong.what, why=[f"{config_text(config)} in them is {config_text(found)}"])
    import_package(other.package)
    try:
        with torch.device("meta"), without_values():
            other.build(config, {name: spec.shape for name, spec in specs.items()})
    except ValueError as error:
        raise UsageError(f"{against} cannot build this {family.title}", why=[str(error)]) from None
    return dialect


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
    """What was found of one member, for the page and for the terminal.

    There is no `row` where an upstream cannot build the member, or has no names for it.
    """

    row: Row | None
    text: str
    failed: bool


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
    parser.add_argument("--jobs", type=int, default=1, help="how many at once, where memory has room for them")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page for the outcome, such as docs/proofs.md; "
                        "what it tells of other members stays")
    parser.add_argument("--new", action="store_true", help="only those that the page has no row of")
    asked = parser.parse_args(arguments)
    old = read_page(asked.write)
    known = [m for m in every_member(asked.against) if not asked.what or {m.family.name, f"{m.family.name}/{m.name}"}
             & {*asked.what}]
    wanted = [m for m in known if m.size <= (asked.largest or math.inf) * 1e6 and not (asked.new and m.key in old.rows)]
    every = asked.what or asked.all or asked.largest is not None
    found: list[Proved] = []
    order = [m.key for m in every_member()] if asked.write else []

    def save(walked: Iterable[Family[Any]] = ()) -> None:
        if asked.write:
            write_text(asked.write, old.told((one.row for one in found if one.row), walked, order).text)

    for one in _every(wanted, asked.mutants, asked.jobs) if every else _smallest(wanted, asked.mutants):
        found.append(one)
        print(one.text, flush=True)
        save()  # what was found before a run ends, in whatever way, is no less true
    about = {word.split("/")[0] for word in asked.what}
    save(f for f in families() if not f.members and (not about or f.name in about))
    return 1 if any(one.failed for one in found) else 0


def every_member(against: str | None = None) -> list[Member]:
    """Every member that could be run, by family, upstream and size; each upstream's toy first."""
    found = []
    for family in (one for one in families() if not one.members):
        for name in installed(family) if family.backbone else ():
            own = upstream(family, name).toy
            toy = {"toy": family.toy if own is None else own} if family.toy else {}
            known = [Member(family, *item, name) for item in family.variants.items()]
            found += [*(Member(family, *item, name) for item in toy.items()), *sorted(known, key=lambda m: m.size)]
    return [m for m in found if against in (None, m.against)]


def _every(wanted: list[Member], most: int, jobs: int) -> Iterator[Proved]:
    """Prove them, the smallest first: as many at once as there are jobs, and as memory has room for."""
    import psutil

    waiting = deque(sorted(wanted, key=lambda m: m.size))
    if jobs == 1:
        yield from (_one(member, most) for member in waiting)
        return
    room = psutil.virtual_memory().available
    running: dict[Future[Proved], Member] = {}
    with start(Crew(jobs)) as pool:
        while waiting or running:
            while waiting and len(running) < jobs and not (
                    running and sum(map(_memory, (*running.values(), waiting[0]))) > room):
                member = waiting.popleft()
                running[pool.submit(_named, member.key, most)] = member
            for one in wait(running, return_when=FIRST_COMPLETED).done:
                member = running.pop(one)
                if isinstance(one.exception(), pool.lost):
                    yield Proved(None, f"{' · '.join(member.key)} · FAILED: its process is gone, for want of memory?\n",
                                 failed=True)
                else:
                    yield one.result()


def _memory(member: Member) -> int:
    """The bytes that a proof takes: the weights in a file's form, or a module in float64, and what it keeps."""
    return 16 * member.size + OVERHEAD


def _named(key: Key, most: int) -> Proved:
    """The same in another process, where a member travels by its names."""
    return _one(next(m for m in every_member(key[2]) if m.key == key), most)


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
    start, (title, name, against) = perf_counter(), member.key
    wrong: list[str] = []
    row, more = None, ""
    try:
        with tempfile.TemporaryDirectory() as folder:
            parity, faults, score = prove(member.family, member.config, against, Path(folder),
                                          most=most if member.size >= SMALL else None)
    except UsageError as error:
        told = [title, name, against, f"not run: {'; '.join([error.what, *error.why])}"]
    except CheckFailed as error:
        wrong = [error.what, *error.why]
        row = (title, name, against, "none", f"FAILED: {'; '.join(wrong)}", "")
        told = [*row[:-1]]
    else:
        wrong = [*(f"{d.output} differs" for d in parity.apart), *faults, *score.survivors]
        worst = max(d.relative for d in parity.differences)
        row = (title, name, f"{against} {parity.version}", f"{worst:.1e}", "; ".join(wrong[:3]) or "holds",
               f"{len(score.killed)} of {score.total}")
        told, more = [*row], f"{score.text}\n"
    return Proved(row, f"{' · '.join(told)} · {perf_counter() - start:.1f} s\n{more}", failed=bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
