"""Torch modules for a proof: built without initial values, filled tensor by tensor, run in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import Expr, evaluate, leaves
from zooconv.tensor import DTYPES, LazyTensor, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Weights = Mapping[str, Callable[[], "Tensor"]]
"""Tensors by name, each made when it is called for, so that they need not all be there at once."""


def weights(expressions: Mapping[str, Expr], tensors: Mapping[str, LazyTensor]) -> Weights:
    """The values of expressions over a file's tensors."""
    return {name: lambda value=value: torch_value(value, tensors)  # type: ignore[misc]
            for name, value in expressions.items()}


def torch_value(value: Expr, tensors: Mapping[str, LazyTensor]) -> Tensor:
    """An expression's value as a torch tensor of its own dtype."""
    import numpy as np
    import torch

    loaded = {leaf.name: tensors[leaf.name].array() for leaf in leaves(value)}
    array = np.ascontiguousarray(evaluate(value, loaded.__getitem__))
    if not array.flags.writeable:
        array = array.copy()
    result: Tensor = torch.from_numpy(array).view(getattr(torch, DTYPES[value.dtype].torch))
    return result.reshape(value.shape)


@contextmanager
def without_values() -> Iterator[None]:
    """Build modules whose parameters have no initial values: every one will be filled, or the proof fails.

    Drawing 350 million random numbers takes seconds, and would touch memory that nobody reads. Only in-place changes of
    parameters are left out; buffers get their values, because some of them are in no checkpoint.
    """
    from torch import nn
    from torch.overrides import TorchFunctionMode

    class Skip(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(function, "__name__", "")
            target = args[0] if args else (kwargs or {}).get("tensor")
            if name.endswith("_") and not name.endswith("__") and isinstance(target, nn.Parameter) and (
                    name != "requires_grad_"):
                return target
            return function(*args, **(kwargs or {}))

    with Skip():
        yield


@contextmanager
def threads_for(module: nn.Module) -> Iterator[None]:
    """Small modules run on one thread: their sums are shorter than the time in which threads find each other.

    Where another process has the cores, that time grows a hundredfold.
    """
    import torch

    before = torch.get_num_threads()
    if sum(p.numel() for p in module.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SMALL = 1_000_000  # parameters


def fill(module: nn.Module, given: Weights, *, lacking: Mapping[str, str], what: str) -> None:
    """Give a module its tensors, as float64, one by one: every parameter and every persistent buffer, strictly.

    `lacking` names tensors that may be missing, with the reason; they are filled with NaN, so that nothing that needs
    them goes unnoticed. Raises CheckFailed for any other that is missing, that the module has no place for, or of
    another shape.
    """
    import torch

    places = module.state_dict(keep_vars=True)
    wrong = [f"{name}: not in the weights" for name in places if name not in given and name not in lacking]
    wrong += [f"{name}: {what} has no place for it" for name in given if name not in places]
    for name, place in places.items():
        if name not in given:
            place.data = torch.full(place.shape, torch.nan, dtype=torch.float64)
            continue
        value = given[name]()
        if value.shape != place.shape:
            wrong.append(f"{name}: {tuple(value.shape)}, where {what} has {tuple(place.shape)}")
        else:
            place.data = value.double() if place.dtype.is_floating_point else value
    if wrong:
        raise CheckFailed(f"the weights do not fit {what}: {len(wrong)} tensors", why=wrong[:20])
    module.double().eval()


OVERHEAD = 600_000_000  # torch and the packages, activations of one small image, the largest tensor once more


def need_memory(tensors: Iterable[TensorSpec], what: str, free: int | None = None) -> None:
    """Refuse to start what would not fit into `free` bytes, or into what is free. Raises UsageError, with the need."""
    import psutil

    params = sum(math.prod(spec.shape) for spec in tensors)
    needed, free = 8 * params + OVERHEAD, psutil.virtual_memory().available if free is None else free
    if needed > free:
        raise UsageError(f"{what} needs {needed / 1e9:.1f} GB of memory; it may use {free / 1e9:.1f} GB",
                         why=[f"{params / 1e6:,.1f} M parameters in float64, and what torch needs"],
                         next="free some, or run it on a larger machine")


def unseen(module: nn.Module, outputs: Callable[[nn.Module], Mapping[str, Tensor]]) -> list[str]:
    """The parameters that take no part in the outputs: of these, a comparison of outputs proves nothing.

    Measured by the gradient of a random combination of all outputs.
    """
    import torch

    seen: set[str] = set()

    def look(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            if parameter.grad is not None and bool(parameter.grad.any()):
                seen.add(name)
            parameter.grad = None
        return hook

    names = [name for name, _ in module.named_parameters()]
    for name, parameter in module.named_parameters():
        hooked: Any = parameter.requires_grad_(True)
        hooked.register_post_accumulate_grad_hook(look(name))
    generator = torch.Generator().manual_seed(1)
    with torch.enable_grad():
        found = outputs(module)
        if found:
            parts = [(f * torch.randn(f.shape, generator=generator, dtype=f.dtype)).sum() / f.detach().abs().max()
                     for f in found.values()]
            torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
    return [name for name in names if name not in seen]
