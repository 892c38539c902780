"""The zoo: the models that a user may ask for by name, each with its source, licence and preprocessing.

A family's models stand in the folder of its plugin, which is a package, as two files. `models.tsv` (or, where it is
very long, `models.tsv.gz`) has a line a model: its columns are named by the first line and separated by tabs, and an
empty cell is a default.

    name               variant  repo                        mb   input  aliases
    convnext_tiny_22k  tiny     timm/convnext_tiny.fb_in22k 178         convnext_tiny_22k_224

`zoo.toml` says what they have in common:

    family = "convnext"

    [defaults]                       # what a model is when its line does not say
    license = "apache-2.0"
    input = 224
    pixels = "imagenet"

    [pixels]                         # normalisation, on the scale 0..1
    imagenet = { mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }

    [refused]                        # names that people type, and why there is no such artifact
    "convnext_*_ols.*" = "its stem is two overlapping 3x3 convolutions …"

The columns are the fields of `Model`, with `pixels` for mean and std; several values of a cell are separated by spaces.

A model's artifacts are called after its `name`; it answers to its `aliases` and its `repo`, too. A model that is one
file of many in a repository names it (`files`: `folder/model.pt`), and answers to `owner/repo:folder/model.pt`. A
`note` says what a user of its weights should mind. A model without a `repo` is listed, and its note says why it cannot
be fetched.

A model that is on no hub has a `url` in place of its `repo`. Where other places have the very same file, its line names
them as `mirrors`, each an https address or `owner/repo[@revision][:file]`, to be tried in turn where it is unavailable.
Nothing there vouches for the bytes, so either needs `sha256`, or a name that has its first digits
(`resnet50-0676ba61.pth`).

Where a family that stands for many architectures (`Family.members`) has a model that another family knows, too, that
one keeps it: under all its names it is that family's, which is told what else it can become. Its `zoo.toml` says
`yields = true`.

Both are read without importing the plugin: to list the names of all families costs no more than to read them.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from zooconv.digest import digest_in
from zooconv.plugins import families, folders, layouts_for

# Owner and repository as the hub allows them: https://huggingface.co/docs/hub/repositories-settings
PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
HUB = re.compile(rf"({PART}/{PART})(?:@([^:@\s]+))?(?::([^:@\s]+))?", re.ASCII)


class Known(NamedTuple):
    """What a model is to a family."""

    family: str
    variant: str


def is_place(text: str) -> bool:
    """Is this where a mirror can be: an https address, or a repository?"""
    return text.startswith("https://") or bool(HUB.fullmatch(text))


@dataclass(frozen=True, slots=True)
class Model:
    """A pretrained model that the zoo knows by name.

    `also` is what it is to a family that stands for many architectures, beside its own. `alone`: other families have
    said that they cannot hold it, and must not read its file, in which they may see nothing strange.
    """

    name: str
    family: str
    variant: str
    repo: str
    license: str
    mb: int
    input: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    aliases: tuple[str, ...] = ()
    note: str = ""
    revision: str = "main"
    files: tuple[str, ...] = ()
    url: str = ""
    mirrors: tuple[str, ...] = ()
    sha256: str = ""
    also: Known | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        if (self.url or self.mirrors) and not self.promised:
            raise ValueError(f"{self.name}: nothing says what its bytes are: sha256 is missing")
        wrong = [text for text in self.mirrors if not is_place(text)]
        if wrong or (self.url and not self.url.startswith("https://")):
            raise ValueError(f"{self.name}: {(wrong or [self.url])[0]} is neither https:// nor owner/repo")

    @property
    def promised(self) -> str:
        """Its file's SHA-256, or the first digits, as far as anything but a hub says them."""
        return self.sha256 or digest_in(self.url) or ""

    @property
    def place(self) -> str:
        """Where it is, as a link, if it can be fetched."""
        return self.url or (f"https://huggingface.co/{self.repo}" if self.repo else "")

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that this model answers to: with `files`, its repository has other models, too."""
        address = tuple(f"{self.repo}:{file}" for file in self.files) or tuple(filter(None, [self.url or self.repo]))
        return (self.name, *self.aliases, *address)

    @property
    def known(self) -> tuple[Known, ...]:
        """What it is to its own family, and to one that stands for many architectures."""
        return (Known(self.family, self.variant), *([self.also] if self.also else []))

    @property
    def layouts(self) -> tuple[str, ...]:
        """All that its file can become, as far as its architecture is known."""
        return tuple(dict.fromkeys(name for one in self.known for name in _layouts(*one)))


@cache
def _layouts(name: str, variant: str) -> tuple[str, ...]:
    return next((layouts_for(one, one.variants[variant]) for one in families() if one.name == name), ())


@dataclass(frozen=True)
class Zoo:
    """All models of all families, and the patterns of names that are refused, with the reason."""

    models: tuple[Model, ...]
    refused: dict[str, str]

    @cached_property
    def _names(self) -> dict[str, Model]:
        return {name: model for model in self.models for name in model.names}

    def find(self, name: str) -> Model | None:
        """The model of that name. One that other families refuse has it alone, and says why."""
        model = self._names.get(name)
        if model is None or (why := self.refusal(model.name)) is None:
            return model
        note = "; ".join(filter(None, [model.note, f"other layouts do not hold it: {why}"]))
        return replace(model, note=note, alone=True)

    def matching(self, glob: str) -> list[Model]:
        """The models that a shell pattern names, by any of their names."""
        if glob == "*":
            return list(self.models)
        fits = re.compile(fnmatch.translate(glob)).match
        return [m for m in self.models if any(map(fits, m.names))]

    def refusal(self, name: str) -> str | None:
        """Why there is no artifact of that name, if somebody has said so."""
        return next((why for glob, why in self.refused.items() if fnmatch.fnmatchcase(name, glob)), None)


class Table(NamedTuple):
    """What a plugin's `zoo.toml` and the lines beside it say. One that `yields` leaves others what they have, too."""

    family: str
    yields: bool
    models: tuple[Model, ...]
    refused: dict[str, str]


