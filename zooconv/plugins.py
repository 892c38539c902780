"""Plugins found, loaded one by one, and kept from harming each other.

Entry points of the group `zooconv` are loaded in the order of their names, the official zoo through the same door as
anyone's. A plugin that fails at import or in its hook is one warning line; the others work on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import pluggy

from zooconv import hookspecs, settings
from zooconv.errors import UsageError
from zooconv.mapping.family import Family, Layout


@dataclass
class Plugin:
    """One entry point: where it comes from, what it gave, or why it gave nothing."""

    name: str
    dist: str
    version: str
    families: list[Family[Any]] = field(default_factory=list)
    problem: str = ""


@cache
def plugins() -> tuple[Plugin, ...]:
    """Every installed plugin, loaded."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    disabled, taken = settings.disabled_plugins(), set[str]()
    entries = sorted(entry_points(group=hookspecs.PROJECT), key=lambda e: (e.name, e.value))
    return tuple(_load(manager, entry, taken) for entry in entries if entry.name not in disabled)


def families() -> tuple[Family[Any], ...]:
    """The families of all plugins that work."""
    return tuple(family for plugin in plugins() for family in plugin.families)


def family(name: str) -> Family[Any]:
    """The family of that name. Raises UsageError, naming those that there are."""
    for known in families():
        if known.name == name:
            return known
    names = ", ".join(f.name for f in families()) or "none is installed"
    raise UsageError(f"there is no family {name!r}", why=[f"families: {names}"], next="zooconv plugins")


def chosen_layout(family: Family[Any], name: str) -> Layout:
    """A family's layout by any of its names. Raises UsageError, naming those that there are."""
    if layout := family.layout(name):
        return layout
    import difflib

    near = difflib.get_close_matches(name, family.layout_names, 1)
    raise UsageError(f"{family.title} has no layout {name!r}", why=[f"layouts: {', '.join(family.layout_names)}"],
                     next=f"--layout {near[0]}" if near else f"zooconv layouts {family.name}")


def provider(family: Family[Any]) -> Plugin:
    """The plugin that a family came from."""
    return next(plugin for plugin in plugins() if any(f is family for f in plugin.families))


def _load(manager: pluggy.PluginManager, entry: EntryPoint, taken: set[str]) -> Plugin:
    plugin = Plugin(entry.name, *_distribution(entry.dist))
    try:
        module = entry.load()
        manager.register(module, entry.name)
        hooks = manager.get_hookcallers(module) or []
        if not hooks:
            raise TypeError("it implements no hook of zooconv")
        for caller in hooks:
            for impl in caller.get_hookimpls():
                if impl.plugin is module:
                    plugin.families.extend(_checked(impl.function(), taken))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit included, and it is not our end
        plugin.families = []
        plugin.problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        print(f"warning: plugin {entry.name} ({plugin.dist}) is left out: {plugin.problem}", file=sys.stderr)
    taken.update(f.name for f in plugin.families)
    return plugin


@cache
def _distribution(dist: Distribution | None) -> tuple[str, str]:
    """Name and version, of which each asking reads the metadata anew."""
    return (dist.name, dist.version) if dist else ("unknown", "0")


def _checked(given: Any, taken: set[str]) -> list[Family[Any]]:
    families = list(given)
    for item in families:
        if not isinstance(item, Family):
            raise TypeError(f"zooconv_families gave {type(item).__name__}, not a Family")
        if item.name in taken:
            raise ValueError(f"the family {item.name!r} is another plugin's already")
    return families
