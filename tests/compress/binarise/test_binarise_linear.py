"""Binary layers: the packed ones equal the trained ones to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wellread.compress.binarise.linear import BinaryEmbedding, BinaryLinear


@pytest.mark.parametrize("elastic", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_equals_trained(elastic, bias):
    torch.manual_seed(0)
    layer = BinaryLinear(nn.Linear(70, 33, bias=bias), elastic)
    x = torch.randn(9, 5, 70)
    if elastic:
        layer.fit(x)
    assert torch.equal(layer.packed(elastic)(x), layer(x))


def test_packed_table_equals_trained():
    torch.manual_seed(0)
    table = BinaryEmbedding(nn.Embedding(50, 37))
    ids = torch.randint(0, 50, (4, 11))
    assert torch.equal(table.packed()(ids), table(ids))


def test_plain_layer_is_the_product_of_signs():
    torch.manual_seed(0)
    linear = nn.Linear(16, 4)
    x = torch.randn(3, 16)
    weight = linear.weight.detach()
    binary = weight.abs().mean(1, keepdim=True) * (weight - weight.mean(1, keepdim=True)).sign()
    torch.testing.assert_close(BinaryLinear(linear, elastic=False)(x), x.sign() @ binary.T + linear.bias)


def test_fit_begins_at_the_mean():
    layer = BinaryLinear(nn.Linear(2, 1), elastic=True)
    layer.fit(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    assert layer.threshold.tolist() == [1.0, 6.0] and layer.step.item() == 1.5


def test_everything_learns():
    torch.manual_seed(0)
    layer = BinaryLinear(nn.Linear(12, 5), elastic=True)
    layer(torch.randn(30, 12)).square().sum().backward()
    for name, weight in layer.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
