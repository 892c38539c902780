"""Parity and mutation scores at full size, with random weights: `python -m zooconv.testing.prove`, or `make prove`.

    python -m zooconv.testing.prove [FAMILY[/VARIANT] …] [--against PACKAGE] [--mutants NUMBER]

Every variant of a family is written as its upstream would write it, converted, certified, held against the upstream's
module, and so are wrong conversions of it: all of them for small members, `--mutants` drawn at random for the others.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import UsageError
from zooconv.mapping.family import Family
from zooconv.modules import SMALL
from zooconv.modules import weights as weights_of
from zooconv.names import local
from zooconv.options import Options
from zooconv.parity import Parity, compare, expect
from zooconv.pipeline import run
from zooconv.plugins import families
from zooconv.subject import read_layout
from zooconv.testing.checkpoints import lively_weights, save_safetensors, spelled
from zooconv.testing.mutation import Score, mutants, score
from zooconv.upstream import installed, upstream


def prove(family: Family[Any], config: Any, against: str, folder: Path, *,
          most: int | None = None) -> tuple[Parity, list[str], Score]:
    """Convert random weights of `config` from the upstream's spelling, and prove the outcome in every way.

    The parity, what contradicts the certificate (nothing, one hopes), and the score of the mutants: all, or `most`
    chosen at random. Everything is written below `folder`. Raises ZooError.
    """
    weights = lively_weights(family, config)
    dialect = next(d for d in family.dialects if d.name == upstream(family, against).spelling(config))
    path = save_safetensors(folder / "source.safetensors", spelled(dialect, weights))
    done = run(local(path), Options(output=folder / "artifact.pth", load_check=False, report=False, force=True,
                                    layout=family.layouts[0].name, registry=folder / "registry.json"))
    with open_checkpoint(path) as source, open_checkpoint(done.path) as artifact:
        faults = check_certificate(done.certificate, source, artifact)
        ours = read_layout(artifact, family.name, done.preview.plan.layout)
        expected = expect(source.tensors, done.preview.found, against)
        parity = compare(expected, ours, weights_of(ours.canonical, artifact.tensors))
        wrong = list(mutants(family, weights))
        if most is not None and most < len(wrong):
            wrong = random.Random(0).sample(wrong, most)  # noqa: S311
        return parity, faults, score(expected, ours, weights, wrong, parity.unseen)


def main(arguments: list[str] | None = None) -> int:
    """Prove what was asked for. 1 if a proof fails or a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m zooconv.testing.prove")
    parser.add_argument("what", nargs="*", metavar="FAMILY[/VARIANT]")
    parser.add_argument("--against", help="one upstream, of all that are installed")
    parser.add_argument("--mutants", type=int, default=40, help="how many for each large member")
    asked = parser.parse_args(arguments)
    good = True
    for family, name, config in _asked(asked.what):
        for against in [asked.against] if asked.against else installed(family):
            holds, text = _one(family, config, against, asked.mutants)
            print(f"{family.title} {name} against {against}: {text}\n", flush=True)
            good = good and holds
    return 0 if good else 1


def _one(family: Family[Any], config: Any, against: str, most: int) -> tuple[bool, str]:
    """Whether every proof of one member against one upstream holds, and what to say of it."""
    start = perf_counter()
    size = sum(math.prod(spec.shape) for spec in family.tensors(config))
    try:
        with tempfile.TemporaryDirectory() as folder:
            parity, faults, found = prove(family, config, against, Path(folder), most=most if size >= SMALL else None)
    except UsageError as error:
        return True, f"not run: {'; '.join([error.what, *error.why])}"
    worst = max(d.relative for d in parity.differences)
    same = "the same function" if parity.passed else "NOT the same function"
    text = (f"{same} as {parity.package} {parity.version}'s ({worst:.1e}), certificate {(faults or ['holds'])[0]}, "
            f"{perf_counter() - start:.1f} s\n{found.text}")
    return parity.passed and not faults and not found.survivors, text


def _asked(what: list[str]) -> Iterator[tuple[Family[Any], str, Any]]:
    for family in families():
        known = {**({"toy": family.toy} if family.toy else {}), **family.variants}
        for name, config in known.items():
            if family.backbone and (not what or family.name in what or f"{family.name}/{name}" in what):
                yield family, name, config


if __name__ == "__main__":
    sys.exit(main())
