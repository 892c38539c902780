"""zooconv inside Detectron2: weights by address, and zooconv's backbones by name.

    DETECTRON2_ENV_MODULE=zooconv.detectron2 python tools/train_net.py … MODEL.WEIGHTS zoo://convnext_tiny_22k@maskdino

or `import zooconv.detectron2` anywhere before the model is built. Where Detectron2 is not installed, the addresses work
with iopath's global path manager, and with any other after `register(path_manager)`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from zooconv.detectron2.handler import register

if TYPE_CHECKING:
    from zooconv.detectron2.adapter import backbone as backbone
    from zooconv.detectron2.config import add_zooconv_config as add_zooconv_config

__all__ = ["add_zooconv_config", "backbone", "register", "setup_environment"]

_HOME = {"backbone": "zooconv.detectron2.adapter", "add_zooconv_config": "zooconv.detectron2.config"}


def setup_environment() -> None:
    """What Detectron2 calls while it is imported, where DETECTRON2_ENV_MODULE names this module. Once is enough."""
    from iopath.common.file_io import g_pathmgr

    register(g_pathmgr)
    spec = find_spec("detectron2")
    if spec and spec.origin:  # a mere folder of that name, such as a clone's, is a namespace package, without an origin
        connect: Any = import_module("zooconv.detectron2.connect")
        connect.connect()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


setup_environment()
