"""What Detectron2, fvcore and torch say of a file, why they say it, and what mends it: one table for all who ask.

`zooconv doctor` looks up there what it foretells of a file, `zooconv doctor --error` what somebody was told, and
docs/detectron2/troubleshooting.md is made of it. The table is `causes.toml`.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("causes.toml")


class Cause(NamedTuple):
    """A message as it is met, the pattern by which it is known, its cause, and the command or act that mends it."""

    message: str
    pattern: str
    why: str
    mend: str


@cache
def causes() -> tuple[Cause, ...]:
    """The whole table."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["cause"]
    return tuple(Cause(**{key: " ".join(text.split()) for key, text in row.items()}) for row in rows)


def explain(message: str) -> Cause | None:
    """The cause of a message, which may be a whole traceback; None for one that is not known."""
    plain = " ".join(re.sub(r"\x1b\[[\d;]*m", "", message).split())
    return next((cause for cause in causes() if re.search(cause.pattern, plain)), None)
