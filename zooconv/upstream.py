"""Upstream packages as installed here: the modules that a conversion is held against."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from zooconv.errors import UsageError
from zooconv.mapping.family import Family
from zooconv.tensor import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn


class Upstream(Protocol):
    """A package's own implementation of a family; the family names it as `module:Class` in its `upstreams`.

    `package` is what pip installs and Python imports, `dialect` how its files name the tensors (`spelling`, where that
    depends on the member). `absent` says, for an output that `outputs` leaves out, why: what the reference backbone
    calls so is another thing here, by design. `toy` is the config that it is tried on where it cannot build the
    family's.
    """

    package: ClassVar[str]
    dialect: ClassVar[str]
    absent: ClassVar[Mapping[str, str]] = {}
    toy: ClassVar[Any] = None

    def build(self, config: Any, shapes: Mapping[str, Shape]) -> nn.Module:
        """The package's module for a config of the family, without a classifier.

        `shapes` are the tensors that it will be given, in its own names. Raises ValueError, saying why, for a config
        that the package cannot build.
        """

    def spelling(self, config: Any) -> str:
        """The dialect of the package's files of a member: mostly one for all."""
        return self.dialect

    def inside(self, name: str) -> str:
        """What the module calls a tensor that its files call `name`: mostly the same."""
        return name

    def follow(self, module: nn.Module, config: Any) -> None:
        """Make the module run as a member of this config, to which a layout's changes have led: without a part, say.

        Asked only for changes after which it is another function. Raises ValueError where the package's code cannot.
        """
        raise ValueError("it runs only with all that its weights have")

    def outputs(self, module: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """What the module makes of images (N, 3, H, W), under the reference backbone's names for it."""


def installed(family: Family[Any]) -> list[str]:
    """The names of a family's upstreams whose packages are here."""
    return [name for name in family.upstreams if find_spec(upstream(family, name).package)]


def upstream(family: Family[Any], name: str) -> Upstream:
    """A family's upstream by name. Raises UsageError, naming those that there are."""
    if name not in family.upstreams:
        known = ", ".join(family.upstreams) or "there is none to hold it against"
        raise UsageError(f"{family.title} cannot be held against {name!r}", why=[f"it can against: {known}"])
    found: Upstream = code(family.upstreams[name])()
    return found


def code(where: str) -> Any:
    """The object that `module:name` means."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def import_package(name: str) -> Any:
    """Import an upstream package. Raises UsageError, with the pip command, where that cannot be."""
    if find_spec(name) is None:
        raise UsageError(f"{name} is not installed", next=f"pip install {name}")
    try:
        _declare_torchvision_operators()
        return import_module(name)
    except Exception as error:
        raise UsageError(f"{name} is installed, but importing it fails",
                         why=[f"{type(error).__name__}: {error}".splitlines()[0][:200]],
                         next=f"pip install --force-reinstall {name}  (in versions that fit torch)") from error


@cache
def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []


def _declare_torchvision_operators() -> None:
    """Let torchvision be imported, and timm, which imports it, where its compiled operators do not load.

    A torchvision that was built for another torch fails at import, because it looks up two operators that no backbone
    uses. Declaring them is enough: https://github.com/pytorch/pytorch/issues/122494
    """
    import torch

    operators: Any = torch.ops
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _libraries or "torchvision" in sys.modules:
        return
    try:
        for compiled in Path(spec.origin).parent.glob("_C*.so"):
            operators.load_library(compiled)
    except OSError:
        pass
    if not hasattr(operators.torchvision, "nms"):
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in _OPERATORS:
            library.define(operator)
        _libraries.append(library)
