"""The Detectron2 config that goes with the weights. Detectron2 itself is never needed here."""
