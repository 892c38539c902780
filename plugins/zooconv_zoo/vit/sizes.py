"""The sizes of ViTs, by the names that people call them."""

from __future__ import annotations

# dim, depth, hidden, heads: table 1 of the paper, table 2 of Zhai et al. 2022 (arXiv:2106.04560) for giant and
# gigantic, dinov2/models/vision_transformer.py for giant2, timm/models/vision_transformer.py for the others. Not there:
# 1536 channels with 6144 in a perceptron, of which some have 24 heads (RADIO), and some 16 (SigLIP 2).
SIZES = {
    "toy": (8, 2, 24, 2),
    "tiny": (192, 12, 768, 3),
    "xsmall": (256, 10, 1024, 4),
    "wee": (256, 14, 1280, 4),
    "little": (320, 14, 1792, 5),
    "small": (384, 12, 1536, 6),
    "medium": (512, 12, 2048, 8),
    "mediumd": (512, 20, 2048, 8),
    "betwixt": (640, 12, 2560, 10),
    "base": (768, 12, 3072, 12),
    "so150m2": (832, 21, 2176, 13),
    "so150m": (896, 18, 2304, 14),
    "plus": (896, 12, 3584, 14),
    "large": (1024, 24, 4096, 16),
    "so400m": (1152, 27, 4304, 16),
    "huge": (1280, 32, 5120, 16),
    "giant": (1408, 40, 6144, 16),
    "giant2": (1536, 40, 4096, 24),
    "gigantic": (1664, 48, 8192, 16),
}
HEADS = {(dim, hidden): heads for dim, _, hidden, heads in SIZES.values()}
