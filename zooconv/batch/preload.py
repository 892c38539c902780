"""What a fork server imports for all its workers. Nothing here may start a thread: it would not survive the fork."""

from __future__ import annotations

from importlib import import_module

from zooconv.plugins import families

for name in ("numpy", "zooconv.batch.task"):
    import_module(name)
families()
