"""The main job on this machine: `python -m zooconv.testing.demo`, or `make demo`.

A local hub serves what timm/convnext_tiny.fb_in22k holds on the real one, as timm itself would save it, but with random
weights; then the real command line fetches it with the real hub client. Needs timm.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from zooconv.testing.checkpoints import random_array, save_safetensors
from zooconv.testing.hub import LocalHub
from zooconv.upstream import import_package

NAME, REPO, ARCHITECTURE, CLASSES = "convnext_tiny_22k", "timm/convnext_tiny.fb_in22k", "convnext_tiny", 21841


def timm_checkpoint(path: Path) -> Path:
    """The file that timm would publish for the architecture, its weights random."""
    import torch

    timm = import_package("timm")
    with torch.device("meta"):
        model = timm.create_model(ARCHITECTURE, num_classes=CLASSES)
    return save_safetensors(path, {name: random_array(name, tuple(t.shape)) for name, t in model.state_dict().items()})


def main() -> int:
    """Serve, fetch, convert, verify. The exit code of the command that failed, or 0."""
    with tempfile.TemporaryDirectory() as folder, LocalHub() as hub:
        print("making a checkpoint of random weights, as timm writes it …", file=sys.stderr)
        file = timm_checkpoint(Path(folder, "model.safetensors"))
        hub.add(REPO, {"model.safetensors": file, "config.json": b'{"architecture": "convnext_tiny"}'})
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": folder, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
                                    "ZOOCONV_REGISTRY": "weights/registry.json", "NO_PROXY": "127.0.0.1"}
        environment.pop("HF_TOKEN", None)
        Path("weights").mkdir(exist_ok=True)
        for arguments in (["fetch-convert", NAME, "--note", "random weights, from a local hub"], ["verify", NAME]):
            print("\n$ zooconv " + " ".join(f"'{a}'" if " " in a else a for a in arguments), file=sys.stderr)
            code = subprocess.call([sys.executable, "-m", "zooconv", *arguments], env=environment)  # noqa: S603
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
