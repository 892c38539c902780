"""How Detectron2 projects hold a ConvNeXt. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from zooconv import Call, Fresh, Layout, LazyBackbone, Requires, rename, reshape
from zooconv_zoo.configs import DETREX, STAGES, neck

from .dialects import CANONICAL
from .family import VARIANTS, ConvNeXtConfig


def output_norms(*stages: int, embedded: bool = False) -> Callable[[ConvNeXtConfig], Iterable[Fresh]]:
    """`norm{i}` after these stages, at its start: weight 1, bias 0."""
    def fresh(config: ConvNeXtConfig) -> Iterable[Fresh]:
        for i in stages:
            dim = config.dims[i]
            for name, fill in ((f"norm{i}.weight", 1.0), (f"norm{i}.bias", 0.0)):
                yield Fresh(f"{name}.weight", (1, dim), fill) if embedded else Fresh(name, (dim,), fill)
    return fresh


def depths_and_dims(config: ConvNeXtConfig) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "D2ConvNeXt"},
            "CONVNEXT": {"DEPTHS": list(config.depths), "DIMS": list(config.dims), "OUT_FEATURES": STAGES}}


def gabrysses_keys(config: ConvNeXtConfig) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "D2ConvNext"},
            "CONVNEXT": {"DEPTHS": list(config.depths), "EMBED_DIM": list(config.dims), "OUT_FEATURES": STAGES}}


def fpn_backbone(config: ConvNeXtConfig) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "build_convnext_fpn_backbone"},
            "CONVNEXT": {"DEPTHS": list(config.depths), "DIMS": list(config.dims), "OUT_FEATURES": [0, 1, 2, 3]}}


UNINEXT = {VARIANTS[name]: name for name in ("tiny", "base", "large")}


def named_variant(config: ConvNeXtConfig) -> dict[str, object]:
    named = {"NAME": UNINEXT[config]} if config in UNINEXT else {}
    return {"BACKBONE": {"NAME": "D2ConvNeXt"}, "CONVNEXT": named | {"OUT_FEATURES": STAGES[1:]}}


def unnamed(config: ConvNeXtConfig) -> str:
    return "" if config in UNINEXT else ("UNINEXT's D2ConvNeXt makes tiny, base and large by MODEL.CONVNEXT.NAME: this "
                                         "one needs a name of its own there")


def declared(variant: str, out_features: object = STAGES, *, channels: str = "DIMS") -> dict[str, object]:
    """What a project's config.py sets before any YAML is read."""
    config = VARIANTS[variant]
    return {"CONVNEXT": {"DEPTHS": list(config.depths), channels: list(config.dims), "OUT_FEATURES": out_features}}


def detrexs(config: ConvNeXtConfig, _: Mapping[str, object]) -> LazyBackbone:
    return LazyBackbone(
        Call("detrex.modeling.backbone:ConvNeXt",
             {"in_chans": 3, "depths": list(config.depths), "dims": list(config.dims), "layer_scale_init_value": 1.0,
              "out_indices": (1, 2, 3)}),
        free={"drop_path_rate": 0.0}, beside=neck(config.dims[1:]), formats=DETREX)


NO_NORM = {"norm.{wb}": "this layout has no final norm"}
embedding = reshape("1 c -> c")  # nn.Embedding(1, C).weight, where others have a vector

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/ConvNeXt, under backbone.",
           requires=Requires(model=depths_and_dims, note="keeps the final norm, which a D2ConvNeXt lacks; "
                                                         "the layout of your project fits it exactly")),

    Layout(("mask2former", "maskdino", "dimaskdino", "oneformer", "gabrysse"), mount="backbone.", rules=CANONICAL,
           source="Hello2015/DI-MaskDINO dimaskdino/modeling/backbone/convnext.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=Requires(model=depths_and_dims, note="MODEL.CONVNEXT, like the class, is not in the project's own "
                                                         "code: its config.py must declare the keys"),
           projects={
               "dimaskdino": Requires(model=depths_and_dims, declares=declared("tiny")),
               "oneformer": Requires(model=depths_and_dims, declares=declared("large")),
               "gabrysse": Requires(model=gabrysses_keys, declares=declared("tiny", channels="EMBED_DIM")),
           }),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="IDEA-Research/detrex detrex/modeling/backbone/convnext.py",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(lazy=detrexs)),

    Layout(("kmax",), mount="backbone.", rules=CANONICAL,
           source="bytedance/kmax-deeplab kmax_deeplab/modeling/backbone/convnext.py",
           omit=NO_NORM,
           requires=Requires(pixel_mean=(127.5, 127.5, 127.5), pixel_std=(127.5, 127.5, 127.5), model=depths_and_dims,
                             declares=declared("large"),
                             note="kMaX pads as TensorFlow does, and trains with mean and std 127.5")),

    Layout(("fpn",), mount="backbone.bottom_up.", rules=CANONICAL,
           source="Eungyu-Jin/detectron2-convneXt segmentation/convnext/convnext_fpn.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3),
           requires=Requires(model=fpn_backbone, declares=declared("xlarge", [0, 1, 2, 3]))),

    # every LayerNorm parameter and every gamma is an nn.Embedding here: name + ".weight", shape (1, C)
    Layout(("uninext",), mount="detr.detr.backbone.0.backbone.",
           source="MasterBin-IIAU/UNINEXT projects/UNINEXT/uninext/backbone/convnext.py",
           rules=[
               rename("downsample_layers.0.0.{wb}",             "downsample_layers.0.0.{wb}"),
               rename("downsample_layers.0.1.{wb}.weight",      "downsample_layers.0.1.{wb}", embedding),
               rename("downsample_layers.{s}.0.{wb}.weight",    "downsample_layers.{s}.0.{wb}", embedding),
               rename("downsample_layers.{s}.1.{wb}",           "downsample_layers.{s}.1.{wb}"),
               rename("stages.{s}.{b}.gamma.weight",            "stages.{s}.{b}.gamma", embedding),
               rename("stages.{s}.{b}.dwconv.{wb}",             "stages.{s}.{b}.dwconv.{wb}"),
               rename("stages.{s}.{b}.norm.{wb}.weight",        "stages.{s}.{b}.norm.{wb}", embedding),
               rename("stages.{s}.{b}.pwconv{n}.{wb}",          "stages.{s}.{b}.pwconv{n}.{wb}"),
           ],
           omit=NO_NORM, fresh=output_norms(1, 2, 3, embedded=True),
           requires=Requires(model=named_variant, note=unnamed,
                             declares={"CONVNEXT": {"NAME": "tiny", "OUT_FEATURES": STAGES[1:]}})),
]