def tables() -> tuple[Table, ...]:
    """The tables of all plugins that have one. A malformed one is one warning line."""
    read = []
    for name, folder in folders():
        try:
            if (folder / "zoo.toml").exists():
                read.append(read_table(folder))
        except (OSError, ValueError, KeyError, TypeError) as error:
            _leave_out(name, error)
    return tuple(read)


def _leave_out(name: str, error: Exception) -> None:
    print(f"warning: the models of {name} are left out: {error}", file=sys.stderr)


@cache
def zoo() -> Zoo:
    """The models of all plugins. A table that has another's names is one warning line."""
    models: dict[str, Model] = {}
    refused: dict[str, str] = {}
    owners: dict[str, str] = {}
    for table in sorted(tables(), key=lambda table: table.yields):
        left = _left(table.models, models, owners) if table.yields else table.models
        names = [(name, model.name) for model in left for name in model.names]
        if twice := [name for name, _ in names if name in owners]:
            _leave_out(table.family, ValueError(f"{twice[0]!r} is a name of {owners[twice[0]]}, too"))
            continue
        owners.update(names)
        models |= {model.name: model for model in left}
        refused |= table.refused
    return Zoo(tuple(models.values()), refused)


def _left(wide: Iterable[Model], models: dict[str, Model], owners: dict[str, str]) -> list[Model]:
    """Those of a family of many architectures that no other family has; the others' owners are told of it.

    Two of one repository are one model, which answers to both names.
    """
    left: dict[str, Model] = {}
    for model in wide:
        owner = owners.get(model.repo) or owners.get(model.name)
        known = models if owner is not None else left
        key = owner if owner is not None else model.repo or model.name
        if (mine := known.get(key)) is None:
            left[key] = model
            continue
        new = tuple(name for name in (model.name, *model.aliases) if name not in owners)
        also = mine.also or Known(model.family, model.variant) if known is models else None
        known[key] = replace(mine, also=also, aliases=mine.aliases + new)
        if known is models:
            owners.update(dict.fromkeys(new, key))
    return list(left.values())


def read_table(folder: Path) -> Table:
    """The table in a plugin's folder.

    Raises OSError, ValueError, KeyError or TypeError for files that cannot be read as one.
    """
    head = tomllib.loads((folder / "zoo.toml").read_text(encoding="utf-8"))
    defaults = {"repo": "", **head.get("defaults", {})}
    pixels = {name: (tuple(row["mean"]), tuple(row["std"])) for name, row in head["pixels"].items()}
    header, *lines = _lines(folder / "models.tsv")
    columns = header.split("\t")
    models = []
    for line in lines:
        cells = zip(columns, line.split("\t"), strict=True)
        row: dict[str, Any] = defaults | {column: cell for column, cell in cells if cell}
        row["mb"], row["input"] = int(row["mb"]), int(row["input"])
        for key in ("aliases", "files", "mirrors"):
            if key in row:
                row[key] = tuple(row[key].split(" "))
        mean, std = pixels[row.pop("pixels")]
        models.append(Model(family=head["family"], mean=mean, std=std, **row))
    return Table(head["family"], head.get("yields", False), tuple(models), head.get("refused", {}))


def _lines(path: Path) -> list[str]:
    if path.exists():
        return path.read_text(encoding="utf-8").splitlines()
    import gzip

    return gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()).decode().splitlines()
