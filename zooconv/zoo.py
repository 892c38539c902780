"""The zoo: the models that a user may ask for by name, each with its source, licence and preprocessing.

A family keeps its models in a `zoo.toml`:

    [defaults]                       # what a model is when its row does not say
    license = "apache-2.0"
    input = 224
    pixels = "imagenet"

    [pixels]                         # normalisation, on the scale 0..1
    imagenet = { mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }

    [refused]                        # names that people type, and why there is no such artifact
    "convnext_*_ols.*" = "its stem is two overlapping 3x3 convolutions …"

    [zoo]
    models = [
      { name = "convnext_tiny_22k", variant = "tiny", repo = "timm/convnext_tiny.fb_in22k", mb = 178,
        aliases = ["convnext_tiny_22k_224"] },
    ]

A model's artifacts are called after its `name`; it answers to its aliases and its repository, too. A model that is one
file of many in a repository names it (`files = ["folder/model.pt"]`), and answers to `owner/repo:folder/model.pt`. A
`note` says what a user of its weights should mind.

A model that is on no hub has a `url` in place of its `repo`. Where other places have the very same file, the row names
them as `mirrors`, each an https address or `owner/repo[@revision][:file]`, to be tried in turn where it is unavailable.
Nothing there vouches for the bytes, so either needs `sha256`, or a name that has its first digits
(`resnet50-0676ba61.pth`).
"""

from __future__ import annotations

import fnmatch
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from zooconv.digest import digest_in
from zooconv.mapping.family import Family
from zooconv.names import is_place
from zooconv.plugins import families


@dataclass(frozen=True)
class Model:
    """A pretrained model that the zoo knows by name."""

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
        """Where it is, as a link."""
        return self.url or f"https://huggingface.co/{self.repo}"

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that this model answers to: with `files`, its repository has other models, too."""
        address = [f"{self.repo}:{file}" for file in self.files] or [self.url or self.repo]
        return (self.name, *self.aliases, *address)


@dataclass(frozen=True)
class Zoo:
    """All models of all families, and the patterns of names that are refused, with the reason."""

    models: tuple[Model, ...]
    refused: dict[str, str]

    def find(self, name: str) -> Model | None:
        return next((m for m in self.models if name in m.names), None)

    def matching(self, glob: str) -> list[Model]:
        """The models that a shell pattern names, by any of their names."""
        return [m for m in self.models if any(fnmatch.fnmatchcase(n, glob) for n in m.names)]

    def refusal(self, name: str) -> str | None:
        """Why there is no artifact of that name, if somebody has said so."""
        return next((why for glob, why in self.refused.items() if fnmatch.fnmatchcase(name, glob)), None)


@cache
def zoo() -> Zoo:
    """The models of all plugins' families. A family whose table is malformed is one warning line."""
    models: list[Model] = []
    refused: dict[str, str] = {}
    owners: dict[str, str] = {}
    for family in families():
        try:
            mine, no = read_models(family)
            for name in (name for model in mine for name in model.names):
                if name in owners:
                    raise ValueError(f"{name!r} is a name of {owners[name]}, too")
            owners.update((name, model.name) for model in mine for name in model.names)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"warning: the models of family {family.name} are left out: {family.zoo}: {error}", file=sys.stderr)
            continue
        models += mine
        refused |= no
    return Zoo(tuple(models), refused)


def read_models(family: Family[Any]) -> tuple[list[Model], dict[str, str]]:
    """The models of one family's `zoo.toml`, and its refused patterns.

    Raises OSError, ValueError, KeyError or TypeError for a file that cannot be read as one.
    """
    if family.zoo is None:
        return [], {}
    table = tomllib.loads(family.zoo.read_text(encoding="utf-8"))
    models = []
    for row in table["zoo"]["models"]:
        full = table.get("defaults", {}) | row
        pixels = table["pixels"][full.pop("pixels")]
        lists = {key: tuple(full[key]) for key in ("aliases", "files", "mirrors") if key in full}
        models.append(Model(**({"repo": ""} | full | lists), family=family.name,
                            mean=tuple(pixels["mean"]), std=tuple(pixels["std"])))
    return models, table.get("refused", {})
