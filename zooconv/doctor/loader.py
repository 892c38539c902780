"""What Detectron2 makes of a file: its dispatch on the suffix, foretold without loading anything.

    .pkl     pickle.load, whatever is in it: with "model" and "__author__" as it is, else as a file of Caffe2
    .pyth    torch.load; must hold "model_state"
    others   torch.load; without "model", the whole is taken for the weights

and then every value under "model" must be a tensor or a numpy array. Sources: detectron2/checkpoint/
detection_checkpoint.py, fvcore/common/checkpoint.py, torch/serialization.py (2.6 and later).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from zooconv.checkpoint.pickle_vm import Global, Instance, Mapped
from zooconv.checkpoint.torch_tensor import Unsupported
from zooconv.doctor.content import Content
from zooconv.tensor import LazyTensor, Shape


class Raised(NamedTuple):
    """An exception: its type's name, and how its text begins or what stands in it."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class _Raise(Exception):
    def __init__(self, kind: str, text: str = "") -> None:
        super().__init__(text)
        self.raised = Raised(kind, text)


@dataclass(frozen=True)
class Reading:
    """What Detectron2 has in hand once it has read a file, or what it raises.

    `entries` are shapes by name (None: a tensor whose shape is not known here). `matching` says whether names are
    matched by their ends, `caffe2` whether they are renamed before. `fragile` is what it takes for this to work, where
    it does not work everywhere. `unknown` is why nothing can be foretold.
    """

    entries: Mapping[str, Shape | None] = field(default_factory=dict)
    raised: Raised | None = None
    matching: bool = False
    caffe2: bool = False
    under: str = ""
    fragile: str = ""
    unknown: str = ""


def foretell(content: Content, query: str = "") -> Reading:
    """What Detectron2 reads from this file, under its own name, asked for with this query."""
    suffix = content.path.suffix
    try:
        if suffix == ".pkl":
            return _pkl(content)
        if content.format == "torch zip" and not content.readable and not content.scan.refused:
            return Reading(unknown=str(content.trouble))
        if suffix == ".pyth":
            return _pyth(content)
        return _others(content, query)
    except _Raise as stop:
        return Reading(raised=stop.raised)


def _pkl(content: Content) -> Reading:
    loaded = _pickle_load(content)
    if not content.readable:
        return Reading(unknown=str(content.trouble))
    return replace(_unpickled(loaded), fragile=_needs(content.scan.globals))


# what unpickling imports, and what is wherever Detectron2 is
_THERE = frozenset("builtins collections copyreg _codecs argparse numpy torch yacs fvcore detectron2".split())


def _needs(names: tuple[str, ...]) -> str:
    """What must be installed for these names to be found."""
    if any(name.startswith("numpy._core") for name in names):
        return "numpy 1.26 or later"
    foreign = sorted({name.split(".", maxsplit=1)[0] for name in names} - _THERE)
    return f"the module{'s' if len(foreign) > 1 else ''} {', '.join(foreign)} to be found" if foreign else ""


def _unpickled(loaded: Any) -> Reading:
    """What becomes of a pickle's object."""
    if _has(loaded, "model") and _has(loaded, "__author__"):
        caffe2 = loaded["__author__"] == "Caffe2"
        return Reading(_weights(loaded["model"]), matching=bool(loaded.get("matching_heuristics")), caffe2=caffe2,
                       under="model")
    under = "blobs" if _has(loaded, "blobs") else ""
    blobs = loaded["blobs"] if under else loaded
    if not isinstance(blobs, Mapping):
        raise _Raise("AttributeError", f"'{_class(blobs)}' object has no attribute 'items'")
    kept = {name: value for name, value in blobs.items() if not str(name).endswith("_momentum")}
    return Reading(_weights(kept), matching=True, caffe2=True, under=under)


def _pyth(content: Content) -> Reading:
    loaded = _torch_load(content)
    if not _has(loaded, "model_state"):
        raise _Raise("AssertionError", f"Cannot load .pyth file {content.path}; "
                                       "pycls checkpoints must contain 'model_state'.")
    state = loaded["model_state"]
    if not isinstance(state, Mapping):
        raise _Raise("AttributeError", f"'{_class(state)}' object has no attribute 'items'")
    kept = {name: value for name, value in state.items() if not str(name).endswith("num_batches_tracked")}
    return Reading(_weights(kept), matching=True, under="model_state")


