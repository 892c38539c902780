"""Checkpoints in several files: an index that says which tensor lies in which file.

`model.safetensors.index.json` and `pytorch_model.bin.index.json`, as transformers and timm write them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from zooconv.errors import SourceUnavailable, UnsafeFile
from zooconv.files import InputFile

MAX_INDEX = 100_000_000


def read_index(file: InputFile) -> dict[str, str]:
    """Tensor name -> shard file name.

    Raises UnsafeFile where the index is malformed or names a file outside its own folder.
    """
    if file.size > MAX_INDEX:
        raise UnsafeFile(f"{file.path.name} has {file.size:,} bytes, too many for an index")
    try:
        table: Any = json.loads(file.read(0, file.size).decode("utf-8"))
        where = table["weight_map"]
        items = [(name, shard) for name, shard in where.items() if isinstance(shard, str)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise UnsafeFile(f"{file.path.name} is no index of a sharded checkpoint: it has no weight_map") from None
    if len(items) != len(where) or not items:
        raise UnsafeFile(f"{file.path.name}: its weight_map does not map names to files")
    for shard in {shard for _, shard in items}:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", shard):
            raise UnsafeFile(f"{file.path.name} names the shard {shard!r:.80}, which is no plain file name")
    return dict(items)


def shard_names(index: InputFile, where: dict[str, str]) -> list[str]:
    """The shards beside an index. Raises SourceUnavailable, naming every one that is missing."""
    names = sorted(set(where.values()))
    missing = [name for name in names if not index.has_beside(name)]
    if missing:
        raise SourceUnavailable(f"{len(missing)} of the {len(names)} shards of {index.path.name} are missing",
                                why=missing[:20], next=f"put them into {index.path.parent}")
    return names


def compare(index: str, where: dict[str, str], held: dict[str, set[str]]) -> None:
    """Every tensor where the index says it is, and nowhere else. Raises UnsafeFile, listing all that is not so."""
    odd = [f"{name}: the index says {shard}" for name, shard in where.items() if name not in held[shard]]
    odd += [f"{name}: in {shard}, but not in the index"
            for shard, names in held.items() for name in names if where.get(name) != shard]
    if odd:
        raise UnsafeFile(f"{index} contradicts its shards", why=sorted(odd)[:20], next="download all files again")
