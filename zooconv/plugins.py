"""Plugins found, loaded one by one, and kept from harming each other.

Entry points of the group `zooconv` are loaded in the order of their names, the official zoo through the same door as
anyone's. A plugin that fails at import or in its hook is one warning line; the others work on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zooconv import settings
from zooconv.errors import UsageError

if TYPE_CHECKING:
    import pluggy

    from zooconv.engine import Engine
    from zooconv.mapping.family import Family, Layout

T = TypeVar("T", "Family[Any]", "Engine")


@dataclass
class Plugin:
    """One entry point: where it comes from, what it gave, or why it gave nothing."""

    name: str
    dist: str
    version: str
    families: list[Family[Any]] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)
    problem: str = ""


@cache
def plugins() -> tuple[Plugin, ...]:
    """Every installed plugin, loaded."""
    import pluggy

    from zooconv import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    taken = set[tuple[type, str]]()
    return tuple(_load(manager, entry, taken) for entry in _entries())


def folders() -> Iterator[tuple[str, Path]]:
    """The folder of each plugin that is a package, found without importing it; one that is not there has none."""
    for entry in _entries():
        with suppress(Exception, SystemExit):  # of a package around it; loading the plugin tells of it
            spec = find_spec(entry.module)
            if spec and spec.submodule_search_locations:
                yield entry.name, Path(spec.submodule_search_locations[0])


def _entries() -> list[EntryPoint]:
    disabled = settings.disabled_plugins()
    entries = sorted(entry_points(group="zooconv"), key=lambda entry: (entry.name, entry.value))
    return [entry for entry in entries if entry.name not in disabled]


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


def engine(name: str) -> Engine:
    """The engine of that name. Raises UsageError, naming those that there are."""
    known = {engine.name: engine for plugin in plugins() for engine in plugin.engines}
    if name not in known:
        raise UsageError(f"there is no engine {name!r}", why=[f"engines: {', '.join(known)}"],
                         next="--engine local")
    return known[name]


def chosen_layout(family: Family[Any], name: str) -> Layout:
    """A family's layout by any of its names. Raises UsageError, naming those that there are."""
    for layout in all_layouts(family):
        if name in layout.names:
            return layout
    upstreams = [dialect.name for dialect in family.dialects]
    raise _no_such(family, "layout", name, layout_names(family), f"--to {name}" if name in upstreams else "")


def chosen_naming(family: Family[Any], name: str) -> Layout:
    """Files in an upstream's own names, as a target. Raises UsageError, naming those that there are."""
    from zooconv.mapping.family import Layout

    for dialect in family.dialects:
        if dialect.name == name:
            return Layout.of(dialect)
    raise _no_such(family, "upstream", name, [dialect.name for dialect in family.dialects],
                   f"--layout {name}" if name in layout_names(family) else "")


def chosen_target(family: Family[Any], name: str) -> Layout:
    """What a record's target means: a layout, else files in an upstream's names. Raises UsageError."""
    layouts = [layout for layout in all_layouts(family) if name in layout.names]
    return layouts[0] if layouts else chosen_naming(family, name)


def _no_such(family: Family[Any], what: str, name: str, known: list[str], next_: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    flag = {"layout": "--layout", "upstream": "--to"}[what]
    return UsageError(f"{family.title} has no {what} {name!r}", why=[f"{what}s: {', '.join(known)}"],
                      next=next_ or (f"{flag} {near[0]}" if near else f"zooconv layouts {family.name}"))


def all_layouts(family: Family[Any]) -> tuple[Layout, ...]:
    """A family's layouts: its authors', and those of its reference module."""
    from zooconv.reference import reference_layouts

    return (*family.layouts, *reference_layouts(family))


def layout_names(family: Family[Any]) -> list[str]:
    """All names of all of a family's layouts."""
    return [name for layout in all_layouts(family) for name in layout.names]


def layouts_for(family: Family[Any], config: Any) -> tuple[str, ...]:
    """The layouts that can hold a member of this config, by all their names."""
    return tuple(name for layout in all_layouts(family) if not layout.refusal(layout.after(config))
                 for name in layout.names)


def provider(family: Family[Any]) -> Plugin:
    """The plugin that a family came from."""
    return next(plugin for plugin in plugins() if any(f.name == family.name for f in plugin.families))


def _load(manager: pluggy.PluginManager, entry: EntryPoint, taken: set[tuple[type, str]]) -> Plugin:
    from zooconv.engine import Engine
    from zooconv.mapping.family import Family

    plugin = Plugin(entry.name, *_distribution(entry.dist))
    try:
        module = entry.load()
        manager.register(module, entry.name)
        hooks = manager.get_hookcallers(module) or []
        if not hooks:
            raise TypeError("it implements no hook of zooconv")
        for caller in hooks:
            for impl in caller.get_hookimpls():
                if impl.plugin is module and caller.name == "zooconv_engines":
                    plugin.engines.extend(_checked(impl.function(), Engine, taken))
                elif impl.plugin is module:
                    plugin.families.extend(_checked(impl.function(), Family, taken))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit included, and it is not our end
        plugin.families, plugin.engines = [], []
        plugin.problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        print(f"warning: plugin {entry.name} ({plugin.dist}) is left out: {plugin.problem}", file=sys.stderr)
    taken.update((Family, item.name) for item in plugin.families)
    taken.update((Engine, item.name) for item in plugin.engines)
    return plugin


@cache
def _distribution(dist: Distribution | None) -> tuple[str, str]:
    """Name and version, of which each asking reads the metadata anew."""
    return (dist.name, dist.version) if dist else ("unknown", "0")


def _checked(given: Any, kind: type[T], taken: set[tuple[type, str]]) -> list[T]:
    items: list[Any] = list(given)
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    for item in items:
        if not isinstance(item, kind):
            raise TypeError(f"its hook gave {type(item).__name__}, not {article} {kind.__name__}")
        if (kind, item.name) in taken:
            raise ValueError(f"the {kind.__name__.lower()} {item.name!r} is another plugin's already")
    return items
