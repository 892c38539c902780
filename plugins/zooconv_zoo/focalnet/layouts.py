"""How Detectron2 projects hold a FocalNet. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from zooconv import Call, Fresh, Layout, LazyBackbone, Requires
from zooconv_zoo.configs import DETREX, STAGES, neck

from .dialects import CANONICAL
from .family import VARIANTS, FocalNetConfig

# the members that MaskDINO's D2FocalNet builds, by their names there
MODELNAMES = {"large_fl3": "focalnet_L_384_22k", "large_fl4": "focalnet_L_384_22k_fl4",
              "xlarge_fl3": "focalnet_XL_384_22k"}


def output_norms(*stages: int) -> Callable[[FocalNetConfig], Iterable[Fresh]]:
    """`norm{i}` after these stages, at its start: weight 1, bias 0."""
    def fresh(config: FocalNetConfig) -> Iterable[Fresh]:
        for i in stages:
            yield Fresh(f"norm{i}.weight", config.dims[i:i + 1], 1.0)
            yield Fresh(f"norm{i}.bias", config.dims[i:i + 1], 0.0)
    return fresh


def named_variant(config: FocalNetConfig) -> dict[str, object]:
    name = next(({"modelname": name} for variant, name in MODELNAMES.items() if VARIANTS[variant] == config), {})
    return {"BACKBONE": {"NAME": "D2FocalNet"}, "FOCAL": {**name, "out_features": STAGES}}


def detrexs(config: FocalNetConfig, _: Mapping[str, object]) -> LazyBackbone:
    return LazyBackbone(
        Call("detrex.modeling.backbone:FocalNet",
             {"embed_dim": config.embed_dim, "depths": config.depths, "focal_levels": config.levels,
              "focal_windows": config.windows, "use_conv_embed": config.conv_embed, "use_postln": config.post_norm,
              "use_postln_in_modulation": config.modulation_norm, "use_layerscale": config.layer_scale,
              "normalize_modulator": config.normalize_modulator, "out_indices": (1, 2, 3)}),
        free={"drop_path_rate": 0.3}, beside=neck(config.dims[1:]), formats=DETREX)


NO_NORM = {"norm.{wb}": "this layout has no final norm"}

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="microsoft/FocalNet, under backbone.",
           requires=Requires(note="keeps the final norm, which a Detectron2 FocalNet lacks; "
                                  "the layout of your project fits it exactly")),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="IDEA-Research/detrex detrex/modeling/backbone/focalnet.py",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(lazy=detrexs)),

    Layout(("maskdino",), mount="backbone.", rules=CANONICAL,
           source="IDEA-Research/MaskDINO maskdino/modeling/backbone/focal.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=Requires(model=named_variant,
                             note="MODEL.FOCAL is for you to add: add_maskdino_config has none. D2FocalNet builds "
                                  "large_fl3, large_fl4 and xlarge_fl3")),
]
