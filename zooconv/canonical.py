"""One fingerprint for the same weights, whoever spelled them.

The canonical digest of a file is the tree digest of its backbone under canonical names: the same weights published by
timm, by transformers and by their authors have the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from zooconv.digest import TensorDigest, tree_digest
from zooconv.mapping.expr import Expr, Leaf, bytes_of, evaluate, leaves
from zooconv.reread import tensor_digests
from zooconv.tensor import LazyTensor, array_bytes


def canonical_digest(canonical: Mapping[str, Expr], tensors: Mapping[str, LazyTensor]) -> str:
    """The canonical digest of an open checkpoint; every tensor is read."""
    used = {leaf.name for value in canonical.values() for leaf in leaves(value)}
    known = leaf_digests(tensor_digests({name: tensors[name] for name in used}))
    return tree_digest(canonical_digests(canonical, tensors, known))


def canonical_digests(canonical: Mapping[str, Expr], tensors: Mapping[str, LazyTensor],
                      known: Mapping[Expr, str]) -> tuple[TensorDigest, ...]:
    """SHA-256 of every canonical tensor.

    `known` has the SHA-256 of expressions that were hashed already, up to their shape; the others are made from
    `tensors`, the source's.
    """
    return tuple(TensorDigest(name, value.dtype, value.shape,
                              known.get(bytes_of(value)) or expression_sha256(value, tensors))
                 for name, value in canonical.items())


def leaf_digests(digests: Iterable[TensorDigest]) -> dict[Expr, str]:
    """Digests of a file's tensors, as `canonical_digests` wants to know them."""
    return {Leaf(d.shape, d.dtype, d.name): d.sha256 for d in digests}


def expression_sha256(value: Expr, tensors: Mapping[str, LazyTensor]) -> str:
    """SHA-256 of an expression's value over a file's tensors."""
    return hashlib.sha256(array_bytes(evaluate(value, lambda name: tensors[name].array()))).hexdigest()
