"""The reference case, which must always work: the official ConvNeXt-T file, and every loader that will meet the result.

The weights are random; names, shapes, container and everything else are those of the official file.
"""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import DATA, ROOT, files_in
from zooconv_zoo.convnext import FAMILY
from zooconv_zoo.convnext.backbone import ConvNeXt
from zooconv_zoo.convnext.family import VARIANTS

from zooconv import convert
from zooconv.testing.checkpoints import random_array, random_weights, save_pth

TINY = VARIANTS["tiny"]
NAME = "convnext_tiny_22k_1k_224"


@pytest.fixture(scope="module")
def weights():
    heads = {"head.weight": random_array("head.weight", (1000, 768)), "head.bias": random_array("head.bias", (1000,))}
    return random_weights(FAMILY, TINY) | heads


@pytest.fixture
def official(work, weights):
    assert len(weights) == 182
    return save_pth(work / f"{NAME}.pth", weights)


def test_the_reference_case(official, zooconv, weights):
    official.with_name("config.yaml").write_text(CONFIG)
    done = zooconv("convert", f"{NAME}.pth", "--config", "config.yaml")
    assert (done.code, done.out) == (0, f"{NAME}_d2.pth\n")
    assert "2: head.weight, head.bias  (classifier)" in done.err
    loaded = torch.load(official.with_name(f"{NAME}_d2.pth"))
    model = loaded["model"]
    assert len(model) == 180
    assert all(type(t) is torch.Tensor and t.dtype == torch.float32 for t in model.values())
    assert all(name.startswith(("backbone.downsample_layers.", "backbone.stages.", "backbone.norm.")) for name in model)
    assert all(torch.equal(t, torch.from_numpy(weights[name.removeprefix("backbone.")])) for name, t in model.items())
    page = official.with_name(f"{NAME}_d2.pth.md").read_text()
    assert "| 182 | 180 | 2 | 0 | 180 |" in page
    assert "| 2 | `head.weight`, `head.bias` | classifier |" in page
    assert f"\nzooconv convert {NAME}.pth --layout d2\n" in page
    assert files_in(official.parent) == ["config.yaml", "config.yaml.bak", f"{NAME}.pth", f"{NAME}_d2.pth",
                                         f"{NAME}_d2.pth.cert.json", f"{NAME}_d2.pth.md",
                                         "registry.json"]
    assert official.with_name("config.yaml").read_text() == CONFIG.replace("old.pkl", f"{NAME}_d2.pth")
    record = json.loads(official.with_name("registry.json").read_text())["artifacts"][f"{NAME}/d2"]
    assert (record["source"]["content"]["tensors"], record["output"]["content"]["tensors"]) == (182, 180)


CONFIG = """\
_BASE_: base.yaml   # what everybody has
MODEL:
  # the backbone
  WEIGHTS: old.pkl  # to be replaced
  PIXEL_MEAN: [123.675, 116.28, 103.53]
SOLVER: {IMS_PER_BATCH: 16}
"""


class D2ConvNeXt(ConvNeXt):
    """What the reference repository's class holds: an output norm per stage, and no final norm."""

    def __init__(self):
        super().__init__(TINY.depths, TINY.dims)
        del self.norm
        for i, dim in enumerate(TINY.dims):
            self.add_module(f"norm{i}", torch.nn.LayerNorm(dim))


