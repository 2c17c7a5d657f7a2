"""The first predictions are the labels' shares, and only a fresh classifier's bias is touched."""

import numpy as np
import pytest
import torch
from torch import nn

from wellread.finetune.stability.base_rates import begin_at_base_rates


def test_each_label_begins_at_its_share():
    targets = np.zeros((100, 3), np.float32)
    targets[:20, 0] = targets[:1, 1] = 1.0
    layer = nn.Linear(4, 3)
    begin_at_base_rates(layer, "multilabel", targets)
    torch.testing.assert_close(layer.bias.sigmoid(), torch.tensor([20.5, 1.5, 0.5]) / 101)


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_classes_begin_at_their_shares(kind):
    layer = nn.Linear(4, 3)
    begin_at_base_rates(layer, kind, np.array([0] * 6 + [2] * 2))
    torch.testing.assert_close(layer.bias.softmax(0), torch.tensor([6.5, 0.5, 2.5]) / 9.5)


def test_scores_no_examples_and_no_bias_change_nothing():
    layer, free = nn.Linear(4, 2), nn.Linear(4, 2, bias=False)
    before = layer.bias.clone()
    begin_at_base_rates(layer, "regress", np.array([1.0, 2.0]))
    begin_at_base_rates(layer, "classify", np.array([], np.int64))
    begin_at_base_rates(free, "classify", np.array([0, 1]))
    assert torch.equal(layer.bias, before) and free.bias is None


def test_off_is_the_plain_run_and_class_weights_make_all_classes_equal(finetune, same):
    assert same(finetune(base_rates=False), finetune())
    assert not same(finetune(base_rates=True), finetune())
    assert same(finetune(base_rates=True, class_weights=True), finetune(class_weights=True))
