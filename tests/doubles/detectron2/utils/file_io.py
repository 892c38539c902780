"""detectron2/utils/file_io.py: a path manager of its own."""

from iopath.common.file_io import PathManager as PathManagerBase

PathManager = PathManagerBase()
