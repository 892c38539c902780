"""How Detectron2 projects hold a RegNet. Read off Detectron2's own class, which LazyConfigs build."""

from __future__ import annotations

from zooconv import Layout, Requires

from .dialects import CANONICAL

D2 = "facebookresearch/detectron2 detectron2/modeling/backbone/regnet.py"

# AnyNet takes what a checkpoint tells; its subclass RegNet takes the parameters of a line, and quantises widths off it.
ANYNET = ("L(AnyNet)(stem_class=SimpleStem, block_class=ResBottleneckBlock, activation_class=nn.ReLU, strides=[2] * 4, "
          "bottleneck_ratios=[1.0] * 4, …), with depths, widths, group_widths, stem_width and se_ratio as told")
BGR = ("weights as pycls released them (.pyth) saw BGR: for these, INPUT.FORMAT is BGR, and mean and std stand the "
       "other way round; all other releases saw RGB")

LAYOUTS = [
    Layout(("d2", "fpn"), mount="backbone.bottom_up.", rules=CANONICAL, source=f"{D2}, under an FPN",
           requires=Requires(note=f"LazyConfig: model.backbone.bottom_up = {ANYNET}; {BGR}")),

    Layout(("plain",), mount="backbone.", rules=CANONICAL, source=f"{D2}, as the backbone itself",
           requires=Requires(note=f"LazyConfig: model.backbone = {ANYNET}; {BGR}")),
]
