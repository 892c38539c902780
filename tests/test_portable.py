"""One file for every mount: names that are matched by their ends, and the files that cannot be read so.

`matched` is Detectron2's rule, written anew from what is known of it (detectron2/checkpoint/c2_model_loading.py).
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import SMALL
from zooconv_zoo.convnext.backbone import ConvNeXt

from zooconv import convert, inspect
from zooconv.errors import CheckFailed, UsageError
from zooconv.mapping.expr import Leaf
from zooconv.mapping.fit import fit
from zooconv.mapping.portable import doubtful, portable_plan
from zooconv.parity import parity
from zooconv.plugins import families
from zooconv.registry import Registry
from zooconv.subject import subjects
from zooconv.tensor import TensorSpec
from zooconv.verify import verify

MOUNTS = ["backbone.", "backbone.bottom_up.", "backbone.net."]


def matched(model, checkpoint):
    """Which tensor of a checkpoint each tensor of a model gets, by Detectron2's heuristics; and what is skipped.

    The longest name that the model's ends with, at a dot, is taken; one of another shape is skipped, without a second
    choice. A name that two tensors of the model get is an error.
    """
    given, skipped = {}, []
    for name, tensor in model.items():
        ends = [other for other in checkpoint if name == other or name.endswith(f".{other}")]
        if not ends:
            continue
        longest = max(ends, key=len)
        if checkpoint[longest].shape != tensor.shape:
            skipped.append((longest, name))
        elif longest in given.values():
            raise ValueError("Cannot match one checkpoint key to multiple keys in the model.")
        else:
            given[name] = longest
    return given, skipped


class KMaX(ConvNeXt):
    """A backbone without norms of its own."""

    def __init__(self):
        super().__init__(SMALL.depths, SMALL.dims)
        del self.norm


def detector(mount, hidden=256):
    """A model of Detectron2's kind: the backbone under a mount, and a head with norms, convolutions and layers."""
    model = torch.nn.Module()
    inner = model
    for part in mount.rstrip(".").split(".")[:-1]:
        inner.add_module(part, torch.nn.Module())
        inner = getattr(inner, part)
    inner.add_module(mount.rstrip(".").rsplit(".", 1)[-1], KMaX())
    head = torch.nn.Module()
    for name in ("norm", "norm1", "norm2", "norm3"):
        head.add_module(name, torch.nn.LayerNorm(hidden))
    head.add_module("fc1", torch.nn.Linear(hidden, hidden))
    encoder = torch.nn.Module()
    encoder.add_module("layers", torch.nn.ModuleList([torch.nn.TransformerEncoderLayer(hidden, 2, hidden)]))
    head.add_module("transformer", torch.nn.Sequential(encoder))
    model.add_module("sem_seg_head", head)
    return model.state_dict()


@pytest.mark.parametrize("format_", ["pth", "pkl"])
@pytest.mark.parametrize("mount", MOUNTS)
def test_a_portable_file_is_loaded_whole_and_rightly_under_any_mount(source, official, mount, format_):
    path = convert(source, layout="kmax", portable=True, format=format_, load_check=False).path
    loaded = loading(path)
    assert loaded["matching_heuristics"] is True
    model = detector(mount)
    given, skipped = matched(model, loaded["model"])
    assert skipped == []
    assert set(given) == {name for name in model if name.startswith(mount)}
    assert set(given.values()) == set(loaded["model"])
    assert all(name == mount + other for name, other in given.items())
    assert all(torch.equal(loaded["model"][other], torch.from_numpy(official[other])) for other in given.values())


def loading(path):
    return torch.load(path) if path.suffix == ".pth" else pickle.loads(path.read_bytes(), encoding="latin1")


def test_a_portable_file_is_recorded_and_named_and_read_again(source):
    done = convert(source, layout="kmax", portable=True, load_check=False).data
    assert done["name"] == "small/kmax/portable"
    assert Path(done["artifact"]["file"]).name == "small_kmax_portable.pth"
    assert any("matches these names by their ends" in line for line in done["mind"])
    registry = Registry.read(source.with_name("registry.json"))
    assert registry.records["small/kmax/portable"].converter.options == {"portable": True}
    seen = inspect("small_kmax_portable.pth").data
    assert (seen["family"], seen["prefix"]) == ("convnext", "")
    assert "matching_heuristics (a bool)" in seen["beside"]
    back = convert("small_kmax_portable.pth", layout="kmax", load_check=False, output=source.with_name("back.pth"))
    plain = convert(source, layout="kmax", load_check=False)
    assert back.content.tree == plain.content.tree
    assert {outcome.status for outcome in verify(registry, certificate=True)} == {"ok"}


@pytest.mark.slow
def test_a_portable_artifact_is_proved_like_any_other(source):
    convert(source, layout="kmax", portable=True, load_check=False)
    (opening,) = subjects("small/kmax/portable")
    with opening as subject:
        assert parity(subject.source, subject.found, subject.artifact, subject.ours).passed


def test_without_the_mount_a_file_with_short_names_would_be_put_in_the_wrong_place(official):
    """What is refused is refused for a reason: the final norm, left in an unmounted file, goes to a head."""
    weights = {name: torch.from_numpy(a) for name, a in official.items() if not name.startswith("head.")}
    given, _ = matched(detector("backbone.", hidden=SMALL.dims[-1]), weights)
    assert given["sem_seg_head.norm.weight"] == "norm.weight"
    _, skipped = matched(detector("backbone.", hidden=256), weights)
    assert ("norm.weight", "sem_seg_head.norm.weight") in skipped
    assert len(skipped) == 2


