"""Names that people type, walked from a hub to the file that their project loads, at full size, with random weights."""

from __future__ import annotations

import pytest

from zooconv import fetch_convert
from zooconv.certificate import check_certificate
from zooconv.checkpoint.open import open_checkpoint
from zooconv.names import resolve
from zooconv.plugins import family
from zooconv.testing.checkpoints import random_weights, save_safetensors, spelled
from zooconv.zoo import zoo

ROADS = [
    ("swin_large_patch4_window12_384_22k", "maskdino", {}, []),
    ("resnet50", "fpn", {}, []),
    ("dinov2_vitb14", "devit", {}, []),
    ("vit_base_patch14_dinov2", "vitdet", {"patch": 16}, ["patches of 14 pixels resampled to 16", "LayerScale folded",
                                                          "class token, registers and final norm left out"]),
    ("mae_pretrain_vit_base", "uninext-vit", {}, ["class token"]),
    ("eva02_B_pt_in21k_p14", "detrex", {"patch": 16, "grid": 14}, ["patches of 14", "positions of 16", "class token"]),
    ("MViTv2_B_in1k", "fpn", {}, []),
    ("dinov3_vits16", "vitdet", {}, []),
]


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "layout", "options", "changes"), ROADS,
                         ids=[road[0] for road in ROADS])
def test_a_name_becomes_the_file_of_a_project(work, local_hub, hub_client, typed, layout, options, changes):
    model = resolve(typed, zoo()).model
    known = family(model.family)
    config = known.variants[model.variant]
    dialect = next(d for d in known.dialects if d.name.startswith("timm")
                   and not d.from_canonical(known.table(config)).unmatched)
    file = save_safetensors(work / "model.safetensors", spelled(dialect, random_weights(known, config)))
    local_hub.add(model.repo, {"model.safetensors": file})
    done = fetch_convert(typed, hub=hub_client, layout=layout, **options)
    assert (done.preview.found.family, done.preview.found.variant) == (known, model.variant)
    assert len(done.data.get("changes", [])) == len(changes)
    assert all(made.startswith(told) for made, told in zip(done.data.get("changes", []), changes, strict=True))
    assert done.record.license == model.license
    assert not model.note or model.note in done.data["mind"]
    with open_checkpoint(file) as source, open_checkpoint(done.path) as artifact:
        assert check_certificate(done.certificate, source, artifact) == []
