"""What a plugin may add. Hooks yield data; nothing is done at import.

    # my_zoo.py, with the entry point  [project.entry-points.zooconv]  my_zoo = "my_zoo"
    from zooconv import Family, hookimpl

    FAMILY = Family(name="tinynet", ...)

    @hookimpl
    def zooconv_families():
        yield FAMILY
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from zooconv.engine import Engine
from zooconv.mapping.family import Family

PROJECT = "zooconv"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def zooconv_families() -> Iterable[Family[Any]]:
    """Yield the backbone families that this plugin knows: their names, dialects, layouts and zoo.

    Called once a process, when somebody first asks for a family. Importing the plugin and calling this hook must
    cost milliseconds: no torch, no numpy, no file read but the family's own tables.
    """
    raise NotImplementedError


@hookspec
def zooconv_engines() -> Iterable[Engine]:
    """Yield the ways of running a batch that this plugin knows, for `zooconv batch --engine NAME`.

    The same costs: nothing is imported or started before an engine is asked for.
    """
    raise NotImplementedError
