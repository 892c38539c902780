"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556) for zooconv. Canonical names: torchvision's."""

from dataclasses import dataclass
from itertools import pairwise

from zooconv import Dialect, Family, Layout, TensorSpec, Upstream, drop, hookimpl, import_package, keep

CANONICAL = keep("features.{i}.{wb}")


@dataclass(frozen=True)
class Config:
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
    return Config(tuple(map(tuple, stages)))


def tensors(config):
    """Every canonical tensor of a member, in the order of the module."""
    place, inputs = 0, 3
    for stage in config.stages:
        for channels in stage:
            yield TensorSpec(f"features.{place}.weight", (channels, inputs, 3, 3))
            yield TensorSpec(f"features.{place}.bias", (channels,))
            place, inputs = place + 2, channels
        place += 1


FAMILY = Family(
    name="vgg", title="VGG", infer=infer, tensors=tensors,
    variants={"16": Config(((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))},
    toy=Config(((4,), (8, 8), (12,))),
    dialects=[Dialect("torchvision", [*CANONICAL, drop("classifier.{i}.{wb}", "classifier")])],
    layouts=[Layout(("d2",), mount="backbone.", rules=CANONICAL, source="torchvision/models/vgg.py, under backbone.")],
    backbone="zooconv_vgg:build", upstreams={"torchvision": "zooconv_vgg:Torchvision"},
)


@hookimpl
def zooconv_families():
    yield FAMILY


# -- what the proof runs; torch is imported only then ----------------------------------------------------------------


def build(config):
    """The reference module: its state_dict is the table, and `outputs` gives each stage before it is pooled."""
    from torch import nn

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            layers, inputs = [], 3
            for stage in config.stages:
                for channels in stage:
                    layers += [nn.Conv2d(inputs, channels, kernel_size=3, padding=1), nn.ReLU()]
                    inputs = channels
                layers.append(nn.MaxPool2d(2))
            self.features = nn.Sequential(*layers)

        def outputs(self, images):
            return before_pooling(self.features, images)

    return Backbone()


class Torchvision(Upstream):
    """pytorch/vision torchvision/models/vgg.py"""

    package = dialect = "torchvision"

    def build(self, config, shapes):
        vgg, plan = import_package("torchvision").models.vgg, []
        for stage in config.stages:
            plan += [*stage, "M"]
        module = vgg.VGG(vgg.make_layers(plan), init_weights=False)
        del module.classifier
        return module

    def outputs(self, module, images):
        return before_pooling(module.features, images)


def before_pooling(layers, x):
    found = {}
    for layer in layers:
        if type(layer).__name__ == "MaxPool2d":
            found[f"stage{len(found) + 1}"] = x
        x = layer(x)
    return found
