"""Checkpoints of random weights, in the spelling of any dialect and in the upstreams' real containers.

The value of a tensor depends on its canonical name, its shape and a seed, and on nothing else: the same model has the
same weights in every dialect. They are uniform in [-1, 1) and exact in float32, so every machine makes the same bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Leaf, evaluate
from zooconv.mapping.family import Family
from zooconv.tensor import DTYPES, Shape, TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]


def random_array(name: str, shape: Shape, seed: int = 0) -> Array:
    """Random numbers of a name: uniform in [-1, 1), float32."""
    numbers = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
    return (numbers.random(math.prod(shape), np.float32) * 2 - 1).reshape(shape)


def random_weights(family: Family[Any], config: Any, seed: int = 0) -> Arrays:
    """Every canonical tensor of a config, random."""
    return {spec.name: random_tensor(spec, seed) for spec in family.tensors(config)}


def random_tensor(spec: TensorSpec, seed: int = 0) -> Array:
    """Random numbers of a tensor's name, floating or whole as it is."""
    return random_array(spec.name, spec.shape, seed) if DTYPES[spec.dtype].floating else _whole(spec, seed)


def lively_weights(family: Family[Any], config: Any, seed: int = 0) -> Arrays:
    """Random canonical tensors with which a module computes something of which every part is felt.

    Matrices keep the size of what passes through them; scales, variances and norms' weights lie near 1, where a layer
    scale of 1e-6 would hide its whole block; biases and means are small, and none is zero.
    """
    return {spec.name: _lively(spec, seed) for spec in family.tensors(config)}


def lively_weights_on_disk(family: Family[Any], config: Any, path: Path, seed: int = 0) -> Arrays:
    """The same, mapped from a file that is written for them, one after the other: none has to stay in memory."""
    sizes: dict[str, int] = {}
    specs = list(family.tensors(config))
    with path.open("wb") as file:
        for spec in specs:
            sizes[spec.name] = file.tell()
            file.write(_lively(spec, seed).tobytes())
    return {spec.name: np.memmap(path, DTYPES[spec.dtype].torch, "r", sizes[spec.name], spec.shape) for spec in specs}


def _whole(spec: TensorSpec, seed: int) -> Array:
    numbers = np.abs(random_array(spec.name, spec.shape, seed)) * 100
    return np.asarray(numbers, getattr(np, DTYPES[spec.dtype].torch.replace("bool", "bool_")))


def _lively(spec: TensorSpec, seed: int) -> Array:
    if not DTYPES[spec.dtype].floating:
        return _whole(spec, seed)
    name, shape = spec.name, spec.shape
    noise = random_array(name, shape, seed)
    if len([size for size in shape if size > 1]) >= 2:
        return noise * np.float32(math.sqrt(3 * shape[0] / math.prod(shape)))
    if name.endswith(("bias", "mean")):
        return np.asarray(noise * 0.1, np.float32)
    return np.asarray(1 + noise * (0.5 if name.endswith("var") else 0.1), np.float32)


def dtype_of(array: Array) -> str:
    """An array's element type, as zooconv spells it."""
    kind = array.dtype.name  # numpy works it out anew each time
    return next(name for name, dtype in DTYPES.items() if dtype.torch == kind)


def spelled(dialect: Dialect, canonical: Mapping[str, Array], prefix: str = "") -> Arrays:
    """Canonical tensors in a dialect's names and shapes, under second names as well where it has some."""
    leaves = {name: Leaf(array.shape, dtype_of(array), name) for name, array in canonical.items()}
    made = {name: evaluate(value, canonical.__getitem__)
            for name, value in dialect.from_canonical(leaves).made.items()}
    made |= {second: made[first] for second, first in dialect.second_names(made).items()}
    return {prefix + name: array for name, array in made.items()}


def save_pth(path: Path, tensors: Mapping[str, Array], wrapper: str | None = "model",
             **beside: Any) -> Path:
    """Write tensors with torch.save, under `wrapper`, with other things beside them."""
    import torch

    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    torch.save({wrapper: state, **beside} if wrapper else state, path)
    return path


def save_safetensors(path: Path, tensors: Mapping[str, Array]) -> Path:
    """Write tensors with the safetensors library, as timm does."""
    from safetensors.numpy import save_file

    save_file({name: np.require(array, requirements="C") for name, array in tensors.items()}, path, {"format": "pt"})
    return path
