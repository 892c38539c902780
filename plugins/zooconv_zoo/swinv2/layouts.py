"""How Detectron2 ports hold a Swin Transformer V2."""

from __future__ import annotations

from zooconv import Layout, Requires

from .dialects import CANONICAL

MIND = ("no weight tells its window: set the one that it was trained with, and pretrained_window_sizes where it was "
        "tuned with a larger one (the sizes stand in its name, window12to16 say)")

LAYOUTS = [
    # every backbone tensor, so that nothing is lost on the way and the way back is complete
    Layout(("d2",), mount="backbone.", rules=CANONICAL, source="microsoft/Swin-Transformer, under backbone.",
           requires=Requires(note=MIND)),
    Layout(("fpn",), mount="backbone.bottom_up.", rules=CANONICAL,
           source="microsoft/Swin-Transformer, under backbone.bottom_up.", requires=Requires(note=MIND)),
]
