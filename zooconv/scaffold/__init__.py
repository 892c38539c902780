"""A new plugin, working from the start: `zooconv plugins new NAME`. `plugins/example` is one, for VGG.

The files stand in `template/`, and hold `$name` (of the family and its package), `$word` (the same, as Python spells
it), `$module`, `$title` and `$about`. After a change there: `python -m zooconv.scaffold plugins/example`.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from zooconv.atomic import write_text
from zooconv.errors import UsageError

TEMPLATE = Path(__file__).with_name("template")
EXAMPLE = {"name": "vgg", "title": "VGG",
           "about": "VGG (Simonyan & Zisserman 2014, arXiv:1409.1556) for zooconv. Canonical names: torchvision's."}


def rendered(name: str, title: str = "", about: str = "") -> dict[str, str]:
    """The files of a plugin for the family `name`, by their paths in its folder.

    Raises UsageError for a name that packages and command lines cannot spell.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no name of a family", next="use lower-case letters, digits and . _ -")
    word = re.sub(r"[.-]", "_", name)
    words = {"name": name, "word": word, "module": f"zooconv_{word}", "title": title or name,
             "about": about or f"{title or name} for zooconv. It starts as VGG, as torchvision has it; make it yours."}
    places = {"module.py": f"zooconv_{word}.py", "test.py": f"tests/test_{word}.py"}
    return {places.get(path.stem, path.stem): Template(path.read_text(encoding="utf-8")).substitute(words)
            for path in sorted(TEMPLATE.glob("*.txt"))}


def write_plugin(folder: Path, files: dict[str, str]) -> list[Path]:
    """Write a plugin's files into a folder that is not there yet. Raises UsageError where it is, or cannot be made."""
    try:
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} exists", next="name another folder with --into") from None
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}") from None
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]
