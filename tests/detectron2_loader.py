"""Detectron2's loading of a checkpoint, as far as fvcore has not got it: an oracle for the doctor, written on its own.

It really unpickles, so it is for files that the tests themselves have made. Read off detectron2/checkpoint/
detection_checkpoint.py and c2_model_loading.py at 02b5c4e; everything below `_load_file` is fvcore's own code.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from fvcore.common.checkpoint import Checkpointer


class Loader(Checkpointer):
    """`load(path)` as `DetectionCheckpointer(model).load(path)`; what was incompatible stays in `incompatible`."""

    def load(self, path, *args, **kwargs):
        self.asked = urlparse(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().load(self.asked._replace(query="").geturl(), *args, **kwargs)

    def _load_file(self, filename):
        if filename.endswith(".pkl"):
            with Path(filename).open("rb") as file:
                data = pickle.load(file, encoding="latin1")
            if "model" in data and "__author__" in data:
                return data
            data = data["blobs"] if "blobs" in data else data  # noqa: SIM401 - it may be no mapping
            weights = {key: value for key, value in data.items() if not key.endswith("_momentum")}
            return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        loaded = super()._load_file(filename)
        if filename.endswith(".pyth"):
            assert "model_state" in loaded, (f"Cannot load .pyth file {filename}; pycls checkpoints must contain "
                                             "'model_state'.")
            weights = {k: v for k, v in loaded["model_state"].items() if not k.endswith("num_batches_tracked")}
            return {"model": weights, "matching_heuristics": True}
        loaded = loaded if "model" in loaded else {"model": loaded}
        queries = parse_qs(self.asked.query)
        if queries.pop("matching_heuristics", "False") == ["True"]:
            loaded["matching_heuristics"] = True
        if queries:
            raise ValueError(f"Unsupported query remaining: f{queries}, orginal filename: {self.asked.geturl()}")
        return loaded

    def _load_model(self, checkpoint):
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            weights = checkpoint["model"]
            if checkpoint.get("__author__") == "Caffe2":
                weights = {caffe2(key): value for key, value in weights.items()}
            checkpoint["model"] = aligned(self.model.state_dict(), weights)
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible


def caffe2(name):
    """The part of Detectron2's renaming that a backbone's names meet."""
    name = name.replace("_", ".")
    for end, new in ((".b", ".bias"), (".w", ".weight"), ("bn.s", "norm.weight"), ("bn.bias", "norm.bias"),
                     ("bn.gamma", "norm.weight"), ("bn.beta", "norm.bias"), ("bn.riv", "norm.running_var"),
                     ("bn.rm", "norm.running_mean"), ("bn.running.mean", "norm.running_mean"),
                     ("bn.running.var", "norm.running_var")):
        name = name.removesuffix(end) + new if name.endswith(end) else name
    name = "conv1.norm." + name[15:] if name.startswith("res.conv1.norm.") else name
    name = "stem." + name if name.startswith("conv1.") else name
    for old, new in (("branch1", "shortcut"), ("branch2a", "conv1"), ("branch2b", "conv2"), ("branch2c", "conv3")):
        name = name.replace(f".{old}.", f".{new}.")
    return name


def aligned(model, weights):
    """Names matched by their ends, pair by pair."""
    result, used = {}, {}
    for wanted in sorted(model):
        fits = [key for key in weights if key == wanted or wanted.endswith(f".{key}")]
        if not fits:
            continue
        longest = max(fits, key=len)
        if tuple(weights[longest].shape) != tuple(model[wanted].shape):
            continue
        if longest in used:
            raise ValueError("Cannot match one checkpoint key to multiple keys in the model.")
        used[longest] = wanted
        result[wanted] = weights[longest]
    return {**result, **{key: value for key, value in weights.items() if key not in used}} if used else weights