def _others(content: Content, query: str) -> Reading:
    loaded = _torch_load(content)
    under = "model" if _has(loaded, "model") else ""
    model = loaded["model"] if under else loaded
    asked = parse_qs(query)
    matching = asked.pop("matching_heuristics", ["False"]) == ["True"]
    if asked:
        raise _Raise("ValueError", f"Unsupported query remaining: f{asked}")
    beside = loaded.get("matching_heuristics") if under else None
    fragile = ""
    if content.format == "safetensors":
        fragile = "torch 2.13 or later and fvcore from PyPI"
    return Reading(_weights(model), matching=matching or bool(beside), under=under, fragile=fragile)


# -- what the two loaders raise ----------------------------------------------------------------------------------------


def _pickle_load(content: Content) -> Any:
    """As pickle.load(f, encoding="latin1") has it."""
    match content.format:
        case "torch zip" | "torchscript" | "npz" | "zip" | "damaged":  # PK is PERSID, and then a line
            raise _Raise("UnpicklingError", "A load persistent id instruction was encountered")
        case "torch legacy":  # the first of its pickles is a number
            raise _Raise("TypeError", "argument of type 'int' is not iterable")
        case "empty":
            raise _Raise("EOFError", "Ran out of input")
        case "pickle":
            return content.tree
    raise _Raise("UnpicklingError", f"invalid load key, '{_key(content.head[0])}'.")


def _key(byte: int) -> str:
    """As CPython spells the byte at which a pickle cannot begin."""
    return chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}"


# what torch.load raises by the container alone
_REFUSED = {
    "torchscript": ("RuntimeError", "Cannot use ``weights_only=True`` with TorchScript archives"),
    "damaged": ("RuntimeError", "PytorchStreamReader failed reading zip archive"),
    "zip": ("RuntimeError", "PytorchStreamReader failed locating file"),
    "npz": ("RuntimeError", "file in archive is not in a subdirectory: "),
    "empty": ("EOFError", ""),
    "tar": ("RuntimeError", "Cannot use ``weights_only=True`` with files saved in the legacy .tar format."),
}


def _torch_load(content: Content) -> Any:
    """As torch.load(path, map_location="cpu") has it."""
    if content.format == "safetensors" and content.path.suffix == ".safetensors":
        return content.tree
    if content.format in _REFUSED:
        kind, text = _REFUSED[content.format]
        raise _Raise(kind, text + (content.records[0] if content.format == "npz" else ""))
    if content.scan.refused:
        raise _Raise("UnpicklingError", f"Weights only load failed. … {content.scan.refused}")
    if content.format == "torch legacy" and not content.readable:
        raise _Raise("RuntimeError", "unexpected EOF")
    if content.format not in ("torch zip", "torch legacy"):
        raise _Raise("RuntimeError", "Invalid magic number; corrupt file?")
    return content.tree


def _has(loaded: Any, key: str) -> bool:
    """As `key in loaded` has it."""
    if isinstance(loaded, Mapping):
        return key in loaded
    if isinstance(loaded, LazyTensor):
        raise _Raise("RuntimeError", "Tensor.__contains__ only supports Tensor or scalar")
    if isinstance(loaded, (list, tuple, str)):
        return key in loaded
    raise _Raise("TypeError", f"argument of type '{_class(loaded)}' is not iterable")


def _weights(model: Any) -> dict[str, Shape | None]:
    """The entries under "model", every one of which must be a tensor or an array of numbers."""
    if not isinstance(model, Mapping):
        raise _Raise("AttributeError", f"'{_class(model)}' object has no attribute 'keys'")
    for name, value in model.items():
        if isinstance(value, Unsupported) and "Python objects" in value.why:
            raise _Raise("TypeError", "can't convert np.ndarray of type numpy.object_.")
        if not isinstance(value, (LazyTensor, Unsupported)):
            raise _Raise("ValueError", f"Unsupported type found in checkpoint! {name}: <class '{_class(value)}'>")
    if odd := [name for name in model if not isinstance(name, str)]:
        raise _Raise("TypeError", f"object of type '{_class(odd[0])}' has no len()")
    return {name: value.shape if isinstance(value, LazyTensor) else None for name, value in model.items()}


def _class(value: Any) -> str:
    """The name of a value's class, as Python spells it in messages."""
    if isinstance(value, Instance):
        return value.call.name
    if isinstance(value, Mapped):
        return value.kind
    known = {LazyTensor: "Tensor", Global: "type"}
    return known.get(type(value), type(value).__name__)
