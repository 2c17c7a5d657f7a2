"""Two bits a weight: nearest level, the sum of the planes, starts and gradients."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.compress.binarise import planes


def normal(groups: int = 6, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(groups, size, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 3.0), st.floats(1.05, 4.0), st.integers(0, 99))
def test_is_rounding_to_the_nearest_level(low, ratio, seed):
    weight = normal(seed=seed).double()
    first, second = torch.full((6, 1), low * ratio).double(), torch.full((6, 1), -low).double()
    found = planes.levelled(weight, first, second)
    levels = torch.stack([second, torch.zeros_like(first), first + second, first])
    nearest = (weight - levels).abs().amin(0)
    torch.testing.assert_close((weight - found).abs(), nearest, rtol=0, atol=1e-12)


def test_the_two_masked_sums_are_the_product():
    """On whole numbers exactly: a1 (b1 x) + a2 (b2 x) = w' x."""
    weight, x = normal(8, 40), torch.randint(-9, 9, (40, 5)).float()
    first, second = torch.full((8, 1), 2.0), torch.full((8, 1), -1.0)
    upper, lower = planes.bits(weight, first, second)
    summed = first * (upper.float() @ x) + second * (lower.float() @ x)
    assert torch.equal(summed, planes.levelled(weight, first, second) @ x)


def test_starts_on_a_normal_distribution():
    """Squared errors: one bit 0.364, s = half the largest weight worse, a search 0.15, free 0.14."""
    weight = normal(1, 200_000)
    mean = weight.square().mean()

    def error(first, second):
        return float((weight - planes.levelled(weight, first, second)).square().mean() / mean)

    largest = weight.abs().amax(1, keepdim=True) / 2
    assert error(2 * largest, -largest) > 0.364
    assert abs(error(*planes.searched(weight)) - 0.151) < 0.005
    first, second = planes.start(weight)
    assert error(first, second) < min(0.150, error(*planes.searched(weight)))
    assert first > -second > 0


def test_start_of_a_group_of_zeros_is_finite():
    first, second = planes.start(torch.zeros(2, 64))
    assert first.isfinite().all() and second.isfinite().all()
    assert (planes.levelled(torch.zeros(2, 64), first, second) == 0).all()


def test_gradients_of_the_scales_are_the_bits():
    weight = normal().requires_grad_()
    first, second = (part.requires_grad_() for part in planes.start(weight.detach()))
    error = normal(seed=1)
    planes.levelled(weight, first, second).mul(error).sum().backward()
    upper, lower = planes.bits(weight, first, second)
    torch.testing.assert_close(first.grad, (error * upper).sum(1, keepdim=True))
    torch.testing.assert_close(second.grad, (error * lower).sum(1, keepdim=True))
    inside = (weight >= second) & (weight <= first)
    torch.testing.assert_close(weight.grad, error * inside)
