"""Why does Detectron2 not load a file, or only a part of it, and what mends that? Nothing in the file is executed."""
