"""A family for tests, small and crooked: one attention block whose upstream splits what is joined, and mixes the order.

It has everything that a plugin has, its upstream included, and comes in through an entry point where a test installs it
(the fixture `toy_plugin`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zooconv import (
    ROUNDED,
    Change,
    Dialect,
    Family,
    Layout,
    TensorSpec,
    Upstream,
    cat,
    compute,
    drop,
    fold_scale,
    group_order,
    hookimpl,
    keep,
    merge,
    rename,
    resample,
    turn_colours,
)

CANONICAL = keep("patch.{wb}", "norm.{wb}", "qkv.{wb}", "mix.weight")


@dataclass(frozen=True)
class Config:
    """Channels; the side of a patch; whether there is a gain for each channel of the result."""

    dim: int
    patch: int = 16
    scaled: bool = False


def infer(shapes):
    return Config(shapes["norm.weight"][0], shapes["patch.weight"][-1], "gain" in shapes)


def tensors(config):
    dim = config.dim
    if config.scaled:
        yield TensorSpec("gain", (dim,))
    yield TensorSpec("patch.weight", (dim, 3, config.patch, config.patch))
    yield TensorSpec("patch.bias", (dim,))
    yield TensorSpec("norm.weight", (dim,))
    yield TensorSpec("norm.bias", (dim,))
    yield TensorSpec("qkv.weight", (3 * dim, dim))
    yield TensorSpec("qkv.bias", (3 * dim,))
    yield TensorSpec("mix.weight", (dim, 2 * dim))


# its own names, with q, k and v apart, and the inputs of `mix` interleaved: x0 a0 x1 a1, not x0 x1 a0 a1
SEPARATE = Dialect("separate", [
    merge(["q.{wb}", "k.{wb}", "v.{wb}"], "qkv.{wb}", cat(axis=0)),
    rename("mixer", "mix.weight", group_order(1, (0, 2, 1, 3))),
    *keep("norm.{wb}", "patch.{wb}", "gain"),
    drop("head.{wb}", "classifier"),
])
PLAIN = Layout(("plain",), "backbone.", [*CANONICAL, *keep("gain")], "tests/toy.py")
BARE = Layout(("bare",), "net.", CANONICAL, "tests/toy.py", omit={"patch.bias": "this one has no bias there"})
FOLDED = Change("gain folded into mix", becomes=lambda config: replace(config, scaled=False), limit=ROUNDED,
                rules=[compute(["mix.weight", "gain"], ["mix.weight"], fold_scale)])
FORGOTTEN = Change("gain left out", becomes=FOLDED.becomes, limit=ROUNDED)
TIGHT = Layout(("tight",), "net.", CANONICAL, "tests/toy.py", changes=[FOLDED])
WRONG = Layout(("wrong",), "net.", CANONICAL, "tests/toy.py", changes=[FORGOTTEN])


def to_patch(config, size):
    return Change(f"patches of {config.patch} pixels resampled to {size}", rules=[
        rename("patch.weight", "patch.weight", resample((2, 3), (size, size)))],
        becomes=lambda config: replace(config, patch=size))


TOY = Family("toy", "Toy", infer, tensors, {"two": Config(2), "four": Config(4)}, [SEPARATE], [PLAIN, BARE, TIGHT],
             toy=Config(4), backbone="toy:build", upstreams={"toy": "toy:Separate"},
             choices={"patch": to_patch, "bgr": turn_colours("patch.weight")})


@hookimpl
def zooconv_families():
    yield TOY


def build(config):
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(dim)) if config.scaled else None
            self.patch = nn.Conv2d(3, dim, config.patch, config.patch)
            self.norm = nn.LayerNorm(dim)
            self.qkv = nn.Linear(dim, 3 * dim)
            self.mix = nn.Linear(2 * dim, dim, bias=False)

        def outputs(self, images):
            patches = self.patch(images)
            x = self.norm(patches.flatten(2).transpose(1, 2))
            q, k, v = self.qkv(x).chunk(3, -1)
            attended = (q @ k.transpose(1, 2)).softmax(-1) @ v
            mixed = self.mix(torch.cat([x, attended], -1))
            return {"patches": patches, "mixed": mixed * self.gain if config.scaled else mixed}

    return Block(config.dim)


class Separate(Upstream):
    """The same in other words."""

    package, dialect = "toy", "separate"

    def build(self, config, shapes):
        import torch
        from torch import nn

        dim = config.dim
        module = nn.Module()
        module.patch, module.norm = nn.Conv2d(3, dim, 16, 16), nn.LayerNorm(dim)
        module.q, module.k, module.v = (nn.Linear(dim, dim) for _ in range(3))
        module.mixer = nn.Parameter(torch.empty(dim, 2 * dim))
        module.gain = nn.Parameter(torch.ones(dim)) if config.scaled else None
        return module

    def outputs(self, module, images):
        import torch

        patches = module.patch(images)
        x = module.norm(patches.flatten(2).transpose(1, 2))
        attended = torch.nn.functional.scaled_dot_product_attention(module.q(x), module.k(x), module.v(x), scale=1.0)
        (x0, x1), (a0, a1) = x.chunk(2, -1), attended.chunk(2, -1)
        mixed = torch.cat([x0, a0, x1, a1], -1) @ module.mixer.T
        return {"patches": patches, "mixed": mixed if module.gain is None else mixed * module.gain}


# -- and what may be wrong with a family -------------------------------------------------------------------------------


class Absent(Separate):
    package = "no_such_package"


class Unable(Separate):
    def build(self, config, shapes):
        raise ValueError("it is too small")


class Particular(Separate):
    """An upstream that cannot build the family's toy, and says what it can."""

    toy = Config(2)

    def build(self, config, shapes):
        if config.dim != 2:
            raise ValueError("it has two channels, and only two")
        return super().build(config, shapes)


class Mistaken(Separate):
    """An upstream that scales its scores by another factor: not the same function."""

    def outputs(self, module, images):
        outputs = super().outputs(module, images)
        return outputs | {"mixed": outputs["mixed"] * 1.001}


class Shallow(Separate):
    """An upstream of which only the first output can be seen."""

    absent = {"mixed": "it is not shown"}

    def outputs(self, module, images):
        return {"patches": module.patch(images)}


OLDER = Dialect("older", [*SEPARATE.rules[:2], rename("ln.{wb}", "norm.{wb}"), *keep("patch.{wb}")])


class Aged(Separate):
    """An upstream that spells its smaller members in an older way."""

    def spelling(self, config):
        return "older" if config.dim < 4 else "separate"

    def inside(self, name):
        return name.replace("ln.", "norm.")


def other_backbone(config):
    from torch import nn

    return nn.Linear(2, 2)
