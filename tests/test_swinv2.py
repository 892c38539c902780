"""Swin V2: weights do not know their window; what its upstreams publish is recognised and proved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from zooconv_zoo.swinv2 import FAMILY
from zooconv_zoo.swinv2.backbone import SwinV2, positions
from zooconv_zoo.swinv2.dialects import OFFICIAL, OPENMMLAB, TORCHVISION

from zooconv import CheckFailed, convert, identity
from zooconv.mapping.expr import evaluate
from zooconv.mapping.fit import fit
from zooconv.mapping.rules import Rule
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.tensor import TensorSpec
from zooconv.testing.checkpoints import lively_weights, save_pth, spelled
from zooconv.upstream import import_package

TOY = FAMILY.toy
WEIGHTS = lively_weights(FAMILY, TOY)


def headers(state):
    return {n: TensorSpec(n, tuple(t.shape)) for n, t in state.items() if t.is_floating_point()}


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "swinv2_tiny_window16_256", "swinv2_base_window12_192",
                                  "swinv2_large_window12to24_192to384"])
def test_timms_members_are_recognised_at_full_size_whatever_their_window(name):
    with torch.device("meta"):
        state = import_package("timm").create_model(name).state_dict()
    found = recognise(headers(state), families(), what=name)
    assert (found.family.name, found.dialect.name, found.variant) == ("swinv2", "timm", name.split("_")[1])


@pytest.mark.parametrize(("size", "variant"), [("t", "tiny"), ("s", "small"), ("b", "base")])
def test_torchvisions_members_are_recognised_at_full_size(size, variant):
    with torch.device("meta"):
        state = getattr(import_package("torchvision").models, f"swin_v2_{size}")().state_dict()
    found = recognise(headers(state), families(), what="x")
    assert (found.family.name, found.dialect.name, found.variant) == ("swinv2", "torchvision", variant)


def test_a_bias_of_keys_that_is_not_zero_could_not_be_had_back_and_is_refused(work):
    """torchvision holds one, and takes it for zero; nobody else has a place for it."""
    arrays = spelled(TORCHVISION, WEIGHTS)
    name = next(n for n in arrays if n.endswith("qkv.bias"))
    assert convert(save_pth(work / "zero.pth", arrays), load_check=False).path.exists()
    third = len(arrays[name]) // 3
    arrays[name][third] = 1e-30
    with pytest.raises(CheckFailed, match="cannot be had back") as caught:
        convert(save_pth(work / "other.pth", arrays), load_check=False)
    assert name in caught.value.why[0]
    assert not (work / "other_d2.pth").exists()


def test_buffers_of_the_official_release_are_dropped_with_their_reasons(work):
    buffers = {"attn.relative_position_index": np.zeros((4, 4), np.int64), "attn_mask": np.zeros((2, 4, 4), np.float32),
               "attn.relative_coords_table": np.zeros((1, 3, 3, 2), np.float32)}
    arrays = WEIGHTS | {f"layers.0.blocks.1.{name}": array for name, array in buffers.items()}
    done = convert(save_pth(work / "official.pth", arrays), load_check=False)
    assert len(done.data["dropped"]) == 3
    assert done.content.tensors == len(WEIGHTS)
    assert "window" in done.data["mind"][0]


@pytest.mark.parametrize(("window", "trained"), [(8, 8), (16, 16), (24, 12)])
def test_positions_are_those_of_timm(window, trained):
    timm = import_package("timm").models.swin_transformer_v2
    attention = timm.WindowAttention(32, (window, window), 2, pretrained_window_size=[trained] * 2)
    table = attention.relative_coords_table.reshape(-1, 2)
    assert torch.allclose(positions(window, trained), table, atol=1e-6, rtol=0)


def test_openmmlabs_merging_by_names_alone_is_wrong_from_the_second_stage_on():
    arrays = spelled(OPENMMLAB, WEIGHTS)
    rules = [replace(r, op=identity) if isinstance(r, Rule) else r for r in OPENMMLAB.rules]
    outputs = []
    for dialect in (OPENMMLAB, replace(OPENMMLAB, rules=rules)):
        found = fit(FAMILY, dialect, {n: TensorSpec(n, a.shape) for n, a in arrays.items()})
        assert found.exact  # it fits, it would load
        module = SwinV2(TOY.embed_dim, TOY.depths, TOY.heads, TOY.window).eval()
        module.load_state_dict({n: torch.from_numpy(np.array(evaluate(v, arrays.__getitem__)))
                                for n, v in found.canonical.items()})
        with torch.no_grad():
            outputs.append(module(torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(0))))
    right, wrong = outputs
    errors = {n: float((wrong[n] - right[n]).abs().max() / right[n].abs().max()) for n in right}
    assert errors["res2"] == 0
    assert min(errors["res3"], errors["res4"], errors["res5"]) > 0.3


def test_official_and_timm_names_differ_in_the_place_of_merging_alone():
    official, timm = (set(spelled(d, WEIGHTS)) for d in (OFFICIAL, FAMILY.dialects[1]))
    assert all("downsample" in name for name in official ^ timm)