def test_a_short_name_that_fits_twice_is_an_error_there():
    weights = {"norm1.weight": torch.ones(256)}
    with pytest.raises(ValueError, match="to multiple keys"):
        matched(detector("backbone.", hidden=256), weights)


@pytest.mark.parametrize(("layout", "name"), [("d2", "norm.weight"), ("mask2former", "norm0.weight")])
def test_a_layout_with_short_names_is_refused_and_told_which_can(source, layout, name):
    with pytest.raises(UsageError, match=f"layout {layout} cannot be portable") as caught:
        convert(source, layout=layout, portable=True)
    assert caught.value.why[0].startswith(f"{name}  (")
    assert "--layout detrex --no-fresh, --layout kmax, " in caught.value.why[-1]
    assert caught.value.next == "--layout mask2former --no-fresh --portable"
    convert(source, layout="mask2former", fresh=False, portable=True, load_check=False)


def test_a_layout_without_a_mount_cannot_leave_it_out():
    family, layout = next((f, one) for f in families() for one in f.layouts if not one.mount)
    with pytest.raises(UsageError, match="has no mount"):
        portable_plan(held(family, layout), layout)


def test_safetensors_cannot_be_portable(source):
    with pytest.raises(UsageError, match="which safetensors cannot say"):
        convert(source, layout="kmax", portable=True, format="safetensors")


NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=5).map(".".join)


@given(st.sets(NAMES, min_size=1, max_size=8), st.sampled_from(MOUNTS))
def test_names_without_doubts_are_matched_with_themselves_under_any_mount(names, mount):
    ours = {name: torch.ones(1) for name in names if name.count(".") >= 2}
    doubts = {line.split("  ")[0] for line in doubtful(names)}
    assert {name for name in names if name.count(".") < 2} <= doubts
    if ours and not set(ours) & doubts:
        assert matched({mount + name: t for name, t in ours.items()}, ours) == ({mount + n: n for n in ours}, [])


def test_a_name_that_another_ends_with_is_doubtful():
    assert list(doubtful(["a.b.c", "x.a.b.c", "xa.b.c"])) == ["a.b.c  (x.a.b.c ends so, too)"]


# -- the zoo's families ------------------------------------------------------------------------------------------------

# The ends of names in heads of Detectron2, Mask2Former and MaskDINO, and in the pyramids around a backbone.
HEADS = [f"{name}.{kind}" for kind in ("weight", "bias") for name in """
    proposal_generator.rpn_head.conv proposal_generator.rpn_head.objectness_logits roi_heads.box_head.conv1.norm
    roi_heads.box_head.fc1 roi_heads.box_predictor.cls_score roi_heads.mask_head.mask_fcn1.norm
    roi_heads.mask_head.deconv backbone.fpn_lateral2.norm backbone.fpn_output2 backbone.simfp_2.1
    backbone.simfp_2.4.norm sem_seg_head.p5.0.norm sem_seg_head.predictor sem_seg_head.pixel_decoder.input_proj.0.0
    sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.sampling_offsets
    sem_seg_head.pixel_decoder.transformer.encoder.layers.0.norm1 sem_seg_head.pixel_decoder.adapter_1.norm
    sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear1 sem_seg_head.pixel_decoder.layer_1.norm
    sem_seg_head.predictor.transformer_self_attention_layers.0.norm sem_seg_head.predictor.decoder_norm
    sem_seg_head.predictor.mask_embed.layers.0 sem_seg_head.predictor.decoder.layers.0.norm1
    sem_seg_head.predictor.decoder.norm sem_seg_head.predictor.decoder.layers.0.cross_attn.value_proj
    """.split()]


def held(family, layout):
    """The toy of a family, as a file in the layout's names holds it."""
    leaves = {name: Leaf(spec.shape, spec.dtype, name) for name, spec in family.table(family.toy).items()}
    made = layout.body.from_canonical({name: leaf for name, leaf in leaves.items() if not layout.omits(name)}).made
    specs = {name: TensorSpec(name, value.shape, value.dtype) for name, value in made.items()}
    return fit(family, layout.body, specs, "", layout)


@pytest.mark.parametrize(("family", "layout"), [(f, one) for f in families() for one in f.layouts if one.mount],
                         ids=lambda x: x.name)
def test_no_portable_file_of_any_family_has_a_name_that_a_head_has(family, layout):
    for fresh in (True, False):
        with suppress(UsageError, CheckFailed):
            plan = portable_plan(held(family, layout), layout, fresh=fresh)
            names = [spec.name for spec in plan.targets]
            assert not [(name, head) for name in names for head in HEADS if head.endswith(f".{name}")]


def test_most_families_have_a_layout_that_can_be_portable():
    """The control: the test above is not about nothing."""
    able = set()
    for family in families():
        for layout in family.layouts:
            with suppress(UsageError, CheckFailed):
                portable_plan(held(family, layout), layout, fresh=False)
                able.add(family.name)
    assert able >= {"convnext", "resnet", "swin", "regnet", "focalnet", "internimage", "mvit"}
    assert "vit" not in able  # pos_embed
