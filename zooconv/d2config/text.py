"""A config as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def config_yaml(config: Mapping[str, Any], indent: str = "") -> str:
    """Nested mappings as YAML, lists in one line."""
    lines = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", config_yaml(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)
