"""Torch modules for a proof: built without initial values, filled tensor by tensor, run in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import Expr, evaluate, leaves
from zooconv.output import some
from zooconv.tensor import DTYPES, LazyTensor, TensorSpec, shape_text

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
    array = np.array(evaluate(value, loaded.__getitem__), order="C")
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


def fill(module: nn.Module, given: Weights, *, lacking: Callable[[str], str | None], what: str) -> dict[str, str]:
    """Give a module its tensors, as float64, one by one: every parameter and every persistent buffer, strictly.

    `lacking` says of a tensor why it may be missing, or None. Such ones are filled with NaN, so that nothing that needs
    them goes unnoticed; the result names them. Whole numbers that are not given stay as the module was built: counters,
    and indices that follow from the config. Raises CheckFailed for any other that is missing, that the module has no
    place for, or of another shape.
    """
    import torch

    places = module.state_dict(keep_vars=True)
    absent = {name: lacking(name) for name, place in places.items()
              if name not in given and place.dtype.is_floating_point}
    shapes = []
    for name, place in places.items():
        if name in absent:
            place.data = torch.full(place.shape, torch.nan, dtype=torch.float64)
        elif name in given:
            value = given[name]()
            if value.shape == place.shape:
                place.data = value.double() if place.dtype.is_floating_point else value
            else:
                shapes.append(f"{name} ({_size(value)} given, {_size(place)} wanted)")
    wrong = {"not in the weights": [name for name, why in absent.items() if why is None],
             "without a place": [name for name in given if name not in places], "of another shape": shapes}
    if number := sum(map(len, wrong.values())):
        raise CheckFailed(f"the weights do not fit {what}: {number} tensors",
                          why=[f"{len(names)} {kind}: {some(names)}" for kind, names in wrong.items() if names])
    module.double().eval()
    return {name: why for name, why in absent.items() if why is not None}


def _size(value: Tensor) -> str:
    return shape_text(tuple(value.shape))


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
    """The tensors that take no part in the outputs: of these, a comparison of outputs proves nothing.

    Measured by the gradient of a random combination of all outputs, running statistics included; whole numbers by
    adding one to all of them.
    """
    import torch

    tensors = module.state_dict(keep_vars=True)
    numbers = {name: tensor for name, tensor in tensors.items() if not tensor.dtype.is_floating_point}
    seen: set[str] = set()
    with torch.enable_grad(), _differentiable_statistics(), _kept_coarsely(tensors.values()):
        for name, tensor in tensors.items():
            if name not in numbers:
                hooked: Any = tensor.requires_grad_(True)
                hooked.register_post_accumulate_grad_hook(partial(_look, name, seen))
        found = outputs(module)
        generator = torch.Generator().manual_seed(1)
        parts = [(f * torch.randn(f.shape, generator=generator, dtype=f.dtype)).sum() / f.detach().abs().max()
                 for f in found.values()]
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.requires_grad_(False)
        for tensor in numbers.values():
            tensor.add_(1)
        if numbers and any(not torch.equal(f, found[name]) for name, f in outputs(module).items()):
            seen |= numbers.keys()
        for tensor in numbers.values():
            tensor.sub_(1)
    return [name for name in tensors if name not in seen]


def _look(name: str, seen: set[str], tensor: Tensor) -> None:
    """Note whether a gradient has arrived, and let go of it, so that there are never two of them."""
    if tensor.grad is not None and bool(tensor.grad.any()):
        seen.add(name)
    tensor.grad = None


@contextmanager
def _kept_coarsely(weights: Iterable[Tensor]) -> Iterator[None]:
    """Keep in bfloat16 what a backward pass will need of a forward one, but for the weights, which are there anyway.

    Whether a gradient is zero does not hang on more digits, and these are most of the memory that a proof takes.
    """
    import torch

    there = {tensor.untyped_storage().data_ptr() for tensor in weights}

    def pack(tensor: Tensor) -> Tensor:
        coarse = tensor.is_floating_point() and tensor.untyped_storage().data_ptr() not in there
        return tensor.bfloat16() if coarse else tensor

    def unpack(kept: Tensor) -> Tensor:
        return kept.double() if kept.dtype == torch.bfloat16 else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


@contextmanager
def _differentiable_statistics() -> Iterator[None]:
    """Let gradients reach the running statistics of a batch norm, whose own kernel has none for them."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Spelled(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is not torch.nn.functional.batch_norm:
                return function(*args, **(kwargs or {}))
            names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
            given = {"weight": None, "bias": None, "training": False, "eps": 1e-5,
                     **dict(zip(names, args, strict=False)), **(kwargs or {})}
            if given["training"] or given["running_mean"] is None:
                return function(*args, **(kwargs or {}))
            shape = (1, -1) + (1,) * (given["input"].ndim - 2)
            scaled = (given["input"] - given["running_mean"].view(shape)) * (
                given["running_var"].view(shape) + given["eps"]).rsqrt()
            scaled = scaled if given["weight"] is None else scaled * given["weight"].view(shape)
            return scaled if given["bias"] is None else scaled + given["bias"].view(shape)

    with Spelled():
        yield


def taking_part(module: nn.Module, size: tuple[int, int]) -> set[str]:
    """The parameters that `forward` makes its outputs of, for images of `size`; measured without computing anything.

    The module runs on meta tensors, which have a shape and no values, and the graph behind its outputs is walked.
    """
    import torch
    from torch.func import functional_call

    def empty(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta").requires_grad_(isinstance(tensor, torch.nn.Parameter))

    tensors = {name: empty(t) for name, t in (*module.named_parameters(), *module.named_buffers())}
    training = module.training
    with torch.enable_grad():
        outputs = functional_call(module.eval(), tensors, (torch.empty(1, 3, *size, device="meta"),))
    module.train(training)
    leaves, left, seen = set[int](), [output.grad_fn for output in outputs.values()], set[Any]()
    while left:
        if (node := left.pop()) is not None and node not in seen:
            seen.add(node)
            leaves.add(id(getattr(node, "variable", None)))
            left += [earlier for earlier, _ in node.next_functions]
    return {name for name, tensor in tensors.items() if id(tensor) in leaves}
