"""InternImage: names and shapes of all sizes, layouts, and the reference backbone, held against the formula.

No package that installs has it, so nothing here is held against one; the oracle of the deformable convolution is the
paper's equation, place by place.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import DATA
from zooconv_zoo.internimage import FAMILY
from zooconv_zoo.internimage.backbone import InternImage, build
from zooconv_zoo.internimage.dialects import OFFICIAL, TRANSFORMERS
from zooconv_zoo.internimage.family import TOY, VARIANTS, InternImageConfig
from zooconv_zoo.internimage.layers import gathered

from zooconv import CheckFailed, UsageError, convert
from zooconv.d2config.keys import wanted_of
from zooconv.mapping.expr import Leaf
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.modules import unseen
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families
from zooconv.recognise import recognise
from zooconv.tensor import DTYPES, TensorSpec
from zooconv.testing.checkpoints import lively_weights, random_array, save_pth, spelled
from zooconv.zoo import zoo

# each kind of member in small
SMALL = InternImageConfig(8, (1, 2, 1, 1), (2, 2, 4, 8))
KINDS = {"tiny": SMALL, "base": replace(SMALL, layer_scale=True, post_norm=True), "huge": TOY,
         "giant": replace(TOY, post_norm=True, res_post_norm=False),
         "trained tiny": replace(SMALL, layer_scale=True)}  # detectors give it layer scales


def read(shapes):
    return recognise({n: TensorSpec(n, shape) for n, shape in shapes.items()}, families(), what="x")


def shapes_of(arrays):
    return {name: tuple(array.shape) for name, array in arrays.items()}


# -- layouts ---------------------------------------------------------------------------------------------------------


def planned(layout, config, *, fresh=True):
    return make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(config)), chosen_layout(FAMILY, layout), fresh=fresh)


def forms(plan):
    return {t.name: (list(t.shape), DTYPES[t.dtype].torch) for t in plan.targets}


def test_the_layout_of_detrex_is_what_its_class_holds():
    path = DATA / "manifests" / "internimage" / "detrex-internimage_t.json.gz"
    wanted = json.loads(gzip.decompress(path.read_bytes()))
    keys = {name: (k["shape"], k["dtype"]) for name, k in wanted["keys"].items()}
    plan = planned("detrex", VARIANTS["tiny"])
    assert forms(plan) == keys
    scales = {name for name in keys if ".gamma" in name}
    assert set(plan.fresh) == scales  # which the trained ones lack, and the class starts at 1
    assert forms(planned("detrex", VARIANTS["tiny"], fresh=False)).keys() == keys.keys() - scales
    assert forms(plan) != forms(planned("detrex", VARIANTS["small"]))  # the control: it can fail
    assert not planned("detrex", VARIANTS["base"]).fresh
    assert not planned("detrex", VARIANTS["huge"]).fresh


def test_glees_names_stand_bare_and_its_config_says_what_differs():
    plan = planned("glee", VARIANTS["huge"])
    assert "levels.0.blocks.0.dcn.offset.weight" in forms(plan)
    assert wanted_of(plan, "x.pth").keys["MODEL"]["INTERNIMAGE"] == {
        "CHANNELS": 320, "DEPTHS": [6, 6, 32, 6], "GROUPS": [10, 20, 40, 80], "OFFSET_SCALE": 1.0, "LAYER_SCALE": None,
        "POST_NORM": False, "RES_POST_NORM": True, "DW_KERNEL_SIZE": 5, "LEVEL2_POST_NORM": True,
        "LEVEL2_POST_NORM_BLOCK_IDS": [5, 11, 17, 23, 29], "CENTER_FEATURE_SCALE": True, "PRETRAINED_WEIGHT": "x.pth"}
    large = wanted_of(planned("glee", VARIANTS["large"]), "x.pth").keys["MODEL"]["INTERNIMAGE"]
    assert (large["OFFSET_SCALE"], large["LAYER_SCALE"], large["LEVEL2_POST_NORM_BLOCK_IDS"]) == (2.0, 1.0, None)


# -- the authors' files ------------------------------------------------------------------------------------------------


def heads(config):
    """The classifier's tensors as the official module has them."""
    if not config.center_feature_scale:
        wide = config.dims[-1] * 3 // 2
        norm = dict.fromkeys([f"conv_head.1.0.{part}" for part in ("weight", "bias", "running_mean", "running_var")],
                             (wide,))
        return {"conv_head.0.weight": (wide, config.dims[-1], 1, 1), "head.weight": (5, wide), "head.bias": (5,)} | norm
    pool = "clip_projector."
    layers = ["dcnv3_head_x4.0", "dcnv3_head_x3", f"{pool}norm1_q.0", f"{pool}norm1_k.0", f"{pool}norm1_v.0",
              f"{pool}cross_dcn.proj", "fc_norm.0", "head"]
    bare = [f"{pool}cross_dcn.{part}" for part in ("q_bias", "k_bias", "v_bias", "q.weight", "k.weight", "v.weight")]
    return dict.fromkeys([f"{layer}.{part}" for layer in layers for part in ("weight", "bias")] + bare, (4,))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dialect", "prefix"), [(OFFICIAL, ""), (TRANSFORMERS, "model.")], ids=["official", "hub"])
def test_every_size_is_recognised_in_the_authors_names(variant, dialect, prefix):
    config = VARIANTS[variant]
    table = {n: Leaf(spec.shape, spec.dtype, n) for n, spec in FAMILY.table(config).items()}
    made = {n: value.shape for n, value in dialect.from_canonical(table).made.items()} | heads(config)
    found = read({prefix + n: shape for n, shape in made.items()})
    assert (found.family.name, found.variant, found.prefix) == ("internimage", variant, prefix)
    assert set(found.canonical) == set(table)
    assert len(found.dropped) == len(heads(config))


