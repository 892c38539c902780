"""How Detectron2 projects hold a ConvNeXt V2. Each was read off the project's own class."""

from __future__ import annotations

from zooconv import Layout, Requires
from zooconv_zoo.configs import STAGES

from .dialects import CANONICAL
from .family import ConvNeXtV2Config


def depths_and_dims(config: ConvNeXtV2Config) -> dict[str, object]:
    return {"BACKBONE": {"NAME": "D2ConvNextV2"},
            "CONVNEXTV2": {"DEPTHS": list(config.depths), "EMBED_DIM": list(config.dims), "OUT_FEATURES": STAGES}}


# mask2former/config.py of Gabrysse/Mask2Former
DECLARED = {"CONVNEXTV2": {"DEPTHS": [3, 3, 9, 3], "EMBED_DIM": [96, 192, 384, 768], "OUT_FEATURES": STAGES}}


LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="facebookresearch/ConvNeXt-V2, under backbone.",
           requires=Requires(model=depths_and_dims, note="keeps the final norm, which a D2ConvNextV2 lacks; "
                                                         "the layout of your project fits it exactly")),

    # a Mask2Former with ConvNeXt V2; its stages come out without norms of their own, so nothing is added
    Layout(("gabrysse",), mount="backbone.", rules=CANONICAL,
           source="Gabrysse/Mask2Former mask2former/modeling/backbone/convnextv2.py",
           omit={"norm.{wb}": "this layout has no final norm"},
           requires=Requires(model=depths_and_dims, declares=DECLARED)),
]
