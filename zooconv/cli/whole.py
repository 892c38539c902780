"""The command line with all its verbs, for tools that look for an app: the documentation is made of it."""

from __future__ import annotations

from zooconv.cli.app import wired

app = wired()
