"""Inputs of matrices at the levels of a range that calibration or training has found."""

import copy

import pytest
import torch
from torch import nn

from wellread.compress.quantise import activations


def model():
    torch.manual_seed(0)
    found = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    activations.attach(found, ["0", "1", "3"])
    return found


def test_calibration_finds_smallest_and_largest_and_embeddings_are_left_alone():
    net = model()
    assert sorted(activations.ranges(net)) == ["1.input_range", "3.input_range"]
    ids = torch.arange(5)
    exact = net[0](ids)
    activations.calibrate(net, lambda: (net(ids[:2]), net(ids[2:])))
    found = net[1].input_range
    assert torch.equal(found.low, exact.min().clamp(max=0)) and torch.equal(found.high, exact.max())
    step = float(found.high - found.low) / 255
    seen = []
    net[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(ids)
    assert 0 < float((seen[0] - exact).abs().max()) <= step / 2 * (1 + 1e-5)
    assert float(net[3].input_range.low) == 0  # after a ReLU


def test_training_follows_with_an_exponential_mean_and_lets_the_gradient_through():
    net = model()
    activations.calibrate(net, lambda: net(torch.arange(5)))
    found, before = net[1].input_range, float(net[1].input_range.high)
    net.train()
    inputs = torch.full((1, 4), 10.0, requires_grad=True)
    net[1](inputs).sum().backward()
    assert float(found.high) == pytest.approx(0.99 * before + 0.1)
    assert torch.allclose(inputs.grad[0], net[1].weight.sum(0))
    assert found.low.grad is None


def test_a_copy_has_its_own_ranges():
    net = model()
    activations.calibrate(net, lambda: net(torch.arange(5)))
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[1].input_range.high.zero_()
        other[1].input_range.low.zero_()
    assert not torch.equal(net(torch.arange(5)), other(torch.arange(5)))
