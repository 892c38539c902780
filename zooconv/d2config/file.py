"""A user's YAML config on disk: read, and its MODEL.WEIGHTS written; comments, order and the rest stay."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zooconv.atomic import write_text
from zooconv.errors import UsageError

if TYPE_CHECKING:
    from ruamel.yaml import YAML


def set_weights(path: Path, weights: str) -> None:
    """Write MODEL.WEIGHTS into a user's YAML config; comments, order and everything else stay.

    Raises UsageError where the file is no YAML mapping or cannot be written.
    """
    yaml, config = _read(path)
    model = config.setdefault("MODEL", {})
    if model.get("WEIGHTS") != weights:
        model["WEIGHTS"] = weights
        text = io.StringIO()
        yaml.dump(config, text)
        write_text(path, text.getvalue())


def read_config(path: Path, depth: int = 8) -> dict[str, Any]:
    """A user's YAML config as plain data, over those that it names as `_BASE_` where these are files that are there.

    Raises UsageError where it is no YAML config.
    """
    config = dict(_read(path)[1])
    base = config.pop("_BASE_", None)
    below = path.parent / str(base)
    return merged(read_config(below, depth - 1), config) if base and depth and below.is_file() else config


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; the second has the word where both have one."""
    both = {key: merged(first[key], value) if isinstance(value, Mapping) and isinstance(first.get(key), Mapping)
            else value for key, value in second.items()}
    return {**first, **both}


def check_config(path: Path) -> None:
    """Raise UsageError where `set_weights` would: a file that is no YAML config."""
    _read(path)


def _read(path: Path) -> tuple[YAML, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    try:
        config = yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the config {path}: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML", why=[str(error).splitlines()[0]]) from None
    if not isinstance(config, Mapping) or not isinstance(config.get("MODEL", {}), Mapping):
        raise UsageError(f"{path} is no Detectron2 config: a YAML mapping, with a mapping MODEL in it")
    return yaml, config
