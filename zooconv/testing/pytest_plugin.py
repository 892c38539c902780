"""The pytest plugin, active wherever zooconv is installed: fixtures, and a summary of what `assert_family` found.

It imports nothing but pytest until a test asks for something.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def local_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hub on this machine (`zooconv.testing.hub.LocalHub`), which zooconv and huggingface_hub are pointed at."""
    from zooconv.testing.hub import LocalHub

    with LocalHub() as hub:
        home = tmp_path_factory.mktemp("hf")
        for name, value in (("HF_ENDPOINT", hub.url), ("HF_HOME", str(home)), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")):
            monkeypatch.setenv(name, value)
        yield hub


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What held of each family, check by check."""
    conformance = sys.modules.get("zooconv.testing.conformance")
    for title, outcomes in (conformance.REPORTS.items() if conformance else ()):
        terminalreporter.section(f"zooconv: {title}", sep="-")
        for outcome in outcomes:
            why = f"  ({outcome.why.splitlines()[0]})" if outcome.why else ""
            terminalreporter.write_line(f"{outcome.status:<12}{outcome.title}{why}")
