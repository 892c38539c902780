"""Where the weights are in a file is found or asked, never guessed."""

from __future__ import annotations

import pytest
import torch

from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import UsageError

ONE, TWO = {"w": torch.ones(1)}, {"w": torch.zeros(1)}


def opened(path, content, **options):
    torch.save(content, path)
    with open_checkpoint(path, **options) as checkpoint:
        return checkpoint.wrapper, checkpoint.tensors["w"].array().view("<f4").item()


@pytest.mark.parametrize(("content", "wrapper"), [
    (ONE, ()), ({"model": ONE}, ("model",)), ({"state_dict": ONE, "meta": {"epoch": 1}}, ("state_dict",)),
    ({"module": ONE, "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}}}, ("module",)),
    ({"classy_state_dict": {"base_model": {"model": {"trunk": ONE}}}},
     ("classy_state_dict", "base_model", "model", "trunk")),
    ({"model_ema": ONE, "epoch": 3}, ("model_ema",)),
    ({"model_state": ONE, "optimizer_state": {"state": {0: {"exp_avg": torch.ones(1)}}}}, ("model_state",)),
])
def test_weights_are_unwrapped_where_there_is_one_way(tmp_path, content, wrapper):
    assert opened(tmp_path / "x.pth", content) == (wrapper, 1.0)


@pytest.mark.parametrize("ema", ["model_ema", "state_dict_ema", "ema_state_dict", "ema_state"])
def test_averaged_weights_beside_plain_ones_are_a_choice(tmp_path, ema):
    content = {"model": ONE, ema: TWO}
    with pytest.raises(UsageError, match="averaged weights") as caught:
        opened(tmp_path / "x.pth", content)
    assert "--ema" in caught.value.next
    assert opened(tmp_path / "x.pth", content, ema=True) == ((ema,), 0.0)
    assert opened(tmp_path / "x.pth", content, ema=False) == (("model",), 1.0)


def test_asking_for_averaged_weights_that_are_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="no averaged weights"):
        opened(tmp_path / "x.pth", {"model": ONE}, ema=True)


def test_several_sets_of_weights_are_a_question_and_key_is_its_answer(tmp_path):
    content = {"student": ONE, "teacher": TWO}
    with pytest.raises(UsageError, match="student, teacher"):
        opened(tmp_path / "x.pth", content)
    assert opened(tmp_path / "x.pth", content, key="teacher") == (("teacher",), 0.0)
    assert opened(tmp_path / "x.pth", {"a": content}, key="a.student") == (("a", "student"), 1.0)


@pytest.mark.parametrize("key", ["nothing", "student.w.x"])
def test_a_key_that_is_not_there_is_told(tmp_path, key):
    with pytest.raises(UsageError, match="has no key"):
        opened(tmp_path / "x.pth", {"student": ONE, "teacher": TWO}, key=key)
