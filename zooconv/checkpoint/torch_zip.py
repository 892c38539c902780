"""Reader of torch's zip checkpoints (`.pth`, `.pt`, `.bin` since torch 1.6): without torch, and nothing is run.

The archive holds one folder: `data.pkl`, a pickle whose tensors refer to storages, and `data/0`, `data/1` …, the
storages, stored uncompressed. Every promise of the file is checked before it is used: the zip's own geometry, the size
of every storage, the reach of every view. What torch.load would accept without a word (overlapping records, a
deflated storage under mmap, a wrong number of elements) is refused.

Format: torch/serialization.py and caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Any

from zooconv.checkpoint import pickle_vm
from zooconv.checkpoint.torch_tensor import Storages, rebuilt
from zooconv.errors import UnsafeFile
from zooconv.files import InputFile, Record, damaged

MAX_PICKLE = 256 << 20
MAX_RECORDS = 1_000_000


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
    storages = Storages(file, {name.removeprefix(f"{root}/data/"): record for name, record in records.items()
                               if name.startswith(f"{root}/data/")})
    return pickle_vm.load(pickle, call=rebuilt, persistent=storages.storage)


# -- the container ---------------------------------------------------------------------------------------------------


def _records(file: InputFile) -> dict[str, Record]:
    """The archive's stored records by name, in the order in which they lie in the file.

    Local headers must agree with the directory, and the records must fill the file without overlap.
    """
    what = file.path.name
    try:
        with file.stream() as stream, zipfile.ZipFile(stream) as archive:
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
    """Where a record's bytes start, from a local header that agrees with the directory.

    In a distant file, the local headers of tensors are not looked at: where these start is then a lower bound.
    """
    if file.distant and "/data/" in info.filename:
        return info.header_offset + 30 + len(info.filename)
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
