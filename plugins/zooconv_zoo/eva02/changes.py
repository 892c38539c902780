"""What an EVA-02 loses where it is held by a class with fewer parts."""

from __future__ import annotations

from dataclasses import replace

from zooconv import Change

WITHOUT_CLASS = Change("class token left out: ViTDets of EVA-02 have none",
                       becomes=lambda config: replace(config, class_token=False))
