"""Reader of torch's zip checkpoints (`.pth`, `.pt`, `.bin` since torch 1.6): without torch, and nothing is run.

The archive holds one folder: `data.pkl`, a pickle whose tensors refer to storages, and `data/0`, `data/1` …, the
storages, stored uncompressed. Every promise of the file is checked before it is used: the zip's own geometry, the size
of every storage, the reach of every view. What torch.load would accept without a word (overlapping records, a
deflated storage under mmap, a wrong number of elements) is refused.

Format: torch/serialization.py and caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.pickle_vm import Global, Instance, whole
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record, damaged
from zooconv.tensor import DTYPES, LazyTensor, is_dense

_PLAIN = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter")
MAX_PICKLE = 256 << 20
MAX_RECORDS = 1_000_000
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


def read_torch_zip(file: InputFile) -> Any:
    """The object that the checkpoint holds: plain data, with LazyTensor where torch would have a tensor.

    Fills `file.records`. Raises UnsafeFile where anything is not as torch writes it.
    """
    records = _records(file)
    root = next(iter(records)).split("/", 1)[0]
    if f"{root}/constants.pkl" in records or any(name.startswith(f"{root}/code/") for name in records):
        raise UnsafeFile(f"{file.path.name} is a TorchScript archive: a program, not only weights",
                         next="save its state dict: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')")
    file.records = list(records.values())
    order = _small(file, records, f"{root}/byteorder", 16)
    if order not in (None, b"little"):
        raise UnsafeFile(f"{file.path.name} was written in {order!r} byte order; zooconv reads little-endian files")
    if _small(file, records, f"{root}/version", 64) is None and f"{root}/.data/version" not in records:
        raise UnsafeFile(f"{file.path.name} is a zip archive, but not one of torch: it has no version record")
    pickle = _small(file, records, f"{root}/data.pkl", MAX_PICKLE)
    if pickle is None:
        raise UnsafeFile(f"{file.path.name} is a zip archive, but not one of torch: it has no data.pkl")
    rebuild = Rebuilder(file, {name.removeprefix(f"{root}/data/"): record for name, record in records.items()
                               if name.startswith(f"{root}/data/")})
    return pickle_vm.load(pickle, call=rebuild.call, persistent=rebuild.storage)


# -- the container ---------------------------------------------------------------------------------------------------


def _records(file: InputFile) -> dict[str, Record]:
    """The archive's stored records by name, in the order in which they lie in the file.

    Local headers must agree with the directory, and the records must fill the file without overlap.
    """
    what = file.path.name
    try:
        with open(file.fd, "rb", closefd=False) as stream, zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
            begin = archive.start_dir
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, struct.error, NotImplementedError) as error:
        raise UnsafeFile(f"{what} is a damaged or truncated zip archive", why=[str(error)],
                         next="download it again") from None
    if not 0 < len(infos) <= MAX_RECORDS:
        raise UnsafeFile(f"{what} is a zip archive of {len(infos):,} records")
    records: dict[str, Record] = {}
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.filename in records:
            raise UnsafeFile(f"{what} holds the record {info.filename!r:.80} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise UnsafeFile(f"{what}: record {info.filename!r:.80} is compressed, which torch never writes",
                             next="save it once more with torch.save")
        if info.flag_bits & 1:
            raise UnsafeFile(f"{what}: record {info.filename!r:.80} is encrypted")
        if info.header_offset < end or (not records and info.header_offset != 0):
            raise UnsafeFile(f"{what}: its zip records overlap, or do not start at its first byte")
        offset = _data_offset(file, info)
        end = offset + info.file_size
        records[info.filename] = Record(info.filename, offset, info.file_size, info.CRC)
    if end > begin or file.read(file.size - 22, 4) != b"PK\5\6":
        raise UnsafeFile(f"{what}: its zip records run into the directory, or bytes follow the archive")
    roots = {name.split("/", 1)[0] if "/" in name else "" for name in records}
    if len(roots) != 1 or "" in roots or any(".." in name.split("/") or "\\" in name for name in records):
        raise UnsafeFile(f"{what} is a zip archive, but not one of torch: its records do not lie in one folder")
    return records


def _data_offset(file: InputFile, info: zipfile.ZipInfo) -> int:
    """Where a record's bytes start, from a local header that agrees with the directory."""
    header = file.read(info.header_offset, 30)
    signature, flags, method, name_size, extra_size = struct.unpack("<4s2xHH16xHH", header)
    name = file.read(info.header_offset + 30, name_size)
    if (signature != b"PK\3\4" or method != info.compress_type or flags & 1
            or name != info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437")):
        raise UnsafeFile(f"{file.path.name}: the local header of {info.filename!r:.80} contradicts the directory")
    return info.header_offset + 30 + int(name_size) + int(extra_size)


def _small(file: InputFile, records: dict[str, Record], name: str, limit: int) -> bytes | None:
    """A record that is no tensor, checked against its CRC."""
    record = records.get(name)
    if record is None:
        return None
    if record.size > limit:
        raise UnsafeFile(f"{file.path.name}: record {name!r} has {record.size:,} bytes; {limit:,} is the most")
    data = file.read(record.offset, record.size)
    if zlib.crc32(data) != record.crc:
        raise damaged(file, record)
    return data


# -- the pickle's calls ----------------------------------------------------------------------------------------------


class Rebuilder:
    """Interprets the persistent ids and calls by which torch pickles tensors; all others stay inert.

    `records` are the storages in `file`, by their keys.
    """

    def __init__(self, file: InputFile, records: Mapping[str, Record]) -> None:
        self.file, self.records = file, records
        self.storages: dict[str, Storage] = {}

    def storage(self, key: Any) -> Storage:
        """A persistent id `("storage", type, key, location, numel)`."""
        if not isinstance(key, tuple) or len(key) != 5 or key[0] != "storage" or not isinstance(key[2], str):
            raise UnsafeFile("a persistent id of the pickle is no storage")
        _, kind, name, _, count = key
        dtype = storage_dtype(name, kind)
        record = self.records.get(name)
        if record is None:
            raise UnsafeFile(f"storage {name!r:.40} is not in the file")
        whole(count)
        if record.size != count * DTYPES[dtype].size:
            raise UnsafeFile(f"storage {name!r:.40} is declared with {count:,} {dtype} elements, "
                             f"but has {record.size:,} bytes")
        found = self.storages.setdefault(name, Storage(dtype, self.file, record))
        if found.dtype != dtype:
            raise UnsafeFile(f"storage {name!r:.40} is declared both as {found.dtype} and as {dtype}")
        return found

    def call(self, call: Global, args: tuple[Any, ...]) -> Any:
        """torch's rebuild functions (torch/_utils.py), read as data."""
        match call.name:
            case "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor":
                flags = args[6] if len(args) > 6 and isinstance(args[6], dict) else {}
                bits = [bit for bit in ("conj", "neg") if flags.get(bit)]
                return Unsupported(f"a lazily {bits[0]}ugated tensor") if bits else self.view(args[0], None, *args[1:4])
            case "torch._utils._rebuild_tensor_v3":
                return self.view(args[0], args[6], *args[1:4])
            case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state":
                return args[0]
            case "torch._tensor._rebuild_from_type_v2":
                return self.typed(*args[:3])
            case "torch.Size":
                return tuple(args[0]) if args else ()
        if call.name.startswith(("torch._utils._rebuild_", "torch.Tensor", "torch._tensor.")):
            return Unsupported(f"a tensor of {call.name}")
        return pickle_vm.inert(call, args)

    def typed(self, function: Any, kind: Any, args: Any) -> Any:
        """A tensor of a Python subclass: only Tensor and Parameter are what their data say."""
        if isinstance(kind, Global) and kind.name in _PLAIN:
            return self.call(function, args)
        return Unsupported(f"a tensor of the subclass {kind!r:.60}")

    def view(self, storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any) -> LazyTensor:
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


def storage_dtype(name: str, kind: Any) -> str:
    """The element type of a storage's class. Raises UnsafeFile for one that zooconv does not carry."""
    dtype = _STORAGES.get(kind.name.rsplit(".", 1)[-1]) if isinstance(kind, Global) else None
    if dtype is None:
        raise UnsafeFile(f"storage {name!r:.40} is of type {kind!r:.60}, which zooconv does not carry")
    return dtype


def describe(value: Any) -> str:
    """A foreign value in a few words, for messages; nothing of it is run."""
    if isinstance(value, Instance):
        return f"a {value.call.name}"
    if isinstance(value, Unsupported):
        return value.why
    if isinstance(value, dict):
        return "a dict"
    return "nothing" if value is None else f"a {type(value).__name__}"
