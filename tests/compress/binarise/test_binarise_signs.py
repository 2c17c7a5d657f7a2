"""Signs: forward values, gradients, and eight to a byte."""

from __future__ import annotations

import pytest
import torch

from wellread.compress.binarise import signs


def test_zero_is_positive():
    found = signs.sign(torch.tensor([-2.0, -0.0, 0.0, 3.0]))
    assert found.tolist() == [-1.0, 1.0, 1.0, 1.0]


def test_weights_are_signs_around_the_mean_with_the_mean_size():
    weight = torch.randn(5, 33, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.2
    found, scale = signs.sign_weights(weight)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(found > 0, weight >= weight.mean(1, keepdim=True))
    torch.testing.assert_close(scale, weight.abs().mean(1))


def test_gradient_of_weights_is_that_of_the_clamp():
    weight = (torch.randn(4, 19, generator=torch.Generator().manual_seed(1)) * 0.9).requires_grad_()
    error = torch.randn(4, 19, generator=torch.Generator().manual_seed(2))
    found, scale = signs.sign_weights(weight)
    (ours,) = torch.autograd.grad((found * scale[:, None] * error).sum(), weight)
    clamped = (weight - weight.mean(1, keepdim=True)).clamp(-1, 1)
    (expected,) = torch.autograd.grad((clamped * error).sum(), weight)
    torch.testing.assert_close(ours, expected)


def test_a_row_of_zeros_stays_zero_and_finite():
    weight = torch.zeros(2, 8, requires_grad=True)
    found, scale = signs.sign_weights(weight)
    (gradient,) = torch.autograd.grad((found * scale[:, None]).sum(), weight)
    assert scale.tolist() == [0.0, 0.0] and gradient.isfinite().all()


def test_gradients_of_inputs_are_those_of_the_clamp():
    """step * sign((x - t) / step) has the gradients of step * clamp(...) but for the step's own sign."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 6, generator=generator).double().requires_grad_()
    threshold = (0.3 * torch.randn(6, generator=generator)).double().requires_grad_()
    step = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    error = torch.randn(7, 6, generator=generator).double()
    found = torch.autograd.grad(
        (signs.sign_inputs(x, threshold, step) * step * error).sum(), (x, threshold, step)
    )
    clamped = ((x - threshold) / step).clamp(-1, 1) * step
    expected = torch.autograd.grad((clamped * error).sum(), (x, threshold, step))
    torch.testing.assert_close(found[:2], expected[:2])
    units = ((x - threshold) / step).detach()
    rounding = (signs.sign(units) - units.clamp(-1, 1)) * error  # what the clamp's own value leaves out
    torch.testing.assert_close(found[2], expected[2] + rounding.sum())


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 64, 65, 130])
def test_packing_round_trip(columns):
    positive = torch.rand(11, columns, generator=torch.Generator().manual_seed(columns)) < 0.5
    packed = signs.pack(positive)
    assert packed.shape == (11, -(-columns // 8)) and packed.dtype == torch.uint8
    assert torch.equal(signs.unpack(packed, columns), positive)


def test_words_hold_each_output_in_its_lane():
    positive = torch.rand(11, 70, generator=torch.Generator().manual_seed(0)) < 0.5
    words = signs.words(signs.pack(positive))
    assert words.shape == (2, 2, 8)
    for output in range(11):
        for column in range(70):
            word = int(words[output // 8, column // 64, output % 8])
            assert bool(word >> (column % 64) & 1) == bool(positive[output, column])
    assert (words[1, :, 3:] == 0).all()
