"""`zoo://` for iopath, whose path managers Detectron2 and fvcore load checkpoints through.

Contract: iopath/common/file_io.py, class PathHandler. Every rank of a training asks for itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from iopath.common.file_io import PathHandler, PathManager

from zooconv.address import SCHEME, parse
from zooconv.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zooconv.hub import Hub


class ZooHandler(PathHandler):  # type: ignore[misc]  # iopath has no types
    """Addresses `zoo://NAME[@LAYOUT][,option…]` as files: see `zooconv.address`, and `zooconv.artifacts` for where.

    They come from `hub`, by default the public one.
    """

    def __init__(self, hub: Hub | None = None) -> None:
        super().__init__()
        self._hub = hub

    def _get_supported_prefixes(self) -> list[str]:
        return [SCHEME]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        from zooconv.artifacts import artifact

        try:
            return str(artifact(parse(without_query(path)), force=force, hub=self._hub))
        except ZooError as error:
            raise type(error)(_told(path, error)) from None
        except TypeError as error:  # at a TypeError, a path manager would ask again, without `force`
            raise RuntimeError(f"{path}: {error}") from error

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if set(mode) - set("rbt"):
            raise UsageError(f"{path} cannot be written to: it is what zooconv makes of a published model")
        return Path(self._get_local_path(path)).open(mode, buffering, **kwargs)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        """Does the address name something that can be made? The hub is not asked."""
        from zooconv.names import resolve
        from zooconv.zoo import zoo

        try:
            resolve(parse(without_query(path)).model, zoo())
        except ZooError:
            return False
        return True

    _exists = _isfile

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        return False


def register(path_manager: PathManager, *, hub: Hub | None = None) -> None:
    """Let a path manager of iopath understand `zoo://` addresses, of models on `hub`. Done twice, it is done once."""
    handlers = getattr(path_manager, "_path_handlers", {})
    if hub or not isinstance(handlers.get(SCHEME), ZooHandler):  # the global one warns of what is registered again
        path_manager.register_handler(ZooHandler(hub))


def without_query(path: str) -> str:
    """The address, without the one query that Detectron2 itself understands. Raises UsageError for any other."""
    address, _, query = path.partition("?")
    if query not in ("", "matching_heuristics=True"):
        raise UsageError(f"{path} has a query that Detectron2 does not know: {query}",
                         why=["the one that it knows is matching_heuristics=True"],
                         next=f"{address}@LAYOUT,option=value  (options stand in the address)")
    return address


def _told(path: str, error: ZooError) -> str:
    """What, why and next, in the one text that a traceback ends with."""
    lines = [error.what, *(f"  {line}" for line in error.why), *([f"next: {error.next}"] if error.next else [])]
    return f"{path}: " * (path not in error.what) + "\n".join(lines)
