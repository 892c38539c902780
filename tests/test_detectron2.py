"""zooconv's backbones inside Detectron2: the real one where it is installed, else its base class and registry alone.

Everything but these two is real: modules, configs, checkpointer, path manager, hub client.
"""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.config import CfgNode
from support import ROOT
from torch import nn
from zooconv_zoo.convnext import FAMILY as CONVNEXT

from zooconv import UsageError, convert
from zooconv.address import parse
from zooconv.d2config.keys import wanted_of
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.modules import taking_part
from zooconv.names import resolve
from zooconv.plugins import chosen_layout, families, family
from zooconv.reference import MOUNTS, registered_name
from zooconv.testing.checkpoints import lively_weights, random_weights, save_pth, save_safetensors, spelled
from zooconv.zoo import tables, zoo

REAL = find_spec("detectron2") is not None
DOUBLES = Path(__file__).parent / "doubles"
CONFIGS = ROOT / "docs" / "detectron2" / "configs"
WITH_A_MODULE = [f for f in families() if f.backbone and f.name in {t.family for t in tables()} and not f.members]
MODELS = sorted(CONFIGS.glob("mask_rcnn_*.yaml"))


@pytest.fixture(scope="module")
def d2():
    """Detectron2, with zooconv in it."""
    ours = ("zooconv.detectron2.adapter", "zooconv.detectron2.connect")
    if not REAL:
        sys.path.insert(0, str(DOUBLES))
    import zooconv.detectron2

    zooconv.detectron2.setup_environment()
    yield SimpleNamespace(modeling=importlib.import_module("detectron2.modeling"),
                          config=importlib.import_module("detectron2.config"),
                          layers=importlib.import_module("detectron2.layers"), zooconv=zooconv.detectron2,
                          paths=importlib.import_module("detectron2.utils.file_io").PathManager)
    if not REAL:
        sys.path.remove(str(DOUBLES))
        for name in [n for n in sys.modules if n.split(".")[0] == "detectron2" or n in ours]:
            del sys.modules[name]


def toy(d2, known, **options):
    """A family's toy, as a backbone: its first variant, with what differs."""
    variant = next(iter(known.variants))
    return d2.zooconv.backbone(known.name, variant, config=vars(known.toy), **options)


def without_counters(net):
    """What is in a module, but for the counters of batch norms, which torch supplies where a file has none."""
    return {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}


def config(d2, **zooconv):
    cfg = d2.config.get_cfg()
    cfg.merge_from_other_cfg(CfgNode({"MODEL": {"ZOOCONV": zooconv}}))
    return cfg


# -- every family ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", WITH_A_MODULE, ids=lambda f: f.name)
def test_every_reference_module_is_a_backbone_under_a_name_of_its_own(d2, known):
    net = toy(d2, known)
    assert isinstance(net, d2.modeling.Backbone)
    assert type(net).__name__ == registered_name(known)
    assert registered_name(known) in d2.modeling.BACKBONE_REGISTRY
    assert [*without_counters(net)] == [*known.table(known.toy)]  # canonical names, nothing before them
    height, width = known.image_size(known.toy)
    shapes = net.output_shape()
    with torch.no_grad():
        features = net.eval()(torch.randn(1, 3, height, width))
    assert [*features] == [*shapes]
    for name, shape in shapes.items():
        assert isinstance(shape, d2.layers.ShapeSpec)
        assert features[name].shape == (1, shape.channels, height // shape.stride, width // shape.stride)
    assert net.padding_constraints == {"size_divisibility": net.size_divisibility}
    assert net.size_divisibility == max(shape.stride for shape in shapes.values())


def test_names_are_spelled_as_the_families_titles_are():
    assert len({registered_name(f) for f in families()}) == len(families())
    assert {registered_name(family(name)) for name in ("convnextv2", "swinv2", "eva02", "vit", "mvit")} == {
        "ZooConvNeXtV2", "ZooSwinV2", "ZooEVA02", "ZooViT", "ZooMViT"}


@pytest.mark.parametrize("known", WITH_A_MODULE, ids=lambda f: f.name)
def test_what_no_feature_is_made_of_learns_nothing_and_the_rest_has_a_gradient(d2, known):
    net = toy(d2, known).train()
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    sum(f.square().mean() for f in net(torch.randn(2, 3, *known.image_size(known.toy))).values()).backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} == learning
    assert learning


