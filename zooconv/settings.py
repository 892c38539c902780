"""What the environment decides. Everything about the hub is the hub client's own: HF_HOME, HF_TOKEN, HF_ENDPOINT …"""

from __future__ import annotations

import os
from pathlib import Path

REGISTRY = "ZOOCONV_REGISTRY"
DISABLE_PLUGINS = "ZOOCONV_DISABLE_PLUGINS"
DEBUG = "ZOOCONV_DEBUG"
CACHE = "ZOOCONV_CACHE"


def registry_path() -> Path | None:
    """The registry that `$ZOOCONV_REGISTRY` names, if it does."""
    value = os.environ.get(REGISTRY)
    return Path(value) if value else None


def disabled_plugins() -> frozenset[str]:
    """Plugins that `$ZOOCONV_DISABLE_PLUGINS` shuts out, by entry-point name, comma-separated."""
    return frozenset(filter(None, os.environ.get(DISABLE_PLUGINS, "").replace(" ", "").split(",")))


def cache_path() -> Path:
    """What zooconv itself keeps between runs: `$ZOOCONV_CACHE`, else `~/.cache/zooconv` (XDG_CACHE_HOME)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(os.environ.get(CACHE) or Path(home) / "zooconv")


def debug() -> bool:
    """Show a traceback for known errors too?"""
    return os.environ.get(DEBUG, "") not in ("", "0")
