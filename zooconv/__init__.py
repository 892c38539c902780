"""zooconv: published backbone weights into the exact file that a Detectron2 project loads, proved on the way.

    import zooconv

    zooconv.fetch_convert("convnext_tiny_22k", layout="maskdino")
    zooconv.convert("convnext_tiny_22k_1k_224.pth")
    zooconv.inspect("model.safetensors")

Names are imported when they are first used, so that `import zooconv` and every plugin cost milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "zooconv.errors": ["AuthRequired", "CheckFailed", "SourceUnavailable", "UnsafeFile", "UsageError", "ZooError"],
    "zooconv.tensor": ["TensorSpec"],
    "zooconv.hookspecs": ["hookimpl"],
    "zooconv.mapping.family": ["Derived", "Family", "Fresh", "Layout", "Refusal", "Shapes"],
    "zooconv.mapping.change": ["ROUNDED", "Change", "fold_scale", "resample", "resample_grid", "turn_colours"],
    "zooconv.mapping.flat": ["Flat"],
    "zooconv.mapping.lazy": ["Call", "LazyBackbone", "Named"],
    "zooconv.mapping.requires": ["Pitfall", "Requires"],
    "zooconv.mapping.dialect": ["Dialect", "Files"],
    "zooconv.mapping.rules": ["Drop", "Rule", "compute", "drop", "keep", "merge", "rename", "same_as", "split",
                              "together"],
    "zooconv.mapping.ops": ["Op", "around_zeros", "cat", "chain", "constants", "cut", "flatten", "grid", "group_order",
                            "identity", "linear", "permute", "reshape", "square", "transpose", "unfold_order"],
    "zooconv.checkpoint.open": ["open_checkpoint"],
    "zooconv.options": ["Options"],
    "zooconv.upstream": ["Upstream", "import_package"],
    "zooconv.engine": ["Crew", "Engine", "Pool"],
    "zooconv.batch.run": ["convert_many"],
    "zooconv.pipeline": ["convert", "fetch", "fetch_convert", "inspect"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_MODULE, "__version__"]  # noqa: PLE0604 (names, all of them)

if TYPE_CHECKING:
    from zooconv.batch.run import convert_many as convert_many
    from zooconv.checkpoint.open import open_checkpoint as open_checkpoint
    from zooconv.engine import Crew as Crew
    from zooconv.engine import Engine as Engine
    from zooconv.engine import Pool as Pool
    from zooconv.errors import AuthRequired as AuthRequired
    from zooconv.errors import CheckFailed as CheckFailed
    from zooconv.errors import SourceUnavailable as SourceUnavailable
    from zooconv.errors import UnsafeFile as UnsafeFile
    from zooconv.errors import UsageError as UsageError
    from zooconv.errors import ZooError as ZooError
    from zooconv.hookspecs import hookimpl as hookimpl
    from zooconv.mapping.change import ROUNDED as ROUNDED
    from zooconv.mapping.change import Change as Change
    from zooconv.mapping.change import fold_scale as fold_scale
    from zooconv.mapping.change import resample as resample
    from zooconv.mapping.change import resample_grid as resample_grid
    from zooconv.mapping.change import turn_colours as turn_colours
    from zooconv.mapping.dialect import Dialect as Dialect
    from zooconv.mapping.dialect import Files as Files
    from zooconv.mapping.family import Derived as Derived
    from zooconv.mapping.family import Family as Family
    from zooconv.mapping.family import Fresh as Fresh
    from zooconv.mapping.family import Layout as Layout
    from zooconv.mapping.family import Refusal as Refusal
    from zooconv.mapping.family import Shapes as Shapes
    from zooconv.mapping.flat import Flat as Flat
    from zooconv.mapping.lazy import Call as Call
    from zooconv.mapping.lazy import LazyBackbone as LazyBackbone
    from zooconv.mapping.lazy import Named as Named
    from zooconv.mapping.ops import Op as Op
    from zooconv.mapping.ops import around_zeros as around_zeros
    from zooconv.mapping.ops import cat as cat
    from zooconv.mapping.ops import chain as chain
    from zooconv.mapping.ops import constants as constants
    from zooconv.mapping.ops import cut as cut
    from zooconv.mapping.ops import flatten as flatten
    from zooconv.mapping.ops import grid as grid
    from zooconv.mapping.ops import group_order as group_order
    from zooconv.mapping.ops import identity as identity
    from zooconv.mapping.ops import linear as linear
    from zooconv.mapping.ops import permute as permute
    from zooconv.mapping.ops import reshape as reshape
    from zooconv.mapping.ops import square as square
    from zooconv.mapping.ops import transpose as transpose
    from zooconv.mapping.ops import unfold_order as unfold_order
    from zooconv.mapping.requires import Pitfall as Pitfall
    from zooconv.mapping.requires import Requires as Requires
    from zooconv.mapping.rules import Drop as Drop
    from zooconv.mapping.rules import Rule as Rule
    from zooconv.mapping.rules import compute as compute
    from zooconv.mapping.rules import drop as drop
    from zooconv.mapping.rules import keep as keep
    from zooconv.mapping.rules import merge as merge
    from zooconv.mapping.rules import rename as rename
    from zooconv.mapping.rules import same_as as same_as
    from zooconv.mapping.rules import split as split
    from zooconv.mapping.rules import together as together
    from zooconv.options import Options as Options
    from zooconv.pipeline import convert as convert
    from zooconv.pipeline import fetch as fetch
    from zooconv.pipeline import fetch_convert as fetch_convert
    from zooconv.pipeline import inspect as inspect
    from zooconv.tensor import TensorSpec as TensorSpec
    from zooconv.upstream import Upstream as Upstream
    from zooconv.upstream import import_package as import_package


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
