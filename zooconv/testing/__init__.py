"""The test kit: what every family must satisfy, checkpoints of random weights, and a hub on this machine to serve them.

    from my_zoo import FAMILY
    from zooconv.testing import assert_family

    def test_my_family():
        assert_family(FAMILY)
"""

from __future__ import annotations

from typing import Any


def assert_family(family: Any) -> Any:
    """Check everything that a family must satisfy; see `zooconv.testing.conformance`. Raises AssertionError."""
    __tracebackhide__ = True
    from zooconv.testing.conformance import assert_family as check

    return check(family)
