"""How torch pickles tensors: as calls of its rebuild functions on storages, read here as data.

What a storage is, the container knows; the views that tensors have of it are checked here, whatever torch would accept
without a word. Format: torch/_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.pickle_vm import Global, Instance, whole
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record
from zooconv.tensor import DTYPES, LazyTensor, is_dense

_PLAIN = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter")
MAX_RANK = 64
MAX_EXPANDED = 64 << 20  # bytes of a tensor that has more elements than its storage (a stride of 0)

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "UntypedStorage": "U8",
}
_DTYPES = {known.torch: name for name, known in DTYPES.items()}


class Storage(NamedTuple):
    """A run of elements of one dtype that tensors are views of."""

    dtype: str
    file: InputFile
    record: Record


class Unsupported(NamedTuple):
    """A tensor that zooconv does not read (sparse, quantised …): refused if it is asked for, harmless beside."""

    why: str


def storage_id(key: Any, size: int) -> tuple[str, str, int]:
    """What a persistent id `("storage", type, name, location, count, …)` of `size` parts says: dtype, name, count."""
    if not isinstance(key, tuple) or len(key) != size or key[0] != "storage" or not isinstance(key[2], str):
        raise UnsafeFile("a persistent id of the pickle is no storage")
    kind, name, count = key[1], key[2], key[4]
    dtype = _STORAGES.get(kind.name.rsplit(".", 1)[-1]) if isinstance(kind, Global) else None
    if dtype is None:
        raise UnsafeFile(f"storage {name!r:.40} is of type {kind!r:.60}, which zooconv does not carry")
    whole(count)
    return dtype, name, count


class Storages:
    """The storages that a pickle's persistent ids name: `records` of `file`, by name."""

    def __init__(self, file: InputFile, records: Mapping[str, Record]) -> None:
        self.file, self.records = file, records
        self.known: dict[str, Storage] = {}

    def storage(self, key: Any, size: int = 5) -> Storage:
        """The storage of a persistent id of `size` parts, its dtype and count as the file has them."""
        dtype, name, count = storage_id(key, size)
        record = self.records.get(name)
        if record is None:
            raise UnsafeFile(f"storage {name!r:.40} is not in the file")
        if record.size != count * DTYPES[dtype].size:
            raise UnsafeFile(f"storage {name!r:.40} is declared with {count:,} {dtype} elements, "
                             f"but has {record.size:,} bytes")
        found = self.known.setdefault(name, Storage(dtype, self.file, record))
        if found.dtype != dtype:
            raise UnsafeFile(f"storage {name!r:.40} is declared both as {found.dtype} and as {dtype}")
        return found


def rebuilt(call: Global, args: tuple[Any, ...]) -> Any:
    """What a call of a pickle makes, where it is one of torch's rebuild functions; any other stays inert."""
    match call.name:
        case "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor":
            flags = args[6] if len(args) > 6 and isinstance(args[6], dict) else {}
            bits = [bit for bit in ("conj", "neg") if flags.get(bit)]
            return Unsupported(f"a lazily {bits[0]}ugated tensor") if bits else _view(args[0], None, *args[1:4])
        case "torch._utils._rebuild_tensor_v3":
            return _view(args[0], args[6], *args[1:4])
        case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state":
            return args[0]
        case "torch._tensor._rebuild_from_type_v2":
            return _typed(*args[:3])
        case "torch.Size":
            return tuple(args[0]) if args else ()
    if call.name.startswith(("torch._utils._rebuild_", "torch.Tensor", "torch._tensor.")):
        return Unsupported(f"a tensor of {call.name}")
    return pickle_vm.inert(call, args)


def _typed(function: Any, kind: Any, args: Any) -> Any:
    """A tensor of a Python subclass: only Tensor and Parameter are what their data say."""
    if isinstance(kind, Global) and kind.name in _PLAIN:
        return rebuilt(function, args)
    return Unsupported(f"a tensor of the subclass {kind!r:.60}")


def _view(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any) -> LazyTensor:
    """A tensor as a view of a storage, its reach checked."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise UnsafeFile("a tensor of the pickle is not a view of a storage")
    if len(shape) != len(strides) or len(shape) > MAX_RANK:
        raise UnsafeFile(f"a tensor of the pickle has {len(shape)} sizes and {len(strides)} strides")
    for number in (offset, *shape, *strides):
        whole(number)
    kind = storage.dtype if dtype is None else _DTYPES.get(getattr(dtype, "name", "").removeprefix("torch."))
    if kind is None:
        raise UnsafeFile(f"a tensor of the pickle has dtype {dtype!r:.60}, which zooconv does not carry")
    item = DTYPES[kind].size
    elements = storage.record.size // item
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= elements:
        raise UnsafeFile(f"a tensor reaches element {last:,} of storage {storage.record.name}, "
                         f"which has {elements:,}")
    if math.prod(shape) > elements and math.prod(shape) * item > MAX_EXPANDED:
        raise UnsafeFile(f"a tensor expands storage {storage.record.name} to {math.prod(shape):,} elements")
    dense = is_dense(shape, strides)
    return LazyTensor(kind, shape, storage.file, storage.record.offset + offset * item, storage.record,
                      None if dense else strides)


def describe(value: Any) -> str:
    """A foreign value in a few words, for messages; nothing of it is run."""
    if isinstance(value, Instance):
        return f"a {value.call.name}"
    if isinstance(value, Unsupported):
        return value.why
    if isinstance(value, dict):
        return "a dict"
    return "nothing" if value is None else f"a {type(value).__name__}"
