"""What tests need of Detectron2 where it is not installed: its registry, its base class, and how it is set up.

Signatures and behaviour are those of facebookresearch/detectron2 02b5c4e; checkpointing, paths and configs are fvcore's
and iopath's own, as there. Nothing here stands in for a model: tests of pyramids need the real one.
"""

import importlib
import os

if module := os.environ.get("DETECTRON2_ENV_MODULE"):  # detectron2/utils/env.py
    importlib.import_module(module).setup_environment()

__version__ = "double"
