"""The failures that zooconv understands, and the exit code of each.

Every message says what happened, why, and what to type next. A known failure never shows a traceback;
an unknown one always does, because it is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["AuthRequired", "CheckFailed", "SourceUnavailable", "UnsafeFile", "UsageError", "WrongBytes", "ZooError"]


class ZooError(Exception):
    """A failure with a cause and a way out.

    `what` is one sentence; `why` holds further lines, one fact each; `next` is the command or the act that helps.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: Iterable[str] = (), next: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next = what, tuple(why), next

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {line}" for line in self.why)])


class CheckFailed(ZooError):
    """A check said no: the tensors, the written file, or an artifact on disk are not what they must be."""

    exit_code = 1


class UsageError(ZooError):
    """What was typed, or where it points, cannot be acted upon."""

    exit_code = 2


class SourceUnavailable(ZooError):
    """The source cannot be had: unknown on the hub, offline, or broken on the way."""

    exit_code = 3


class WrongBytes(SourceUnavailable):
    """What arrived is not what was promised: no other place is asked, since this is no matter of being there."""


class AuthRequired(ZooError):
    """The source exists, but not for this user: gated, private, or a bad token."""

    exit_code = 4


class UnsafeFile(ZooError):
    """A file that zooconv refuses to read: malformed, damaged, or asking for code to be run."""

    exit_code = 5
