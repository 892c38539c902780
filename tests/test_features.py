"""Converted weights compute what the upstream's own module computes.

For each installed upstream the real module is built with random weights (gammas near 1, so that no block hides behind
its layer scale), saved in its real file, converted on the whole road, and loaded into a plain ConvNeXt; both run on the
same images in float64, by no code of the tool's own proof. Beside it stands what it must catch: the same conversion
with one rule spoiled. All other mistakes are made in test_conformance.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import SMALL
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.backbone import ConvNeXt

from zooconv import convert, identity
from zooconv.mapping.expr import evaluate
from zooconv.mapping.fit import fit
from zooconv.mapping.forms import Forms
from zooconv.mapping.rules import Rule
from zooconv.tensor import TensorSpec
from zooconv.upstream import import_package

SIZES = {"depths": [*SMALL.depths], "hidden_sizes": [*SMALL.dims]}
EXACT = 1e-12  # relative; a sum in another order costs about 1e-15


class Timm:
    dialect = "timm"

    @staticmethod
    def build(**options):
        convnext = import_package("timm").models.convnext
        return convnext.ConvNeXt(depths=SMALL.depths, dims=SMALL.dims, num_classes=5, **options)

    @staticmethod
    def features(model, images):
        return model.forward_intermediates(images, intermediates_only=True)

    @staticmethod
    def save(model, folder):
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / "model.safetensors")
        return folder / "model.safetensors"


class TimmConvMlp(Timm):
    @staticmethod
    def build():
        return Timm.build(conv_mlp=True)


class TimmNormPre(Timm):
    @staticmethod
    def build():
        return Timm.build(conv_mlp=True, head_norm_first=True)


class Transformers:
    dialect = "transformers"

    @staticmethod
    def build():
        package = import_package("transformers")
        config = package.ConvNextConfig(**SIZES, num_labels=5, layer_norm_eps=1e-6)
        return package.ConvNextForImageClassification(config)

    @staticmethod
    def features(model, images):
        return model(images, output_hidden_states=True).hidden_states[1:]

    @staticmethod
    def save(model, folder):
        model.save_pretrained(folder)
        return folder / "model.safetensors"


class TransformersDinov3(Transformers):
    dialect = "transformers-dinov3"

    @staticmethod
    def build():
        package = import_package("transformers")
        return package.DINOv3ConvNextModel(package.DINOv3ConvNextConfig(**SIZES))

    @staticmethod
    def features(model, images):
        return model(images, output_hidden_states=True).hidden_states[1:]


class Torchvision:
    dialect = "torchvision"

    @staticmethod
    def build():
        convnext = import_package("torchvision").models.convnext
        widths = [*SMALL.dims[1:], None]
        return convnext.ConvNeXt([convnext.CNBlockConfig(dim, wider, depth) for dim, wider, depth
                                  in zip(SMALL.dims, widths, SMALL.depths, strict=True)], num_classes=5)

    @staticmethod
    def features(model, images):
        seen = []
        for i, part in enumerate(model.features):
            images = part(images)
            seen += [images] if i % 2 else []
        return seen

    @staticmethod
    def save(model, folder):
        torch.save(model.state_dict(), folder / "model.pth")
        return folder / "model.pth"


UPSTREAMS = [Timm, TimmConvMlp, TimmNormPre, Transformers, TransformersDinov3, Torchvision]


def randomised(upstream):
    torch.manual_seed(0)
    model = upstream.build().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            near_one = name.endswith(("gamma", "layer_scale", "layer_scale_parameter", "norm.weight"))
            tensor.copy_(torch.randn(tensor.shape) * 0.1 + near_one)
    return model


@torch.no_grad()
def difference(upstream, model, weights):
    """The largest relative difference of any stage's features."""
    plain = ConvNeXt(SMALL.depths, SMALL.dims).eval()
    plain.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = plain.double()(images).values(), upstream.features(model.double(), images)
    assert len(ours) == len(theirs) == 4
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("upstream", UPSTREAMS, ids=lambda u: u.__name__)
def test_stage_features_are_the_upstreams(upstream, work):
    model = randomised(upstream)
    result = convert(upstream.save(model, work), load_check=False)
    assert result.data["dialect"] == upstream.dialect
    state = torch.load(result.path)["model"]
    assert difference(upstream, model, {n.removeprefix("backbone."): t for n, t in state.items()}) < EXACT


# -- what the proof must catch ---------------------------------------------------------------------------------------


def dialect_of(upstream):
    return next(d for d in FAMILY.dialects if d.name == upstream.dialect)


def with_rules(dialect, change):
    return replace(dialect, rules=[change(rule) if isinstance(rule, Rule) else rule for rule in dialect.rules])


def loaded(dialect, model):
    """The canonical tensors that a dialect makes of a module's weights; None where it does not fit them."""
    state = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    specs = {name: TensorSpec(name, tuple(tensor.shape)) for name, tensor in state.items()}
    arrays = {name: tensor.numpy().view("<u4") for name, tensor in state.items()}
    (prefix,) = Forms(specs).prefixes(dialect.anchor)
    found = fit(FAMILY, dialect, specs, prefix)
    if not found.exact:
        return None
    return {name: torch.from_numpy(np.array(evaluate(value, arrays.__getitem__)).view("<f4"))
            for name, value in found.canonical.items()}


REORDERING = [(upstream, rule) for upstream in UPSTREAMS for rule in dialect_of(upstream).rules
              if isinstance(rule, Rule) and rule.op != identity]


@pytest.mark.parametrize(("upstream", "rule"), REORDERING, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_rule_that_only_renames_where_an_op_is_needed_does_not_pass(upstream, rule):
    model = randomised(upstream)
    mutant = with_rules(dialect_of(upstream), lambda r: replace(r, op=identity) if r == rule else r)
    needed = any(upstream.__name__ == name for name in ("TimmConvMlp", "TimmNormPre", "Torchvision"))
    assert (loaded(mutant, model) is None) == needed
