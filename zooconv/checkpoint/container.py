"""Where in a checkpoint the weights are: unwrapping `model`, `state_dict`, `teacher` …, and never guessing.

What stands beside the weights (epochs, optimizers, an argparse.Namespace) is named and left alone. Where averaged
weights (EMA) stand beside the plain ones, somebody has to say which are meant.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zooconv.checkpoint.torch_tensor import Unsupported, describe
from zooconv.errors import UnsafeFile, UsageError
from zooconv.tensor import LazyTensor

# Averaged weights, as training scripts call them: timm and ConvNeXt (model_ema), CSWin and timm train.py
# (state_dict_ema), MMEngine (ema_state_dict), pycls (ema_state), InternImage and others.
EMA = ("model_ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_state", "ema")
# Tensors that are no weights.
_STATE = ("optimizer", "optimizers", "optimizer_state", "optimizer_states", "optim", "lr_scheduler", "scheduler",
          "lr_schedulers", "scaler", "loss_scaler", "amp", "message_hub", "param_schedulers", "meta", "args", "config",
          "cfg", "hyper_parameters", "callbacks", "loops", "rng_state", "criterion", "loss_dict")
MAX_WRAPPERS = 5
MAX_NAME = 1024


@dataclass(frozen=True)
class Unwrapped:
    """The weights of a checkpoint, the keys they stood under, and what stood beside them."""

    tensors: dict[str, LazyTensor]
    wrapper: tuple[str, ...]
    beside: tuple[str, ...]


def unwrap(tree: Any, *, ema: bool | None = None, key: str | None = None, strays: bool = False) -> Unwrapped:
    """Find the weights in what a file holds.

    `ema` chooses averaged weights (True) or plain ones (False) where a file has both; `key` names the wrapper
    outright, with dots for one inside another. With `strays`, what stands among the weights and holds no tensor is
    told with what stands beside them. Raises UsageError where the choice is open, UnsafeFile where there is nothing to
    choose from or something among the weights is no tensor.
    """
    wanted = key.split(".") if key else []
    wrapper: list[str] = []
    beside: list[str] = []
    while not _has_tensors(tree):
        if not isinstance(tree, Mapping) or len(wrapper) == MAX_WRAPPERS:
            raise _nothing(tree)
        if wanted:
            chosen = wanted.pop(0)
            if chosen not in tree:
                raise UsageError(f"the file has no key {chosen!r}", why=[f"keys: {_names(tree)}"])
        else:
            chosen = _choose(tree, ema)
        beside += [".".join([*wrapper, str(name)]) + f" ({describe(value)})"
                   for name, value in tree.items() if name != chosen]
        wrapper.append(chosen)
        tree = tree[chosen]
    if wanted:
        raise UsageError(f"the file has no key {key!r}", why=[f"the weights lie under {'.'.join(wrapper) or 'no key'}"])
    if strays:
        stray = [name for name, value in tree.items()
                 if not _is_tensor(value) and not _holds_tensors(value, MAX_WRAPPERS)]
        beside += [".".join([*wrapper, str(name)]) + f" ({describe(tree[name])})" for name in stray]
        tree = {name: value for name, value in tree.items() if name not in stray}
    return Unwrapped(_checked(tree), tuple(wrapper), tuple(beside))


def _choose(tree: Mapping[Any, Any], ema: bool | None) -> str:
    held = [name for name, value in tree.items()
            if isinstance(name, str) and name not in _STATE and _holds_tensors(value, MAX_WRAPPERS)]
    averaged = [name for name in held if name in EMA]
    plain = [name for name in held if name not in EMA]
    if not held:
        raise _nothing(tree)
    if averaged and plain and ema is None:
        raise UsageError(f"the file has averaged weights ({averaged[0]}) beside plain ones ({', '.join(plain)})",
                         why=["they differ, and only you know which are meant"],
                         next="add --ema for the averaged ones, or --no-ema for the plain ones")
    if ema and not averaged:
        raise UsageError("the file has no averaged weights", why=[f"keys: {_names(tree)}"], next="leave out --ema")
    choices = averaged if averaged and (ema or not plain) else plain
    if len(choices) > 1:
        raise UsageError(f"the file has weights under {len(choices)} keys: {', '.join(choices)}",
                         next=f"say which: --key {choices[0]}")
    return choices[0]


def _has_tensors(tree: Any) -> bool:
    return isinstance(tree, Mapping) and any(map(_is_tensor, tree.values()))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (LazyTensor, Unsupported))


def _holds_tensors(tree: Any, depth: int) -> bool:
    if not isinstance(tree, Mapping) or depth == 0:
        return False
    return _has_tensors(tree) or any(_holds_tensors(value, depth - 1) for value in tree.values())


def _checked(tree: Mapping[Any, Any]) -> dict[str, LazyTensor]:
    """The weights, every one a tensor with a usable name."""
    odd = [f"{str(name)[:60]}: {describe(value)}" for name, value in tree.items()
           if not isinstance(value, LazyTensor)]
    if odd:
        raise UnsafeFile(f"{len(odd)} of the {len(tree)} entries among the weights "
                         f"{'is' if len(odd) == 1 else 'are'} no tensor that zooconv reads",
                         why=odd[:20], next="remove what is no weight, and save the file again")
    for name in tree:
        _check_name(name)
    return dict(tree)


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise UnsafeFile(f"a tensor's name is {describe(name)}, not text")
    if not name or len(name) > MAX_NAME or name == "__metadata__":
        raise UnsafeFile(f"a tensor's name is {'empty' if not name else repr(name[:60])}")
    if not name.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in name):
        raise UnsafeFile(f"a tensor's name holds control characters: {name[:60]!a}")


def _nothing(tree: Any) -> UnsafeFile:
    keys = [f"keys: {_names(tree)}"] if isinstance(tree, Mapping) else [f"it holds {describe(tree)}"]
    return UnsafeFile("the file holds no weights: no mapping from names to tensors", why=keys,
                      next="if it is a whole module, save its state dict: torch.save(model.state_dict(), path)")


def _names(tree: Mapping[Any, Any]) -> str:
    names = [str(name)[:40] for name in tree]
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "") or "none"
