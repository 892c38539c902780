"""ViTDet: Detectron2's ViT has fewer parts than what is published. What is folded is the same function; what is
forgotten is not; what was resampled is what torch would have made of it."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import DATA
from zooconv_zoo.vit import FAMILY
from zooconv_zoo.vit.changes import FOLDED, PATCHES_ALONE
from zooconv_zoo.vit.dialects import OFFICIAL
from zooconv_zoo.vit.members import TOY, TOY_CLIP, TOY_SWIGLU, VARIANTS

from zooconv import Change, CheckFailed, UsageError, convert, inspect
from zooconv.mapping.fit import fit
from zooconv.mapping.plan import make_plan
from zooconv.parity import parity
from zooconv.plugins import chosen_layout
from zooconv.subject import subjects
from zooconv.tensor import DTYPES
from zooconv.testing.checkpoints import lively_weights, save_pth, spelled

SCALED = replace(TOY, layerscale=True)
DIALECTS = {d.name: d for d in FAMILY.dialects}


def source(folder, config, dialect="timm"):
    return save_pth(folder / "vit.pth", spelled(DIALECTS[dialect], lively_weights(FAMILY, config)))


def measured(path, against="timm"):
    (opening,) = subjects(str(path))
    with opening as subject:
        return parity(subject.source, subject.found, subject.artifact, subject.ours, against)


def test_it_is_what_detectron2s_class_holds():
    wanted = json.loads(gzip.decompress((DATA / "manifests/vit/d2-vitdet-vitdet_b.json.gz").read_bytes()))
    found = fit(FAMILY, OFFICIAL, FAMILY.table(VARIANTS["base_p16_224"]))
    made = {t.name: {"shape": list(t.shape), "dtype": DTYPES[t.dtype].torch}
            for t in make_plan(found, chosen_layout(FAMILY, "vitdet")).targets}
    assert made == {name: {"shape": k["shape"], "dtype": k["dtype"]} for name, k in wanted["keys"].items()
                    if name not in wanted["init_only"]}
    assert all("rel_pos" in name or "simfp" in name for name in wanted["init_only"])


@pytest.mark.parametrize("config", [TOY, SCALED, replace(SCALED, registers=2, pos_prefix=0)],
                         ids=["plain", "LayerScale", "registers"])
def test_it_computes_what_timm_does_without_its_class_token(work, config):
    """The limit is that of one rounding; where nothing is folded, there is none."""
    done = convert(source(work, config), layout="vitdet", load_check=False)
    result = measured(done.path)
    assert result.passed, result.differences
    assert result.limit == (5e-6 if config.layerscale else 1e-12)
    assert PATCHES_ALONE.title in result.changes
    assert {d.output for d in result.differences} == {"block0", "block1", "tokens"}


def test_without_the_fold_it_is_a_quarter_wrong_and_loads_without_a_word(work, monkeypatch):
    """What a conversion by names alone does to a DINOv2: facebookresearch/dinov2 issue 65."""
    forgotten = Change("LayerScale left out", becomes=FOLDED.becomes, limit=FOLDED.limit)
    generator = np.random.default_rng(0)
    deep = lively_weights(FAMILY, replace(SCALED, depth=12))
    scales = {name: generator.uniform(0.5, 1.5, array.shape).astype("f4")
              for name, array in deep.items() if name.endswith("gamma")}
    path = save_pth(work / "vit.pth", spelled(DIALECTS["timm"], deep | scales))
    right = convert(path, layout="vitdet", load_check=False, output=work / "right.pth")
    monkeypatch.setitem(vars(chosen_layout(FAMILY, "vitdet")), "changes", [forgotten, PATCHES_ALONE])
    wrong = convert(path, layout="vitdet", load_check=False, output=work / "wrong.pth")
    result = measured(wrong.path)
    assert [t.name for t in right.preview.plan.targets] == [t.name for t in wrong.preview.plan.targets]
    assert not result.passed
    assert 0.2 < max(d.relative for d in result.apart) < 0.6


def test_who_cannot_run_without_a_class_token_is_not_compared(work):
    done = convert(source(work, TOY, "transformers-5"), layout="vitdet", load_check=False)
    with pytest.raises(UsageError, match="cannot be held against what layouts have changed") as caught:
        measured(done.path, "transformers")
    assert PATCHES_ALONE.title in caught.value.why


@pytest.mark.parametrize(("config", "dialect", "told"), [
    (TOY_CLIP, "timm", "its norm before the first block"), (TOY_SWIGLU, "timm-swiglu", "SwiGLU"),
    (replace(TOY, qkv_bias=False), "timm", "biases")])
def test_what_detectron2s_class_cannot_hold_is_refused(work, config, dialect, told):
    with pytest.raises(CheckFailed) as caught:
        convert(source(work, config, dialect), layout="vitdet", load_check=False)
    assert told in caught.value.why[0]


def test_a_file_that_lacks_little_for_a_layout_is_told_what_it_lacks_and_not_another_familys_name(work):
    names = spelled(DIALECTS["timm"], lively_weights(FAMILY, VARIANTS["tiny_p16_224"]))
    del names["norm.bias"]  # which no feature map of timm's needs: there, the file is whole
    path = save_pth(work / "vit.pth", names)
    assert convert(path, layout="timm", load_check=False).data["family"] == "timm"
    with pytest.raises(CheckFailed, match="nearly a ViT") as caught:
        convert(path, layout="vitdet", load_check=False)
    assert "norm.bias" in caught.value.why[0]


def test_dinov2_becomes_vitdet_with_patches_of_16(work):
    """`--layout vitdet --patch 16 --grid 14`, as people use DINOv2 there; the config is told of both."""
    path = source(work, SCALED)
    done = convert(path, layout="vitdet", patch=6, grid=5, load_check=False)
    model, before = torch.load(done.path)["model"], torch.load(path)["model"]
    kernels = torch.nn.functional.interpolate(before["patch_embed.proj.weight"].double(), (6, 6), mode="bicubic")
    torch.testing.assert_close(model["backbone.net.patch_embed.proj.weight"], kernels.float(), rtol=0, atol=1e-6)
    grid = before["pos_embed"][:, 1:].double().reshape(1, 3, 3, -1).permute(0, 3, 1, 2)
    places = torch.nn.functional.interpolate(grid, (5, 5), mode="bicubic").flatten(2).transpose(1, 2).float()
    torch.testing.assert_close(model["backbone.net.pos_embed"][:, 1:], places, rtol=0, atol=1e-6)
    assert torch.equal(model["backbone.net.pos_embed"][:, 0], before["pos_embed"][:, 0])
    assert done.record.changes == [
        "patches of 4 pixels resampled to 6", "positions of 3 x 3 patches resampled to 5 x 5", FOLDED.title,
        PATCHES_ALONE.title]
    assert done.path.name == "vit_vitdet_patch6_grid5.pth"
    for argument in ("patch_size=6", "pretrain_img_size=30", "pretrain_use_cls_token=True"):
        assert f"    {argument},\n" in done.data["config_text"]["text"]
    assert inspect(done.path).data["config"]["patch"] == 6


@pytest.mark.parametrize(("variant", "blocks", "head"), [
    ("base_p16_224", 12, 64), ("large_p16_224", 24, 64), ("huge_p14_224", 32, 80)])
def test_uninexts_class_is_built_from_the_words(variant, blocks, head):
    """Detectron2's ViT, under another mount, with the relative positions of a fixed image and windows; and fpn1."""
    config = replace(VARIANTS[variant], patch=16, grid=14)
    plan = make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(config)), chosen_layout(FAMILY, "uninext-vit"))
    shapes = {t.name.removeprefix("detr.detr.backbone.0.backbone."): t.shape for t in plan.targets}
    assert len(shapes) == 3 + blocks * (12 + 2)
    assert shapes["blocks.0.attn.rel_pos_h"] == (27, head)
    assert shapes["blocks.2.attn.rel_pos_w"] == shapes[f"blocks.{blocks - 1}.attn.rel_pos_h"] == (127, head)


@pytest.mark.parametrize(("variant", "told"), [("base_p16_384", "14 x 14"), ("small_p16_224", "ViT-Base")])
def test_what_uninexts_class_is_not_made_for_is_refused(variant, told):
    with pytest.raises(CheckFailed) as caught:
        make_plan(fit(FAMILY, OFFICIAL, FAMILY.table(VARIANTS[variant])), chosen_layout(FAMILY, "uninext-vit"))
    assert told in caught.value.why[0]
