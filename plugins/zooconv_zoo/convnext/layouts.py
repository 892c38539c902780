"""How Detectron2 projects hold a ConvNeXt. Each was read off the project's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zooconv import Fresh, Layout, Requires, rename, reshape

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
            "CONVNEXT": {"DEPTHS": list(config.depths), "DIMS": list(config.dims)}}


def fpn_backbone(config: ConvNeXtConfig) -> dict[str, object]:
    return depths_and_dims(config) | {"BACKBONE": {"NAME": "build_convnext_fpn_backbone"}}


def named_variant(config: ConvNeXtConfig) -> dict[str, object]:
    name = next((name for name, known in VARIANTS.items() if known == config), "?")
    return {"BACKBONE": {"NAME": "D2ConvNeXt"}, "CONVNEXT": {"NAME": name}}


NO_NORM = {"norm.{wb}": "this layout has no final norm"}
embedding = reshape("1 c -> c")  # nn.Embedding(1, C).weight, where others have a vector

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/ConvNeXt, under backbone.",
           requires=Requires(model=depths_and_dims, note="keeps the final norm, which a D2ConvNeXt lacks; "
                                                         "the layout of your project fits it exactly")),

    Layout(("mask2former", "maskdino", "dimaskdino", "oneformer"), mount="backbone.", rules=CANONICAL,
           source="Hello2015/DI-MaskDINO dimaskdino/modeling/backbone/convnext.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3), requires=Requires(model=depths_and_dims)),

    Layout(("detrex",), mount="backbone.", rules=CANONICAL,
           source="IDEA-Research/detrex detrex/modeling/backbone/convnext.py",
           omit=NO_NORM, fresh=output_norms(1, 2, 3),
           requires=Requires(note="LazyConfig: set depths and dims of L(ConvNeXt), out_indices=(1, 2, 3)")),

    Layout(("kmax",), mount="backbone.", rules=CANONICAL,
           source="bytedance/kmax-deeplab kmax_deeplab/modeling/backbone/convnext.py",
           omit=NO_NORM,
           requires=Requires(pixel_mean=(127.5, 127.5, 127.5), pixel_std=(127.5, 127.5, 127.5), model=depths_and_dims,
                             note="kMaX pads as TensorFlow does, and trains with mean and std 127.5")),

    Layout(("fpn",), mount="backbone.bottom_up.", rules=CANONICAL,
           source="Eungyu-Jin/detectron2-convneXt segmentation/convnext/convnext_fpn.py",
           omit=NO_NORM, fresh=output_norms(0, 1, 2, 3), requires=Requires(model=fpn_backbone)),

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
           omit=NO_NORM, fresh=output_norms(1, 2, 3, embedded=True), requires=Requires(model=named_variant)),
]
