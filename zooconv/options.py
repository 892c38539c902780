"""What a user may choose about a conversion, declared once: for the API, and for the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from zooconv.errors import UsageError

Format = Literal["pth", "safetensors", "pkl"]
Language = Literal["en", "zh"]
DType = Literal["float32", "float16", "bfloat16"]


def _option(default: Any, help_: str, *flags: str, group: str, recorded: bool = False, aside: bool = False) -> Any:
    return field(default=default, metadata={"help": help_, "flags": flags, "group": group, "recorded": recorded,
                                            "aside": aside})


@dataclass(frozen=True)
class Options:
    """The choices. The metadata of each field is its flag's help, spelling and group on the command line.

    The `recorded` ones decide what the artifact holds, so the registry has them where they are not the default; those
    `aside` decide nothing of the artifact, nor of its record.
    """

    layout: str = _option("d2", "What the target's Detectron2 project loads; see zooconv layouts.",
                          "--layout", "-l", group="Target")
    to: str | None = _option(None, "Write an upstream's own file instead: timm, transformers, torchvision, official …",
                             "--to", group="Way back")
    extract: bool = _option(False, "Write the backbone of a whole model's checkpoint, in the names that it has.",
                            "--extract", group="Way back", recorded=True)
    fill_from: str | None = _option(None, "Take what Detectron2 never had, such as the classifier, from the "
                                          "original: a name, a repository or a file, in the names that are written.",
                                    "--fill-from", group="Way back")
    drop_trained: bool = _option(False, "Leave behind what only a Detectron2 class has, though it was trained.",
                                 "--drop-trained", group="Way back", recorded=True)
    fresh: bool = _option(True, "Write the tensors that the layout adds, at their start values.",
                          "--fresh/--no-fresh", group="Target", recorded=True)
    portable: bool = _option(False, "Leave out the mount, and have Detectron2 match names by their ends.",
                             "--portable", group="Target", recorded=True)
    format: Format | None = _option(None, "The container: pth, pkl or safetensors; default: the target's own.",
                                    "--format", group="Target")
    output: Path | None = _option(None, "A file, or a folder that is there; default: weights/ for a model of the "
                                  "hub, else here.",
                                  "--output", "-o", group="Target")
    patch: int | None = _option(None, "Resample the patch embedding to patches of this many pixels.",
                                "--patch", group="Changes", recorded=True)
    grid: int | None = _option(None, "Resample the position embedding to a square grid of this many patches a side.",
                               "--grid", group="Changes", recorded=True)
    window: int | None = _option(None, "Resample the position bias to attention windows of this many places a side.",
                                 "--window", group="Changes", recorded=True)
    bgr: bool = _option(False, "Turn the first convolution's input channels round: for images in BGR.",
                        "--bgr", group="Changes", recorded=True)
    dtype: DType | None = _option(None, "Cast every floating-point tensor; exactly, where the dtype has its numbers.",
                                  "--dtype", group="Changes", recorded=True)
    force: bool = _option(False, "Replace a file that is not recorded as this artifact.",
                          "--force", group="Target", aside=True)
    name: str | None = _option(None, "The artifact's name in the registry; default: the source's.",
                               "--name", group="Target")
    ema: bool | None = _option(None, "Take the averaged weights, or the plain ones, of a file that has both.",
                               "--ema/--no-ema", group="Source", recorded=True)
    key: str | None = _option(None, "The key under which the weights stand in the file.",
                              "--key", group="Source", recorded=True)
    prefix: str | None = _option(None, "The prefix of the backbone's tensors, where there are several backbones.",
                                 "--prefix", group="Source", recorded=True)
    locked: bool = _option(False, "Only what the registry pins: its commit, its rules, its result; anything else is "
                           "refused.", "--locked", group="Source", aside=True)
    partial: bool = _option(False, "Fetch only the tensors that are needed; the digest of the whole file is then not "
                                   "checked, and the record says so. Safetensors only.", "--partial", group="Source")
    allow_nonfinite: bool = _option(False, "Accept NaN and Inf; they are recorded.",
                                    "--allow-nonfinite", group="Checks", recorded=True)
    verify: bool = _option(False, "Hash every tensor of the written file once more.",
                           "--verify", group="Checks", aside=True)
    load_check: bool = _option(True, "Have torch load the written file.",
                               "--load-check/--no-load-check", group="Checks", aside=True)
    registry: Path | None = _option(None, "The registry; default: $ZOOCONV_REGISTRY, else ./registry.json.",
                                    "--registry", group="Record")
    config: Path | None = _option(None, "A Detectron2 YAML config that shall name the written file, as MODEL.WEIGHTS.",
                                  "--config", group="Record", aside=True)
    report: bool = _option(True, "Write a summary beside the file, as FILE.md.",
                           "--report/--no-report", group="Record", aside=True)
    lang: Language = _option("en", "The language of that summary: en or zh.", "--lang", group="Record", aside=True)
    note: str = _option("", "A remark for the registry and the summary.", "--note", group="Record")

    def __post_init__(self) -> None:
        for name in ("output", "registry", "config"):
            if isinstance(path := getattr(self, name), str):
                object.__setattr__(self, name, Path(path))
        if self.to and (self.layout != "d2" or self.config or self.portable):
            raise UsageError("--to writes an upstream's own file, and --layout, --portable and --config are for what a "
                             "Detectron2 project loads", next="leave out one or the other")
        if self.partial and self.locked:
            raise UsageError("--locked holds a source to its digest, for which all of it is fetched; --partial fetches "
                             "some of it", next="leave out one or the other")
        others = {"--layout": self.layout != "d2", "--to": bool(self.to), "--fill-from": bool(self.fill_from),
                  "--portable": self.portable, **{f"--{option}": True for option in self.choices}}
        if self.extract and (said := [flag for flag, given in others.items() if given]):
            raise UsageError(f"--extract keeps the backbone as it is, which {said[0]} contradicts",
                             next="leave one of them out")

    @property
    def target(self) -> str:
        """The target, in the artifact's name."""
        return "backbone" if self.extract else self.to or self.layout

    @property
    def choices(self) -> dict[str, Any]:
        """The changes that are asked for, with their values (see `Family.choices`)."""
        return {name: value for name in CHOICES if (value := getattr(self, name))}

    @property
    def marks(self) -> dict[str, Any]:
        """The choices that an artifact is called after, with their values."""
        return ({"portable": True} if self.portable else {}) | self.choices

    @property
    def recorded(self) -> dict[str, Any]:
        """The choices that decide what the artifact holds, where they are not the default."""
        return {f.name: getattr(self, f.name) for f in fields(self)
                if f.metadata["recorded"] and getattr(self, f.name) != f.default}

    @property
    def typed(self) -> list[str]:
        """The choices as they are typed: the layout, and what is not the default and not aside."""
        typed = []
        for f in fields(self):
            value = getattr(self, f.name)
            if (f.name == "layout" and not self.to) or (value != f.default and not f.metadata["aside"]):
                yes, _, no = f.metadata["flags"][0].partition("/")
                typed += [yes if value else no] if isinstance(value, bool) else [yes, str(value)]
        return typed


CHOICES = tuple(f.name for f in fields(Options) if f.metadata["group"] == "Changes")
"""The options that ask for changes."""
WAY_BACK = tuple(f.name for f in fields(Options) if f.metadata["group"] == "Way back")
"""The options that make something else than a file for a Detectron2 project."""
