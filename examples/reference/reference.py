"""The reference case from end to end: the official ConvNeXt-T into a MaskDINO, and back.

    python examples/reference/reference.py [FOLDER] [--weights convnext_tiny_22k_1k_224.pth]

Without --weights, a file of random weights stands in for the official one: its names, shapes and container are those of
the official file. Everything is written into FOLDER, by default ./reference.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from zooconv_zoo.convnext import FAMILY

from zooconv.testing.checkpoints import random_array, random_weights, save_pth

HERE = Path(__file__).parent
NAME, CONFIG = "convnext_tiny_22k_1k_224", "maskdino_convnext_tiny.yaml"


def official_file(path: Path) -> None:
    """What facebookresearch/ConvNeXt publishes, with random weights: {"model": 182 tensors}."""
    head = {"head.weight": random_array("head.weight", (1000, 768)), "head.bias": random_array("head.bias", (1000,))}
    save_pth(path, random_weights(FAMILY, FAMILY.variants["tiny"]) | head)


def zooconv(folder: Path, *arguments: str) -> None:
    """Run a command as one would type it, and end with it if it fails."""
    print(f"\n$ zooconv {' '.join(arguments)}", file=sys.stderr, flush=True)
    home = {k: v for k, v in os.environ.items() if k != "ZOOCONV_REGISTRY"}
    subprocess.run([sys.executable, "-m", "zooconv", *arguments], cwd=folder, env=home, check=True)


def forms(path: Path) -> dict[str, Any]:
    """The tensors of a converted file, as torch loads them: shape and dtype by name."""
    model = torch.load(path, weights_only=True, mmap=True)["model"]
    return {n: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for n, t in model.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="The reference case from end to end.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("reference"))
    parser.add_argument("--weights", type=Path, help="the official file; default: random weights in its form")
    asked = parser.parse_args()
    folder = asked.folder
    folder.mkdir(exist_ok=True)
    shutil.copy(HERE / CONFIG, folder)
    if asked.weights:
        shutil.copy(asked.weights, folder / f"{NAME}.pth")
    else:
        official_file(folder / f"{NAME}.pth")

    zooconv(folder, "convert", f"{NAME}.pth", "--config", CONFIG)
    zooconv(folder, "convert", f"{NAME}.pth", "--layout", "dimaskdino")
    zooconv(folder, "convert", f"{NAME}_d2.pth", "--to", "official", "--fill-from", f"{NAME}.pth")
    zooconv(folder, "verify", "--certificate")

    made = json.loads((folder / "registry.json").read_text())["artifacts"]
    d2, back = made[f"{NAME}/d2"], made[f"{NAME}_d2/official"]
    counts = d2["source"]["content"]["tensors"], d2["output"]["content"]["tensors"], d2["output"]["dropped"]
    assert counts == (182, 180, 2), counts
    assert f'WEIGHTS: "{NAME}_d2.pth"' in (folder / CONFIG).read_text()
    assert (folder / f"{NAME}_d2.pth.md").exists()

    wanted = json.loads(gzip.decompress((HERE / "dimaskdino_convnext_tiny.json.gz").read_bytes()))["keys"]
    found = forms(folder / f"{NAME}_dimaskdino.pth")
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    assert (len(found), len(missing), len(unexpected)) == (186, 0, 0), (missing, unexpected)
    assert all(found[name] == {key: wanted[name][key] for key in ("shape", "dtype")} for name in found)

    assert back["output"]["content"]["tree"] == d2["source"]["content"]["tree"]
    print(f"{NAME}.pth              182 tensors\n"
          f"{NAME}_d2.pth           180 tensors, 2 dropped: the classifier\n"
          f"{NAME}_dimaskdino.pth   186 tensors; of DI-MaskDINO's D2ConvNeXt 0 missing, 0 unexpected\n"
          f"{NAME}_d2_official.pth  182 tensors, the same as in the first file, byte for byte")


if __name__ == "__main__":
    main()
