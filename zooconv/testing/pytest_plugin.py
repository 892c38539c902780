"""The pytest plugin, active wherever zooconv is installed: fixtures, and a summary of what `assert_family` found.

It imports nothing but pytest until a test asks for something.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def local_hub() -> Iterator[Any]:
    """An empty hub on this machine, a `zooconv.testing.hub.LocalHub`."""
    from zooconv.testing.hub import LocalHub

    with LocalHub() as hub:
        yield hub


@pytest.fixture
def hub_client(local_hub: Any, tmp_path: Path) -> Any:
    """The real client of that hub, with a cache of its own: `fetch_convert("someone/mynet", hub=hub_client)`."""
    from zooconv.hub import Hub

    return Hub(local_hub.url, tmp_path / "hub-cache")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What held of each family, check by check."""
    conformance = sys.modules.get("zooconv.testing.conformance")
    for title, outcomes in (conformance.REPORTS.items() if conformance else ()):
        terminalreporter.section(f"zooconv: {title}", sep="-")
        for outcome in outcomes:
            why = f"  ({outcome.why.splitlines()[0]})" if outcome.why else ""
            terminalreporter.write_line(f"{outcome.status:<12}{outcome.title}{why}")