def test_what_takes_part_follows_the_features_that_are_asked_for():
    from zooconv_zoo.convnext.backbone import ConvNeXt

    whole = ConvNeXt(CONVNEXT.toy.depths, CONVNEXT.toy.dims)
    first = ConvNeXt(CONVNEXT.toy.depths, CONVNEXT.toy.dims, out_features=("res2",))
    used = taking_part(first, (64, 64))
    assert {*whole.state_dict()} - taking_part(whole, (64, 64)) == {"norm.weight", "norm.bias"}
    assert {name.split(".")[1] for name in used} == {"0"}
    assert first.training


@pytest.mark.parametrize("layout", MOUNTS)
@pytest.mark.parametrize("known", WITH_A_MODULE, ids=lambda f: f.name)
def test_its_layouts_hold_every_tensor_of_the_module_and_nothing_else(d2, known, layout):
    whole = fit(known, chosen_layout(known, "zooconv").body, known.table(known.toy))  # its own names, as from a file
    plan = make_plan(whole, chosen_layout(known, layout))
    places = {MOUNTS[layout] + name: tuple(t.shape) for name, t in without_counters(toy(d2, known)).items()}
    assert {t.name: t.shape for t in plan.targets} == places


def test_any_architecture_of_timm_is_a_backbone_by_its_name(d2):
    net = d2.zooconv.backbone("timm", "mobilenetv3_small_050", drop_path=0.1)
    assert (type(net).__name__, "ZooTimm" in d2.modeling.BACKBONE_REGISTRY) == ("ZooTimm", True)
    assert isinstance(net, d2.modeling.Backbone)
    features = net.eval()(torch.randn(1, 3, 64, 96))
    assert {name: (f.shape[1], 64 // f.shape[2]) for name, f in features.items()} == {
        name: (shape.channels, shape.stride) for name, shape in net.output_shape().items()}
    with pytest.raises(UsageError, match="has no variant 'mobilenet_v9'"):
        d2.zooconv.backbone("timm", "mobilenet_v9")


# -- one, closely ------------------------------------------------------------------------------------------------------


def test_it_is_built_from_a_config(d2):
    cfg = config(d2, VARIANT="atto", OUT_FEATURES=["res3", "res5"], FREEZE_AT=2, DROP_PATH=0.2, CHECKPOINTING=True,
                 CONFIG={"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]})
    cfg.MODEL.BACKBONE.NAME = "ZooConvNeXt"
    net = d2.modeling.build_backbone(cfg)
    shapes = {name: (s.channels, s.stride) for name, s in net.output_shape().items()}
    assert shapes == {"res3": (16, 8), "res5": (32, 32)}
    assert (net.checkpointing, net.stages[3][0].drop_path.probability) == (True, pytest.approx(0.2))
    frozen = {name.rsplit(".", 1)[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert {f.split(".")[0] + f.split(".")[1] for f in frozen if f != "norm"} == {"downsample_layers0", "stages0"}


def test_what_only_its_family_takes_stands_under_options(d2):
    cfg = config(d2, VARIANT=50, OPTIONS={"stride_in_1x1": True})
    cfg.MODEL.BACKBONE.NAME = "ZooResNet"
    net = d2.modeling.build_backbone(cfg)
    assert (net.res3[0].conv1.stride, net.res3[0].conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize("frozen", [True, False])
def test_norms_keep_their_statistics_unless_told_otherwise(d2, frozen):
    net = toy(d2, family("resnet"), freeze_norms=frozen).train()
    norms = {n: t.clone() for n, t in net.state_dict().items() if "running" in n}
    net(torch.randn(2, 3, 64, 64))
    same = all(torch.equal(net.state_dict()[n], t) for n, t in norms.items())
    assert same == frozen
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert any(".norm." in n for n in learning) != frozen
    assert "res5.0.conv1.weight" in learning


def test_a_copy_of_it_is_one_as_well(d2):
    net = toy(d2, CONVNEXT)
    again = copy.deepcopy(net)
    assert isinstance(again, d2.modeling.Backbone)
    assert again.output_shape() == net.output_shape()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(net.eval()(images)["res5"], again.eval()(images)["res5"])


@pytest.mark.parametrize(("wrong", "words"), [
    ({"VARIANT": "giant"}, ["has no variant 'giant'", "variants: atto"]),
    ({}, ["has no variant 'None'"]),
    ({"VARIANT": "atto", "FAMILY": "swin"}, ["MODEL.ZOOCONV.FAMILY is swin", "ZooConvNeXt"]),
    ({"VARIANT": "atto", "CONFIG": {"heads": 3}}, ["does not fit ConvNeXt", "heads"]),
    ({"VARIANT": "atto", "OPTIONS": {"window": 7}}, ["cannot be built of these options", "window"]),
    ({"VARIANT": "atto", "OUT_FEATURES": ["res6"]}, ["has no feature 'res6'"]),
], ids=lambda v: " ".join(v) if isinstance(v, dict) else "")
def test_what_is_wrong_in_a_config_is_told(d2, wrong, words):
    cfg = config(d2, **wrong)
    cfg.MODEL.BACKBONE.NAME = "ZooConvNeXt"
    with pytest.raises(UsageError) as caught:
        d2.modeling.build_backbone(cfg)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_images_have_three_channels(d2):
    cfg = config(d2, VARIANT="atto")
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.PIXEL_MEAN = "ZooConvNeXt", [0.0] * 4
    with pytest.raises(UsageError, match="3 channels, not 4"):
        d2.modeling.build_backbone(cfg)


def test_a_family_whose_module_is_no_detectors_backbone_says_so(d2):
    with pytest.raises(UsageError, match="no backbone for a detector"):
        d2.zooconv.backbone("vgg", next(iter(family("vgg").variants)))


def test_the_defaults_are_in_every_config_and_adding_them_again_changes_nothing(d2):
    cfg = d2.config.get_cfg()
    before = cfg.MODEL.ZOOCONV.clone()
    cfg.MODEL.ZOOCONV.VARIANT = "tiny"
    d2.zooconv.add_zooconv_config(cfg)
    assert cfg.MODEL.ZOOCONV.VARIANT == "tiny"
    assert before == d2.config.get_cfg().MODEL.ZOOCONV


# -- weights -----------------------------------------------------------------------------------------------------------


class Detector(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize("layout", ["zooconv", "d2"])
def test_its_weights_are_loaded_by_name_with_nothing_missing_and_nothing_left(d2, work, layout, caplog):
    weights = lively_weights(CONVNEXT, CONVNEXT.toy)
    path = convert(save_pth(work / "net.pth", weights), layout=layout, load_check=False).path
    model = Detector(toy(d2, CONVNEXT))
    Checkpointer(model).load(str(path))
    assert caplog.records == []
    assert all(torch.equal(model.backbone.state_dict()[n], torch.from_numpy(a)) for n, a in weights.items())
    Checkpointer(Detector(toy(d2, family("swin")))).load(str(path))  # the control
    assert "not found in the checkpoint" in caplog.text


def test_an_artifact_of_these_layouts_is_recognised_and_verified_as_any_other(work, zooconv):
    done = convert(save_pth(work / "net.pth", lively_weights(CONVNEXT, CONVNEXT.toy)), layout="zooconv-fpn",
                   load_check=False)
    again = convert(done.path, layout="d2", load_check=False, output=work / "again.pth")
    plain = convert(work / "net.pth", layout="d2", load_check=False, output=work / "plain.pth")
    assert again.written.file.sha256 == plain.written.file.sha256
    assert zooconv("verify", "--certificate").code == 0
    assert zooconv("parity", "net/zooconv-fpn", "--against", "timm").code == 0


def test_the_detectors_path_manager_knows_the_addresses(d2):
    assert d2.paths.isfile("zoo://convnext_tiny_22k@maskdino")
    assert not d2.paths.isfile("zoo://no_such_model")


def test_a_variable_is_enough(work):
    """DETECTRON2_ENV_MODULE, and not a line of code."""
    code = ("import detectron2\nfrom detectron2.utils.file_io import PathManager\n"
            "from detectron2.modeling import BACKBONE_REGISTRY\nfrom detectron2.config import get_cfg\n"
            "print(PathManager.isfile('zoo://resnet50_tv@fpn'), 'ZooSwin' in BACKBONE_REGISTRY, "
            "'ZOOCONV' in get_cfg().MODEL)")
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), "" if REAL else str(DOUBLES)]))
    for module, shown in (("zooconv.detectron2", "True True True"), ("", "False False False")):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                              env=os.environ | {"PYTHONPATH": path, "DETECTRON2_ENV_MODULE": module})
        assert done.stdout.strip() == shown, done.stderr


# -- the configs of the documentation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", MODELS, ids=lambda p: p.stem)
def test_a_config_names_a_backbone_and_the_weights_that_fit_it(d2, file):
    cfg = d2.config.get_cfg()
    cfg.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(file))))
    address, ours = parse(cfg.MODEL.WEIGHTS), cfg.MODEL.ZOOCONV
    model = resolve(address.model, zoo()).model
    assert (model.family, model.variant) == (ours.FAMILY, str(ours.VARIANT))
    assert cfg.MODEL.BACKBONE.NAME in d2.modeling.BACKBONE_REGISTRY
    known = family(model.family)
    plan = make_plan(fit(known, chosen_layout(known, "zooconv").body, known.table(known.variants[model.variant])),
                     chosen_layout(known, address.chosen.layout), choices=address.chosen.choices)
    said = wanted_of(plan, cfg.MODEL.WEIGHTS, model).keys  # what zooconv itself says about these weights
    assert said["MODEL"]["BACKBONE"]["NAME"] == cfg.MODEL.BACKBONE.NAME
    assert said["MODEL"]["ZOOCONV"].get("CONFIG", {}) == dict(ours.CONFIG)
    assert (said["MODEL"]["PIXEL_MEAN"], said["MODEL"]["PIXEL_STD"]) == (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    assert said["INPUT"]["FORMAT"] == cfg.INPUT.FORMAT


def test_every_family_with_a_zoo_has_a_config():
    told = {CfgNode.load_yaml_with_base(str(file))["MODEL"]["ZOOCONV"]["FAMILY"] for file in MODELS}
    assert told == {f.name for f in WITH_A_MODULE}


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="detectron2 is not installed")
@pytest.mark.parametrize("file", MODELS, ids=lambda p: p.stem)
def test_the_real_detector_is_built_and_the_real_checkpointer_loads_it(d2, file, work, monkeypatch, local_hub,
                                                                      hub_client):
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    cfg = d2.config.get_cfg()
    cfg.merge_from_file(str(file))
    cfg.MODEL.DEVICE = "cpu"
    model = resolve(parse(cfg.MODEL.WEIGHTS).model, zoo()).model
    known = family(model.family)
    member = known.variants[model.variant]
    weights = random_weights(known, member)
    dialect = next(d for d in known.dialects if not d.from_canonical(known.table(member)).unmatched)
    file_name = (model.files or ("model.safetensors",))[0]
    save = save_pth if model.files else save_safetensors
    local_hub.add(model.repo, {file_name: save(work / Path(file_name).name, spelled(dialect, weights))})
    monkeypatch.setenv("ZOOCONV_CACHE", str(work / "cache"))
    d2.zooconv.register(d2.paths, hub=hub_client)
    detector = build_model(cfg)
    seen = []
    monkeypatch.setattr(DetectionCheckpointer, "_log_incompatible_keys", lambda self, keys: seen.append(keys))
    DetectionCheckpointer(detector).load(cfg.MODEL.WEIGHTS)
    (keys,) = seen
    assert keys.unexpected_keys == keys.incorrect_shapes == []
    own = ("backbone.fpn_", "backbone.simfp_", "proposal_generator.", "roi_heads.")
    assert [name for name in keys.missing_keys if not name.startswith(own)] == []
    with torch.no_grad():
        features = detector.backbone.eval()(torch.randn(1, 3, 128, 192))
    assert {name: f.shape[2] for name, f in features.items()} == {"p2": 32, "p3": 16, "p4": 8, "p5": 4, "p6": 2}