class Detector(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = D2ConvNeXt()


@pytest.mark.parametrize(("layout", "missing", "unexpected"), [
    ("maskdino", [], []),
    ("d2", [f"backbone.norm{i}.{kind}" for i in range(4) for kind in ("bias", "weight")],
     ["backbone.norm.bias", "backbone.norm.weight"]),
])
def test_fvcores_checkpointer_loads_the_file(official, layout, missing, unexpected):
    """fvcore's Checkpointer is what Detectron2's DetectionCheckpointer is built on."""
    from fvcore.common.checkpoint import Checkpointer

    result = convert(official, layout=layout, load_check=False)
    seen = {}

    class Told(Checkpointer):
        def _log_incompatible_keys(self, incompatible):
            seen.update(missing=sorted(incompatible.missing_keys), unexpected=sorted(incompatible.unexpected_keys),
                        shapes=incompatible.incorrect_shapes)

    detector = Detector()
    rest = Told(detector).load(str(result.path))
    assert seen == {"missing": missing, "unexpected": unexpected, "shapes": []}
    assert rest["__author__"] == "zooconv"
    state = torch.load(result.path)["model"]
    assert all(torch.equal(t, state[name]) for name, t in detector.state_dict().items() if name in state)


def detectron2_loads(path, detector):
    """What DetectionCheckpointer does with a `.pkl`, on fvcore's own; what it tells of names, and all else in the file.

    Read off detectron2/checkpoint/detection_checkpoint.py: without "__author__", the file is taken for a Caffe2 model.
    """
    from fvcore.common.checkpoint import Checkpointer

    seen = {}

    class DetectionCheckpointer(Checkpointer):
        def _load_file(self, filename):
            with Path(filename).open("rb") as file:
                data = pickle.load(file, encoding="latin1")
            return data if "model" in data and "__author__" in data else {"model": data, "__author__": "Caffe2"}

        def _log_incompatible_keys(self, incompatible):
            seen.update(missing=incompatible.missing_keys, unexpected=incompatible.unexpected_keys,
                        shapes=incompatible.incorrect_shapes)

    return seen, DetectionCheckpointer(detector).load(str(path))


def test_detectron2_loads_the_pickle(official, weights):
    result = convert(official, layout="maskdino", format="pkl")
    assert result.torch == torch.__version__
    detector = Detector()
    seen, rest = detectron2_loads(result.path, detector)
    assert seen == {"missing": [], "unexpected": [], "shapes": []}
    assert rest["__author__"] == "zooconv"
    state = detector.state_dict()
    assert all(torch.equal(state[f"backbone.{name}"], torch.from_numpy(a)) for name, a in weights.items()
               if not name.startswith(("head.", "norm.")))


def test_a_pickle_that_does_not_say_who_wrote_it_is_refused_there(official):
    """The control, and the error with which the reference conversion began."""
    path = convert(official, layout="maskdino", format="pkl", load_check=False).path
    content = pickle.loads(path.read_bytes())
    del content["__author__"]
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="Unsupported type found in checkpoint! model: <class 'dict'>"):
        detectron2_loads(path, Detector())


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("weights_only", [False, True])
def test_torch_loads_the_file_in_every_way(official, mmap, weights_only):
    path = convert(official, load_check=False).path
    assert len(torch.load(path, mmap=mmap, weights_only=weights_only)["model"]) == 180


def test_a_training_checkpoint_of_the_official_code_is_converted(work, weights):
    """`utils.save_model` of facebookresearch/ConvNeXt: model, EMA, optimizer, epoch, scaler, args."""
    averaged = collections.OrderedDict((n, torch.from_numpy(a * 2)) for n, a in weights.items())
    save_pth(work / "training.pth", weights, epoch=299, scaler={"scale": 65536.0}, args=argparse.Namespace(lr=4e-3),
             optimizer={"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}, model_ema=averaged)
    plain = convert("training.pth", ema=False, load_check=False, output=work / "plain.pth", name="plain")
    ema = convert("training.pth", ema=True, load_check=False, output=work / "ema.pth", name="ema")
    name = "backbone.stages.0.0.gamma"
    assert torch.equal(torch.load(plain.path)["model"][name] * 2, torch.load(ema.path)["model"][name])
    assert (plain.record.converter.options, ema.record.converter.options) == ({"ema": False}, {"ema": True})


@pytest.mark.slow
def test_the_example_runs_from_end_to_end(work):
    done = subprocess.run([sys.executable, ROOT / "examples/reference/reference.py", "out"], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{NAME}_d2.pth           180 tensors, 2 dropped: the classifier" in done.stdout
    assert "0 missing, 0 unexpected" in done.stdout
    assert "maskdino_convnext_tiny.yaml" in files_in(work / "out")


def test_the_example_has_the_manifest_that_the_tests_have():
    here, there = (ROOT / "examples/reference/dimaskdino_convnext_tiny.json.gz",
                   DATA / "manifests/dimaskdino-convnext-convnext_tiny.json.gz")
    assert here.read_bytes() == there.read_bytes()
