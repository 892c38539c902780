"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556) for zooconv. Canonical names: torchvision's."""

from dataclasses import dataclass
from itertools import pairwise

from zooconv import Dialect, Family, Layout, TensorSpec, drop, hookimpl, keep

CANONICAL = keep("features.{i}.{wb}")


@dataclass(frozen=True)
class VGGConfig:
    """Channels of every convolution, stage by stage."""

    stages: tuple[tuple[int, ...], ...]


def infer(shapes):
    """A convolution and its ReLU take two places in `features`, and a pooling layer between stages one more."""
    places = sorted(int(name.split(".")[1]) for name in shapes if name.endswith(".weight"))
    stages = [[]]
    for before, place in pairwise([0, *places]):
        if place - before == 3:
            stages.append([])
        stages[-1].append(shapes[f"features.{place}.weight"][0])
    return VGGConfig(tuple(map(tuple, stages)))


def tensors(config):
    place, inputs = 0, 3
    for stage in config.stages:
        for channels in stage:
            yield TensorSpec(f"features.{place}.weight", (channels, inputs, 3, 3))
            yield TensorSpec(f"features.{place}.bias", (channels,))
            place, inputs = place + 2, channels
        place += 1


FAMILY = Family(
    name="vgg", title="VGG", infer=infer, tensors=tensors,
    variants={"16": VGGConfig(((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))},
    dialects=[Dialect("torchvision", [*CANONICAL, drop("classifier.{i}.{wb}", "classifier")])],
    layouts=[Layout(("d2",), mount="backbone.", rules=CANONICAL, source="torchvision/models/vgg.py, under backbone.")],
)


@hookimpl
def zooconv_families():
    yield FAMILY
