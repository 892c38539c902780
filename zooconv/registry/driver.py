"""git merges registries artifact by artifact: the driver that it calls, and what makes it call it.

gitattributes(5) names a driver for a file, git-config(1) says how it is run: with the ancestor's file, ours and theirs,
in temporary files, of which the second receives the result; an exit code of 1 says that there are conflicts in it. It
serves merge, rebase, cherry-pick, revert and stash alike. Neighbouring lines that two branches add are a conflict to
git itself, and `merge=union` writes what is no JSON.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from zooconv.atomic import write_text
from zooconv.errors import UsageError
from zooconv.registry.file import Registry, framed, line
from zooconv.registry.merge import Conflict, Records, three_way

DRIVER = "zooconv-registry"


def merge_files(base: Path, ours: Path, theirs: Path) -> list[Conflict]:
    """Merge what git has put into three files into the second; what is in conflict stands there between git's marks.

    Raises UsageError, and leaves all as it is, where one of them is no registry.
    """
    sides = [_records(path) for path in (base, ours, theirs)]
    merged, conflicts = three_way(*sides)
    write_text(ours, _text(merged, conflicts) if conflicts else Registry(ours, merged).text())
    return conflicts


def _records(path: Path) -> Records:
    if path.exists() and not path.stat().st_size:  # git's ancestor of a file that both sides have added
        return {}
    return Registry.read(path).records


def _text(merged: Records, conflicts: list[Conflict]) -> str:
    """A registry with marks, that is one again when either side of all of them is deleted.

    Conflicts that have but one side come first, so that no comma is left behind the last line; where there is nothing
    else, all stand between one pair of marks.
    """
    half = {c.name for c in conflicts if c.ours is None or c.theirs is None}
    if len(half) == len(conflicts) and not merged:
        return framed(_marked(*(",\n".join(line(c.name, side) for c, side in pairs if side is not None) for pairs in (
            [(c, c.ours) for c in conflicts], [(c, c.theirs) for c in conflicts])), ""))
    lines = {name: (line(name, record),) for name, record in merged.items()} | {
        c.name: tuple(line(c.name, side) if side else "" for side in (c.ours, c.theirs)) for c in conflicts}
    names = sorted(lines, key=lambda name: (name not in half, name))
    return framed("\n".join(_marked(*lines[name], "," if names[i + 1:] else "") for i, name in enumerate(names)))


def _marked(*parts: str) -> str:
    """A line that is settled, or the two of a conflict between marks; the last argument is the comma after each."""
    *sides, comma = parts
    if len(sides) == 1:
        return sides[0] + comma
    ours, theirs = (f"{side}{comma}\n" if side else "" for side in sides)
    return f"<<<<<<< ours\n{ours}=======\n{theirs}>>>>>>> theirs"


# -- git's settings ----------------------------------------------------------------------------------------------------


def install(registry: Path) -> list[str]:
    """Have git merge this registry with the driver, in this clone and, by `.gitattributes`, in every other that has it.

    What was done, a line each. Raises UsageError where there is no git or no repository.
    """
    command = f"{shlex.quote(sys.executable)} -m zooconv registry merge-driver %O %A %B"
    _git(registry, "config", "--local", f"merge.{DRIVER}.name", "zooconv: registries, artifact by artifact")
    _git(registry, "config", "--local", f"merge.{DRIVER}.driver", command)
    attributes, lines = _attributes(registry)
    done = [f"git config merge.{DRIVER}.driver: {command}"]
    if _attribute(registry) in lines:
        return [*done, f"{attributes} has it already: {_attribute(registry)}"]
    write_text(attributes, "".join(f"{text}\n" for text in [*lines, _attribute(registry)]))
    return [*done, f"{attributes}: {_attribute(registry)}"]


def uninstall(registry: Path) -> list[str]:
    """Take back what `install` did; what was done, a line each. Raises UsageError likewise."""
    done = []
    if _git(registry, "config", "--local", "--get-regexp", rf"^merge\.{DRIVER}\.", check=False):
        _git(registry, "config", "--local", "--remove-section", f"merge.{DRIVER}")
        done.append(f"git config: no section merge.{DRIVER} any more")
    attributes, lines = _attributes(registry)
    left = [text for text in lines if text != _attribute(registry)]
    if left != lines:
        if left:
            write_text(attributes, "".join(f"{text}\n" for text in left))
        else:
            attributes.unlink()
        done.append(f"{attributes}: {_attribute(registry)} taken out")
    return done


def _attribute(registry: Path) -> str:
    return f"/{registry.name} merge={DRIVER}"


def _attributes(registry: Path) -> tuple[Path, list[str]]:
    """The `.gitattributes` beside the registry, and its lines."""
    path = registry.resolve().parent / ".gitattributes"
    return path, path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _git(registry: Path, *arguments: str, check: bool = True) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=registry.resolve().parent,  # noqa: S603, S607 - the user's own git
                              capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        if error.filename != "git":
            raise UsageError(f"there is no folder {registry.resolve().parent}") from None
        raise UsageError("git is not installed, or not on the PATH") from None
    if done.returncode and check:
        raise UsageError(f"git does not do it: {done.stderr.strip() or arguments[0]}",
                         why=[f"in {registry.resolve().parent}"], next="git init, or name a registry of a repository")
    return done.stdout
