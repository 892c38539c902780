"""The files that are measured: random ConvNeXts, and a sparse one of 6 GB."""

from __future__ import annotations

import sys
from pathlib import Path

from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.family import ConvNeXtConfig

from zooconv import convert
from zooconv.checkpoint.write import writer_for
from zooconv.digest import crc32
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, save_safetensors, spelled

SIZES = {
    "105": ConvNeXtConfig((3, 3, 8, 3), (96, 192, 384, 768)),
    "951": ConvNeXtConfig((3, 3, 27, 3), (210, 420, 840, 1680)),
    "6000": ConvNeXtConfig((3, 3, 27, 3), (528, 1056, 2112, 4224)),
}


def random_file(path: Path, config: ConvNeXtConfig) -> None:
    head = TensorSpec("head.weight", (1000, config.dims[-1]))
    save_pth(path, {spec.name: random_array(spec.name, spec.shape) for spec in [*FAMILY.tensors(config), head]})


def sparse_file(path: Path, config: ConvNeXtConfig) -> None:
    """Only the frame is written; the data are holes, which read as zeros."""
    specs = list(FAMILY.tensors(config))
    writer, zeros = writer_for("pth", specs, {}), bytes(1 << 24)
    with path.open("wb") as file:
        for i, spec in enumerate(specs):
            file.write(writer.before(i))
            file.seek(spec.nbytes, 1)
            crc = 0
            for at in range(0, spec.nbytes, len(zeros)):
                crc = crc32(zeros[:min(len(zeros), spec.nbytes - at)], crc)
            file.write(writer.after(i, crc))
        file.write(writer.end("0" * 64))


def proof_files(folder: Path, variant: str) -> None:
    """A member in timm's names, and its artifact."""
    source = folder / f"{variant}.safetensors"
    timm = next(d for d in FAMILY.dialects if d.name == "timm")
    save_safetensors(source, spelled(timm, lively_weights(FAMILY, FAMILY.variants[variant])))
    convert(source, output=folder, registry=folder / "registry.json", load_check=False, force=True, report=False)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name, config in SIZES.items():
        path = folder / f"{name}.pth"
        if not path.exists():
            (sparse_file if name == "6000" else random_file)(path, config)
    for variant in ("tiny", "xlarge"):
        if not (folder / f"{variant}_d2.pth").exists():
            proof_files(folder, variant)