@pytest.mark.parametrize("kind", KINDS)
def test_the_hubs_files_become_the_same_as_the_official_ones(kind, work):
    weights = lively_weights(FAMILY, KINDS[kind])
    hub = spelled(TRANSFORMERS, weights, "model.")
    assert any("layer_scale" in name for name in hub) == KINDS[kind].layer_scale
    head = {n: random_array(n, shape) for n, shape in heads(KINDS[kind]).items()}
    files = [save_pth(work / "a.pth", weights | head), save_pth(work / "b.pth", hub)]
    for layout in ("d2", "detrex") if kind == "tiny" else ("d2",):
        first, second = (convert(file, layout=layout, load_check=False) for file in files)
        assert first.written.file.sha256 == second.written.file.sha256


def test_a_trained_detector_is_read_under_its_prefix():
    weights = shapes_of(lively_weights(FAMILY, KINDS["trained tiny"]))
    neck = {"neck.lateral_convs.0.conv.weight": (8, 8, 1, 1)}
    found = read({f"backbone.{n}": shape for n, shape in weights.items()} | neck)
    assert (found.prefix, found.config) == ("backbone.", KINDS["trained tiny"])


def test_fresh_scales_change_nothing(work):
    """A tiny one with and without the layer scales that detrex adds."""
    weights = lively_weights(FAMILY, SMALL)
    done = convert(save_pth(work / "tiny.pth", weights), layout="detrex", load_check=False)
    state = {n.removeprefix("backbone."): t for n, t in torch.load(done.path)["model"].items()}
    plain, scaled = InternImage(SMALL), InternImage(KINDS["trained tiny"])
    plain.load_state_dict({n: torch.from_numpy(a) for n, a in weights.items()})
    scaled.load_state_dict(state)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for name, feature in plain(images).items():
        assert torch.equal(feature, scaled(images)[name])


def test_a_convolution_of_eight_places_is_not_taken_for_one_of_nine():
    """remove_center of the official code, which no published classifier has."""
    shapes = shapes_of(lively_weights(FAMILY, SMALL))
    eight = {n: (shape[0] // 9 * 8, *shape[1:]) if ".dcn.mask." in n or ".dcn.offset." in n else shape
             for n, shape in shapes.items()}
    with pytest.raises(CheckFailed):
        read(eight)


def test_names_that_people_type():
    assert resolve("internimage_l_22k_192to384", zoo()).repo == "OpenGVLab/internimage_l_22k_384"
    with pytest.raises(UsageError, match="could be any of 2"):
        resolve("internimage_l", zoo())


# -- what it computes --------------------------------------------------------------------------------------------------


def interpolated(image, y, x):
    """`image` (H, W, C) at a point, between its four neighbours; beyond the edges it is zero."""
    total = np.zeros(image.shape[-1])
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_deformable_convolution_is_that_of_the_paper(scale):
    """Equation 2, place by place; as in the official dcnv3_im2col_cuda.cuh x is outermost, and an offset is x, y."""
    number, height, width, groups, each = 2, 3, 5, 2, 3
    random = np.random.default_rng(0)
    x = random.normal(size=(number, height, width, groups * each))
    offsets = random.normal(size=(number, height, width, groups, 9, 2)) * 1.5
    masks = random.random((number, height, width, groups, 9))
    wanted = np.zeros_like(x)
    for n, row, column, group in np.ndindex(number, height, width, groups):
        channels = slice(group * each, (group + 1) * each)
        points = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
        for k, (right, down) in enumerate(points):
            dx, dy = offsets[n, row, column, group, k]
            value = interpolated(x[n, :, :, channels], row + (down + dy) * scale, column + (right + dx) * scale)
            wanted[n, row, column, channels] += masks[n, row, column, group, k] * value
    found = gathered(*map(torch.from_numpy, (x, offsets, masks)), scale).numpy()
    assert np.abs(found - wanted).max() < 1e-12
    swapped = gathered(*map(torch.from_numpy, (x, offsets[..., ::-1].copy(), masks)), scale).numpy()
    assert np.abs(swapped - wanted).max() > 0.1  # the control


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_backbone_is_the_table_and_every_tensor_takes_part(kind):
    config = KINDS[kind]
    module = build(config).double().eval()
    weights = lively_weights(FAMILY, config)
    assert {n: tuple(t.shape) for n, t in module.state_dict().items()} == shapes_of(weights)
    assert list(module.state_dict()) == list(weights)
    module.load_state_dict({n: torch.from_numpy(a) for n, a in weights.items()})
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert unseen(module, lambda m: m.outputs(images)) == []


def test_as_a_detector_uses_it():
    net = InternImage(SMALL, out_features=("res3", "res5"), drop_path=0.5, checkpointing=True)
    features = net(torch.randn(2, 3, 64, 96))
    assert {n: (f.shape[1], 64 // f.shape[2]) for n, f in features.items()} == {
        n: (s.channels, s.stride) for n, s in net.output_shape().items()}
    learning = {n.split(".")[1] for n, p in net.freeze(3).named_parameters() if p.requires_grad}
    assert learning == {"2", "3"}


def test_offsets_count_double_in_the_large_ones():
    doubled = [variant for variant, config in VARIANTS.items() if config.offset_scale == 2]
    assert doubled == ["large", "xlarge"]


def test_its_card_says_that_its_computation_is_not_verified(work, zooconv):
    convert(save_pth(work / "tiny.pth", lively_weights(FAMILY, SMALL)), load_check=False)
    page = zooconv("card", "tiny").out
    assert "| parity | not verified | its family names no package to hold it against |" in page
