"""What a user may choose about a conversion, declared once: for the API, and for the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

Format = Literal["pth", "safetensors"]


def _option(default: Any, help_: str, *flags: str, group: str, recorded: bool = False) -> Any:
    return field(default=default, metadata={"help": help_, "flags": flags, "group": group, "recorded": recorded})


@dataclass(frozen=True)
class Options:
    """The choices. The metadata of each field is its flag's help, spelling and group on the command line.

    The `recorded` ones decide what the artifact holds, so the registry has them where they are not the default.
    """

    layout: str = _option("d2", "What the target's Detectron2 project loads; see zooconv layouts.",
                          "--layout", "-l", group="Target")
    fresh: bool = _option(True, "Write the tensors that the layout adds, at their start values.",
                          "--fresh/--no-fresh", group="Target", recorded=True)
    format: Format | None = _option(None, "The container: pth (default) or safetensors.", "--format", group="Target")
    output: Path | None = _option(None, "A file or a folder; default: weights/ for a model of the hub, else here.",
                                  "--output", "-o", group="Target")
    patch: int | None = _option(None, "Resample the patch embedding to patches of this many pixels.",
                                "--patch", group="Changes", recorded=True)
    grid: int | None = _option(None, "Resample the position embedding to a square grid of this many patches a side.",
                               "--grid", group="Changes", recorded=True)
    window: int | None = _option(None, "Resample the position bias to attention windows of this many places a side.",
                                 "--window", group="Changes", recorded=True)
    bgr: bool = _option(False, "Turn the first convolution's input channels round: for images in BGR.",
                        "--bgr", group="Changes", recorded=True)
    force: bool = _option(False, "Replace a file that is not recorded as this artifact.", "--force", group="Target")
    name: str | None = _option(None, "The artifact's name in the registry; default: the source's.",
                               "--name", group="Target")
    ema: bool | None = _option(None, "Take the averaged weights, or the plain ones, of a file that has both.",
                               "--ema/--no-ema", group="Source", recorded=True)
    key: str | None = _option(None, "The key under which the weights stand in the file.",
                              "--key", group="Source", recorded=True)
    prefix: str | None = _option(None, "The prefix of the backbone's tensors, where there are several backbones.",
                                 "--prefix", group="Source", recorded=True)
    locked: bool = _option(False, "Only what the registry pins: its commit, its rules, its result; anything else is "
                           "refused.", "--locked", group="Source")
    allow_nonfinite: bool = _option(False, "Accept NaN and Inf; they are recorded.",
                                    "--allow-nonfinite", group="Checks", recorded=True)
    verify: bool = _option(False, "Hash every tensor of the written file once more.", "--verify", group="Checks")
    load_check: bool = _option(True, "Have torch load the written file.",
                               "--load-check/--no-load-check", group="Checks")
    registry: Path | None = _option(None, "The registry; default: $ZOOCONV_REGISTRY, else ./registry.json.",
                                    "--registry", group="Record")
    config: Path | None = _option(None, "A Detectron2 YAML config whose MODEL.WEIGHTS becomes the written file.",
                                  "--config", group="Record")
    report: bool = _option(True, "Write a summary beside the file, as FILE.md.", "--report/--no-report", group="Record")
    note: str = _option("", "A remark for the registry and the summary.", "--note", group="Record")

    @property
    def choices(self) -> dict[str, Any]:
        """The changes that are asked for, with their values (see `Family.choices`)."""
        return {name: value for name in CHOICES if (value := getattr(self, name))}

    @property
    def recorded(self) -> dict[str, Any]:
        """The choices that decide what the artifact holds, where they are not the default."""
        return {f.name: getattr(self, f.name) for f in fields(self)
                if f.metadata["recorded"] and getattr(self, f.name) != f.default}


CHOICES = tuple(f.name for f in fields(Options) if f.metadata["group"] == "Changes")
"""The options that ask for changes."""
