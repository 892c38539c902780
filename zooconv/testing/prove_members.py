"""Every architecture of a family that stands for many, proved from names and shapes: `make prove`.

    python -m zooconv.testing.prove_members [NAME …] [--sample N] [--road MB]

For each architecture the upstream's whole model is built without values, and so is the reference backbone. The whole
model's tensors must be recognised as that architecture's and planned into the layout; what the plan writes must be what
the backbone loads strictly: every name, every shape, none missing, none too many. With `--road`, architectures of at
most so many MB are written as files, with random weights, walk the whole road, and are loaded by torch.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zooconv.mapping.family import Family
from zooconv.mapping.plan import Plan, make_plan
from zooconv.names import local
from zooconv.options import Options
from zooconv.pipeline import run
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import random_tensor, save_safetensors
from zooconv.upstream import code, installed, upstream

if TYPE_CHECKING:
    from torch import nn

NAMES = {dtype.torch: name for name, dtype in DTYPES.items()}


class Outcome(NamedTuple):
    """What came of one architecture: how many tensors were written, whether as a file, and what is wrong."""

    name: str
    tensors: int
    road: bool
    wrong: str = ""


def prove_member(family: Family[Any], name: str, *, road: int = 0) -> Outcome:
    """Prove one architecture; as a file, too, where it has at most `road` bytes."""
    import torch

    config = family.variants[name]
    with torch.device("meta"):
        whole = upstream(family, installed(family)[0]).build(config, {}).state_dict()
        backbone = code(family.backbone)(config)
    specs = {n: TensorSpec(n, tuple(t.shape), NAMES[str(t.dtype).removeprefix("torch.")]) for n, t in whole.items()}
    found = recognise(specs, [family], what=name)
    if name not in found.family.variants:
        return Outcome(name, 0, False, f"recognised as {found.variant}")
    layout = found.family.layouts[0]
    plan = make_plan(found, layout)
    wrong = strictly(backbone, plan)
    size = sum(spec.nbytes for spec in specs.values())
    if not wrong and size <= road:
        wrong = _walked(specs, backbone, layout.name, layout.mount)
    return Outcome(name, len(plan.moves), size <= road, wrong)


def strictly(backbone: nn.Module, plan: Plan) -> str:
    """What keeps a backbone without values from loading what a plan writes, or nothing."""
    import torch

    mount = plan.layout.mount
    state = {spec.name.removeprefix(mount): torch.empty(spec.shape, dtype=getattr(torch, DTYPES[spec.dtype].torch),
                                                        device="meta") for spec in plan.targets}
    return _loaded(backbone, state)


def _loaded(backbone: nn.Module, state: Mapping[str, Any]) -> str:
    wanted = {name: tensor.dtype for name, tensor in backbone.state_dict().items()}
    if odd := [name for name, tensor in state.items() if wanted.get(name, tensor.dtype) != tensor.dtype]:
        return f"{odd[0]} is of another dtype"
    try:
        backbone.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        return str(error)[:400]
    return ""


def _walked(specs: Mapping[str, TensorSpec], backbone: nn.Module, layout: str, mount: str) -> str:
    """The same with files: random weights, the whole road, torch, the backbone."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        arrays = {n: random_tensor(spec) for n, spec in specs.items()}
        file = save_safetensors(Path(folder) / "model.safetensors", arrays)
        done = run(local(file), Options(layout=layout, output=Path(folder) / "made.pth", report=False, verify=True,
                                        registry=Path(folder) / "registry.json"))
        state = torch.load(done.path, weights_only=True)["model"]
        return _loaded(backbone, {name.removeprefix(mount): tensor for name, tensor in state.items()})


def prove_all(names: Sequence[str] = (), *, sample: int = 0, road: int = 0) -> Iterator[Outcome]:
    """Every architecture of every such family, or these, or a random sample that is the same each time."""
    for family in families():
        if family.members and installed(family):
            known = list(family.variants)
            drawn = random.Random(0).sample(known, sample) if sample else known  # noqa: S311 - a sample, no secret
            for name in [name for name in names if name in known] or drawn:
                try:
                    yield prove_member(family, name, road=road)
                except Exception as error:  # noqa: BLE001 - an architecture that stumbles is told, and the others go on
                    yield Outcome(name, 0, False, f"{type(error).__name__}: {error}")


def main(arguments: list[str] | None = None) -> int:
    """Prove what is asked for. 1 if anything does not hold."""
    parser = argparse.ArgumentParser(prog="python -m zooconv.testing.prove_members")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every architecture")
    parser.add_argument("--sample", type=int, default=0, help="so many of them, drawn at random")
    parser.add_argument("--road", type=float, default=0, help="as files, too, up to so many MB")
    asked = parser.parse_args(arguments)
    outcomes = []
    for outcome in prove_all(asked.names, sample=asked.sample, road=round(asked.road * 1e6)):
        outcomes.append(outcome)
        if outcome.wrong:
            print(f"{outcome.name}: {outcome.wrong}", flush=True)
        if len(outcomes) % 100 == 0:
            print(f"{len(outcomes)} architectures", file=sys.stderr, flush=True)
    wrong = sum(bool(outcome.wrong) for outcome in outcomes)
    print(f"{len(outcomes) - wrong} of {len(outcomes)} architectures hold: "
          f"{sum(o.tensors for o in outcomes):,} tensors, each under the name and in the shape that the backbone loads "
          f"strictly; {sum(o.road for o in outcomes)} of them as files")
    return 1 if wrong or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
