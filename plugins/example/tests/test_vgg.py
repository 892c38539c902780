import torch

from zooconv import convert
from zooconv.testing.checkpoints import random_array, save_pth
from zooconv.upstream import import_package


def test_torchvisions_vgg16_becomes_a_detectron2_file(tmp_path):
    with torch.device("meta"):
        names = import_package("torchvision").models.vgg16().features.state_dict(prefix="features.")
    weights = {name: random_array(name, tuple(tensor.shape)) for name, tensor in names.items()}
    result = convert(save_pth(tmp_path / "vgg16.pth", weights, wrapper=None), output=tmp_path)
    assert (result.data["variant"], result.content.tensors) == ("16", 26)
    written = torch.load(result.path)["model"]["backbone.features.28.bias"]
    assert written.tolist() == weights["features.28.bias"].tolist()
