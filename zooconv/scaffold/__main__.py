"""Write the example anew: `python -m zooconv.scaffold plugins/example`."""

from __future__ import annotations

import sys
from pathlib import Path

from zooconv.atomic import write_text
from zooconv.scaffold import EXAMPLE, rendered

for name, text in rendered(**EXAMPLE).items():
    write_text(Path(sys.argv[1]) / name, text)
