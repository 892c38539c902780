"""The config that goes with the weights: what it says is what the backbone is built of, and its project accepts it.

`data/declared_configs.json` has the keys and defaults that the projects' own config.py declare, read off them.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from fvcore.common.config import CfgNode
from support import DATA
from zooconv_zoo.convnext.family import ConvNeXtConfig
from zooconv_zoo.dinov3.family import DINOv3Config
from zooconv_zoo.mvit.family import MViTConfig
from zooconv_zoo.regnet.family import RegNetConfig
from zooconv_zoo.swin.family import SwinConfig
from zooconv_zoo.timm.architectures import by_name

from zooconv import CheckFailed, UsageError, convert
from zooconv.d2config.goal import wanted_for
from zooconv.d2config.keys import Wanted, dotted
from zooconv.d2config.text import config_of, form_of
from zooconv.mapping.change import in_turn
from zooconv.mapping.lazy import Call, Named
from zooconv.plugins import chosen_layout, families, family
from zooconv.testing.checkpoints import random_weights, save_safetensors, spelled
from zooconv.upstream import import_package

DECLARED = json.loads((DATA / "declared_configs.json").read_text())
FAMILIES = [f for f in families() if f.name not in ("vgg", "toy")]
PROJECTS = [(f, project) for f in FAMILIES for project in f.layout_names]


def wanted(name, project, config):
    """What a member's config must say; nothing for one that the layout cannot hold."""
    known = family(name)
    layout = chosen_layout(known, project)
    after = in_turn(config, layout.changes)[1]
    return None if layout.refusal(after) else Wanted(known, layout, project, after, "weights/x.pth")


def members(known, project):
    yield from (one for config in known.variants.values() if (one := wanted(known.name, project, config)))


class Built:
    """What a stub makes when it is called: its name, and what it was given."""

    def __init__(self, name, *first, **arguments):
        self.name, self.first, self.arguments = name, first, arguments

    def __getattr__(self, name):
        return self.arguments[name]


class Stub(ModuleType):
    """A module that has everything; each thing remembers how it was called."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Name(f"{self.__name__}:{name}")


class Name(str):
    """Something imported."""

    __slots__ = ()

    def __getattr__(self, name):
        return Name(f"{self}.{name}")

    def __call__(self, *first, **arguments):
        return Built(str(self), *first, **arguments)


class Spaces(SimpleNamespace):
    """A config's `model`, `train` or `dataloader`: every part of it is there already."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, Spaces())
        return getattr(self, name)


@pytest.fixture
def lazily(monkeypatch):
    """Run the Python of a LazyConfig among stubs: `model`, `train`, `dataloader` as it leaves them."""
    def run(text):
        code = compile(text, "config.py", "exec")
        for line in text.splitlines():
            if line.startswith("from "):
                module = line.split()[1]
                for end in range(1, module.count(".") + 2):
                    name = ".".join(module.split(".")[:end])
                    monkeypatch.setitem(sys.modules, name, Stub(name))
        monkeypatch.setattr(sys.modules["detectron2.config"], "LazyCall", lambda name: name, raising=False)
        space = {name: Spaces() for name in ("model", "train", "dataloader")}
        exec(code, space)
        return SimpleNamespace(**{name: space[name] for name in ("model", "train", "dataloader")})
    return run


# -- it is read as it is meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "project"), PROJECTS, ids=lambda x: getattr(x, "name", x))
def test_every_config_is_read_as_what_it_is_meant_to_say(known, project, lazily):
    found = list(members(known, project))
    assert found
    for one in (found[0], found[-1]):
        text = config_of(one)
        if form_of(one) == "yaml":
            assert yaml.safe_load(text) == one.keys
        else:
            made = lazily(text)
            assert (made.train.init_checkpoint, made.model.pixel_mean, made.model.pixel_std) == (
                "weights/x.pth", one.keys["MODEL"]["PIXEL_MEAN"], one.keys["MODEL"]["PIXEL_STD"])
            called = one.required.lazy(one.config, one.keys["MODEL"])
            node = made.model
            for part in (called.at or one.layout.mount.strip(".")).split("."):
                node = getattr(node, part)
            assert node.name == called.call.target
            assert plain(node.arguments) == plain({**called.call.arguments, **called.free})


def plain(value):
    if isinstance(value, Call):
        return value.target, plain(tuple(value.first)), plain(value.arguments)
    if isinstance(value, Built):
        return value.name, plain(value.first), plain(value.arguments)
    if isinstance(value, Named):
        return value.target
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


def test_no_config_leaves_a_question_open():
    for known, project in PROJECTS:
        assert not [one for one in members(known, project) if '"?"' in config_of(one)]


