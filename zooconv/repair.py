"""The same tensors under the same names, in the one form that every Detectron2 loads: a repair, and no conversion.

What stood around the weights is left out and named: wrappers, `module.`, training state, options, whatever is no
tensor among them. The way is that of a conversion: the same pass, the same writer, the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zooconv.atomic import drafting
from zooconv.audit import auditing
from zooconv.check import check_written
from zooconv.checkpoint.open import Checkpoint, open_checkpoint
from zooconv.checkpoint.write_pth import PthWriter
from zooconv.errors import UsageError
from zooconv.execute import Written, execute
from zooconv.load_check import loading
from zooconv.mapping.expr import Leaf
from zooconv.mapping.plan import Move, Moves
from zooconv.tensor import TensorSpec

MODULE = "module."


@dataclass(frozen=True)
class Repair:
    """A mended file: what it was made of, what was changed, and what was measured."""

    source: Path
    path: Path
    changes: tuple[str, ...]
    beside: tuple[str, ...]
    written: Written
    torch: str | None


def repair(source: Path, output: Path | None = None, *, ema: bool | None = None, key: str | None = None,
           force: bool = False, load_check: bool = True) -> Repair:
    """Write a mended copy of `source`, by default beside it as `<stem>_repaired.pth`. The source stays as it is.

    `ema` and `key` choose among several sets of weights. Raises UsageError where that choice is open, where the target
    is the source or exists without `force`; UnsafeFile for a source that cannot be read; CheckFailed where the written
    file is not what it must be. Then nothing is in place that was not there before.
    """
    target = output or source.with_name(f"{source.name.removesuffix('.index.json').rsplit('.', 1)[0]}_repaired.pth")
    if target.is_dir():
        target /= f"{source.stem}_repaired.pth"
    if target.suffix != ".pth":
        raise UsageError(f"{target} does not end in .pth", why=["Detectron2 treats a file by its suffix"],
                         next=f"-o {target.with_suffix('.pth')}")
    with open_checkpoint(source, ema=ema, key=key, strays=True) as checkpoint, \
            auditing(checkpoint.files, wanted=True) as audit:
        _object_to(target, checkpoint, force=force)
        moves, stripped = _moves(checkpoint)
        writer = PthWriter(moves.targets, {"format": 1})
        with loading(wanted=load_check) as torch, drafting(target) as draft:
            written = execute(moves, checkpoint, draft, writer, audit, allow_nonfinite=True)
            check_written(draft.path, moves, writer, written)
            version = torch.check(draft.path, "pth", moves.targets) if torch else None
            draft.commit()
        changes = tuple(_changes(checkpoint, stripped=stripped))
        return Repair(source, target, changes, checkpoint.beside, written, version)


def _object_to(target: Path, checkpoint: Checkpoint, *, force: bool) -> None:
    if target.exists() and any(file.is_at(target) for file in checkpoint.files):
        raise UsageError(f"{target} is the source itself; it is never overwritten", next="name another file with -o")
    if target.exists() and not force:
        raise UsageError(f"{target} exists", next="name another file with -o, or replace this one: --force")


def _moves(checkpoint: Checkpoint) -> tuple[Moves, bool]:
    """Every tensor as it is, under its own name, but for a `module.` that stands before all of them."""
    stripped = all(name.startswith(MODULE) for name in checkpoint.tensors)
    moves = [Move(TensorSpec(name.removeprefix(MODULE) if stripped else name, t.shape, t.dtype),
                  Leaf(t.shape, t.dtype, name)) for name, t in checkpoint.tensors.items()]
    return Moves(tuple(moves), {}, {}, {}, {}, {}, {}), stripped


def _changes(checkpoint: Checkpoint, *, stripped: bool) -> list[str]:
    """What is another now, a fact each."""
    changes = [f"a {checkpoint.format} file became a torch zip file"] if checkpoint.format != "torch zip" else []
    under = ".".join(checkpoint.wrapper)
    if under != "model":
        changes.append(f'weights under {under or "no key"} stand under "model"')
    if stripped:
        changes.append(f"{MODULE} taken off every name")
    if checkpoint.beside:
        changes.append(f"{len(checkpoint.beside)} things that are no weights left out")
    return changes