# -- the backbone is built of it ---------------------------------------------------------------------------------------


def tup(values):
    return tuple(values)


FROM_YAML = {
    ("convnext", "dimaskdino"): lambda m: ConvNeXtConfig(tup(m["CONVNEXT"]["DEPTHS"]), tup(m["CONVNEXT"]["DIMS"])),
    ("convnext", "gabrysse"): lambda m: ConvNeXtConfig(tup(m["CONVNEXT"]["DEPTHS"]), tup(m["CONVNEXT"]["EMBED_DIM"])),
    ("convnext", "fpn"): lambda m: ConvNeXtConfig(tup(m["CONVNEXT"]["DEPTHS"]), tup(m["CONVNEXT"]["DIMS"])),
    ("swin", "maskdino"): lambda m: swin(m["SWIN"]),
    ("swin", "glee"): lambda m: swin(m["SWIN"]),
    ("swin", "swint_detectron2"): lambda m: swin(m["SWINT"] | {"PRETRAIN_IMG_SIZE": 0}),
}


def swin(s):
    return SwinConfig(s["EMBED_DIM"], tup(s["DEPTHS"]), tup(s["NUM_HEADS"]), s["WINDOW_SIZE"],
                      s["PRETRAIN_IMG_SIZE"] // 4 if s["APE"] else 0)


FROM_LAZY = {
    ("convnext", "detrex"): ("backbone", lambda b: ConvNeXtConfig(tup(b.depths), tup(b.dims))),
    ("swin", "fpn"): ("backbone.bottom_up", lambda b: SwinConfig(b.embed_dim, tup(b.depths), tup(b.num_heads),
                                                                 b.window_size)),
    ("regnet", "fpn"): ("backbone.bottom_up", lambda b: RegNetConfig(
        tup(b.depths), tup(b.widths), tup(b.group_widths), b.stem_width, b.se_ratio)),
    ("dinov3", "vitdet"): ("backbone.net", lambda b: DINOv3Config(**b.config.arguments)),
    ("mvit", "fpn"): ("backbone.bottom_up", lambda b: MViTConfig(
        tup(b - a for a, b in zip((-1, *b.last_block_indexes), b.last_block_indexes, strict=False)),
        tup(b.embed_dim << s for s in range(4)), tup(b.num_heads << s for s in range(4)), b.img_size // 4,
        b.adaptive_kv_stride)),
}


@pytest.mark.parametrize(("name", "project"), FROM_YAML)
def test_the_tensors_of_the_numbers_in_the_yaml_are_those_of_the_file(name, project):
    known = family(name)
    for one in members(known, project):
        built = FROM_YAML[name, project](yaml.safe_load(config_of(one))["MODEL"])
        assert known.table(built) == known.table(one.config)


@pytest.mark.parametrize(("name", "project"), FROM_LAZY)
def test_the_tensors_of_the_numbers_in_the_lazy_config_are_those_of_the_file(name, project, lazily):
    known = family(name)
    place, config = FROM_LAZY[name, project]
    for one in members(known, project):
        node = lazily(config_of(one)).model
        for part in place.split("."):
            node = getattr(node, part)
        assert known.table(config(node)) == known.table(one.config)


def test_a_resnets_stages_have_the_channels_of_its_tensors(lazily):
    """`make_default_stages` makes what its depth says; `make_stage`, what its arguments say."""
    known = family("resnet")
    for one in members(known, "detrex"):
        backbone = lazily(config_of(one)).model.backbone
        table = known.table(one.config)
        if isinstance(backbone.stages, Built):
            assert backbone.stages.depth == one.config.layers
            assert table["res2.0.conv2.weight"].shape[1] == 64
            assert table["res2.0.conv1.weight"].shape[1] == 64
            continue
        for s, stage in enumerate(backbone.stages, 2):
            assert table[f"res{s}.{stage.num_blocks - 1}.conv1.weight"].shape[1] == stage.out_channels
            assert f"res{s}.{stage.num_blocks}.conv1.weight" not in table
            assert len(stage.stride_per_block) == stage.num_blocks
            if one.config.bottleneck:
                width = stage.bottleneck_channels
                assert table[f"res{s}.0.conv2.weight"].shape[:2] == (width, width // stage.num_groups)


@pytest.mark.parametrize("model", ["convnext_tiny_22k", "resnet50.a1_in1k", "vit_small_patch16_224.augreg_in1k"])
def test_detrex_wraps_the_features_of_timm_that_have_a_place_for_every_tensor(model, lazily):
    timm, one = import_package("timm"), wanted_for(model, "detrex-timm")
    made = lazily(config_of(one)).model
    asked = {key: made.backbone.arguments[key] for key in ("model_name", "features_only", "out_indices")}
    features = timm.create_model(**asked)
    entry = by_name()[asked["model_name"]]
    assert {*features.state_dict()} == {entry.renamed(row.name) for row in entry.kept()}
    taken = {f"p{index}": channels for index, channels, stride in zip(
        asked["out_indices"], features.feature_info.channels(), features.feature_info.reduction(), strict=True)
        if stride >= 8}
    assert made.neck.in_features == [*taken]
    assert {name: shape.channels for name, shape in made.neck.input_shapes.items()} == taken


def test_a_perceptrons_ratio_gives_the_channels_of_the_file():
    """Detectron2's ViT and detrex' EVA-02 make int(embed_dim * mlp_ratio)."""
    for name, project in (("vit", "vitdet"), ("eva02", "detrex")):
        for one in members(family(name), project):
            said = one.required.lazy(one.config, {}).call.arguments
            assert int(said["embed_dim"] * said["mlp_ratio"]) == one.config.hidden


# -- the project accepts it --------------------------------------------------------------------------------------------

WHOSE = {"dimaskdino": "dimaskdino", "maskdino": "maskdino", "oneformer": "oneformer", "kmax": "kmax",
         "uninext": "uninext", "uninext-vit": "uninext", "gabrysse": "gabrysse", "glee": "glee", "detic": "detic"}


def cfg(project):
    """A project's CfgNode before any YAML is read, as far as backbones go."""
    made = CfgNode(DECLARED["detectron2"])
    own = CfgNode(DECLARED[project])
    made.set_new_allowed(True)
    made.merge_from_other_cfg(own)
    made.set_new_allowed(False)
    for node in (made.MODEL, *(n for n in made.MODEL.values() if isinstance(n, CfgNode))):
        node.set_new_allowed(False)
    return made


CASES = [(f, p, WHOSE[p]) for f, p in PROJECTS if p in WHOSE and (f.name, p) not in (
    ("convnext", "maskdino"), ("focalnet", "maskdino"))] + [
    (family("resnet"), "d2", "detectron2"), (family("resnet"), "fpn", "detectron2"),
    (family("resnet"), "c4", "detectron2"), (family("resnet"), "bn", "detectron2"),
    (family("convnext"), "fpn", "convnext-fpn")]


@pytest.mark.parametrize(("known", "project", "declared"), CASES, ids=lambda x: getattr(x, "name", x))
def test_a_projects_own_config_takes_every_line(known, project, declared, tmp_path):
    for one in members(known, project):
        if getattr(one.config, "deep_stem", False):  # projects/DeepLab declares what these need
            continue
        config = cfg(declared)
        path = tmp_path / "x.yaml"
        path.write_text(config_of(one))
        config.merge_from_file(str(path))
        for key, value in dotted(one.keys).items():
            node = config
            for part in key.split("."):
                node = node[part]
            assert node == value or list(node) == list(value)


def test_the_control_a_key_of_another_project_is_refused(tmp_path):
    one = next(members(family("convnext"), "dimaskdino"))
    (tmp_path / "x.yaml").write_text(config_of(one))
    with pytest.raises(KeyError, match="DIMS"):
        cfg("gabrysse").merge_from_file(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize(("known", "project", "declared"), CASES, ids=lambda x: getattr(x, "name", x))
def test_what_counts_in_silence_is_what_the_project_declares(known, project, declared):
    required = chosen_layout(known, project).required_by(project)
    real = dotted({**DECLARED["detectron2"]["MODEL"], **DECLARED[declared]["MODEL"]})
    assert {key: real.get(key) for key in dotted(required.declares)} == dotted(required.declares)


# -- what may be named -------------------------------------------------------------------------------------------------


def test_a_model_needs_neither_its_file_nor_the_hub(zooconv):
    done = zooconv("config", "convnext_tiny_22k", "--layout", "oneformer", env={"HF_HUB_OFFLINE": "1"})
    said = yaml.safe_load(done.out)["MODEL"]
    assert done.code == 0
    assert said["WEIGHTS"] == "zoo://convnext_tiny_22k@oneformer"
    assert said["CONVNEXT"]["DEPTHS"] == [3, 3, 9, 3]


def test_a_change_that_is_asked_for_is_in_the_config_and_in_the_name_of_the_weights():
    one = wanted_for("dinov2_vitb14", "vitdet", {"patch": 16})
    assert one.weights == "zoo://vit_base_patch14_dinov2.lvd142m@vitdet,patch=16"
    assert "    patch_size=16,\n" in config_of(one)


def test_colours_that_are_turned_round_are_so_in_the_config():
    keys = wanted_for("convnext_tiny_22k", "maskdino", {"bgr": True}).keys
    assert (keys["INPUT"]["FORMAT"], keys["MODEL"]["PIXEL_MEAN"]) == ("BGR", [103.53, 116.28, 123.675])


def test_an_artifact_is_named_by_its_path_and_says_what_its_source_did(source, work):
    done = convert(source, layout="maskdino", load_check=False)
    one = wanted_for("small", "oneformer")
    assert (one.weights, one.project, one.config) == (str(done.path), "oneformer", done.preview.plan.config)
    assert wanted_for(str(done.path)).keys == done.data["detectron2"]
    assert wanted_for("small/maskdino").keys == done.data["detectron2"]


def test_an_artifact_whose_colours_were_turned_round_is_known_by_its_record(source, work):
    done = convert(source, bgr=True, load_check=False)
    assert wanted_for(str(done.path)).keys == done.data["detectron2"]
    assert done.data["detectron2"]["INPUT"]["FORMAT"] == "BGR"


def test_a_checkpoint_is_named_by_the_file_that_it_would_become(source, work):
    assert wanted_for(str(source), "uninext").weights == "small_uninext.pth"


def test_several_artifacts_are_told_apart_by_their_layout(source, work):
    for layout in ("maskdino", "fpn"):
        convert(source, layout=layout, load_check=False)
    with pytest.raises(UsageError, match="any of 2 artifacts"):
        wanted_for("small")
    assert wanted_for("small", "fpn").weights == "small_fpn.pth"


def test_a_model_is_known_in_a_layout_though_its_artifacts_are_in_others(source, work):
    convert(source, layout="maskdino", name="convnext_tiny_22k", load_check=False)
    assert wanted_for("convnext_tiny_22k", "maskdino").weights == "small_maskdino.pth"
    for layout in ("kmax", "detrex-timm"):  # the second is of the family that stands for all architectures
        assert wanted_for("convnext_tiny_22k", layout).weights == f"zoo://convnext_tiny_22k@{layout}"


def test_a_file_in_an_upstreams_names_is_no_candidate_for_a_config(source, work):
    convert(source, layout="maskdino", load_check=False)
    convert(source, to="torchvision", load_check=False)
    assert wanted_for("small").weights == "small_maskdino.pth"


def test_a_family_that_stands_for_many_is_asked_where_its_layout_is_wanted(work):
    assert wanted_for("regnetx_002.pycls_in1k", "timm").family.name == "timm"
    known = family("regnet")
    names = next(each for each in known.dialects if each.name == "timm")
    weights = spelled(names, random_weights(known, known.variants["x_200mf"]))
    file = save_safetensors(work / "small.safetensors", weights)
    assert wanted_for(str(file), "timm").weights == "small_timm.pth"
    convert(file, layout="fpn", load_check=False)
    assert wanted_for("small").family.name == "regnet"
    assert wanted_for(str(file), "timm").family.name == "timm"


@pytest.mark.parametrize(("arguments", "kind", "word"), [
    (["convnext_tiny_22k", "detrex", "yaml"], UsageError, "builds the backbone in a LazyConfig"),
    (["convnext_tiny_22k", "maskdino", "lazy"], UsageError, "from a YAML config"),
    (["swinv2_tiny_patch4_window8_256", "d2", "lazy"], UsageError, "the class is yours"),
    (["somebody/model", "d2", None], UsageError, "only its file tells"),
    (["convnext_tiny_22k", "no", None], UsageError, "has no layout"),
    (["swin_tiny", "d2", None], UsageError, "could be any of"),
    (["vit_base_patch16_clip_224.openai", "vitdet", None], CheckFailed, "has no place in Detectron2's ViT"),
])
def test_what_cannot_be_is_refused_with_the_reason(work, arguments, kind, word):
    name, layout, form = arguments
    with pytest.raises(kind) as refused:
        config_of(wanted_for(name, layout), form)
    assert word in "\n".join([str(refused.value), refused.value.next])


def test_a_change_that_the_family_has_not_is_refused(work):
    with pytest.raises(UsageError, match="nothing that --patch could change"):
        wanted_for("convnext_tiny_22k", "d2", {"patch": 16})


def test_the_summary_of_a_conversion_has_the_same_text(source, zooconv, work):
    done = zooconv("convert", source, "--layout", "detrex")
    text = config_of(wanted_for("small"), comments=False)
    shown = "\n".join(line.removeprefix("  ") for line in done.err.splitlines())
    assert text in shown
    assert text in (work / "small_detrex.pth.md").read_text()
