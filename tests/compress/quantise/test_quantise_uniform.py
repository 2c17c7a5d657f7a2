"""Evenly spaced levels: the bound of the error, their number, zero, and the straight-through gradient."""

import pytest
import torch

from wellread.compress.quantise import groups, uniform


def skewed_rows(rows=96, columns=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.exp(torch.randn(rows, 1, generator=generator))
    return torch.randn(rows, columns, generator=generator) * scales


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [1, 12, 96])
@pytest.mark.parametrize("symmetric", [False, True])
def test_error_is_at_most_half_a_step(bits, count, symmetric):
    rows, owner = skewed_rows(), groups.owners(96, 1, count)
    codes, step, zero = uniform.encode(rows, owner, count, bits, symmetric=symmetric)
    values = uniform.decode(codes, step, zero, owner)
    for group in range(count):
        mine = rows[owner == group]
        levels = 2**bits - (2 if symmetric else 1)
        low, high = float(mine.min()), float(mine.max())
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        assert low < 0 < high
        error = (mine - values[owner == group]).abs().max()
        assert float(error) <= 0.5 * (high - low) / levels * (1 + 1e-5)
        assert len(values[owner == group].unique()) <= levels + 1
    assert codes.max() <= (2**bits - 2 if symmetric else 2**bits - 1)


def test_agrees_with_the_formula_written_out():
    rows = skewed_rows(4, 50)
    codes, step, zero = uniform.encode(rows, torch.arange(4), 4, 3)
    values = uniform.decode(codes, step, zero, torch.arange(4))
    for row, found in zip(rows.double().tolist(), values.tolist(), strict=True):
        low, high, top = min(row), max(row), 7
        scale = top / (high - low)
        point = round(scale * low)
        expected = [(min(max(round(scale * w - point), 0), top) + point) / scale for w in row]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_zero_stays_zero_and_one_sided_groups_are_kept():
    rows = torch.tensor(
        [[0.0, 0.3, -0.7, 0.0], [0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [-2.0, -2.0, -1, -2]]
    )
    codes, step, zero = uniform.encode(rows, torch.arange(4), 4, 2)
    values = uniform.decode(codes, step, zero, torch.arange(4))
    assert torch.equal(values[rows == 0], torch.zeros(6))
    assert torch.equal(values[2], rows[2])
    assert float((values[3] - rows[3]).abs().max()) <= 1 / 3 + 1e-6


def test_more_groups_and_more_bits_mean_less_error():
    rows = skewed_rows(768, 64)

    def error(count, bits):
        owner = groups.owners(768, 1, count)
        values = uniform.decode(*uniform.encode(rows, owner, count, bits), owner)
        return float((((values - rows) ** 2).mean(1) / (rows**2).mean(1)).mean())

    by_groups = [error(count, 2) for count in (1, 12, 128, 768)]
    assert by_groups == sorted(by_groups, reverse=True)
    by_bits = [error(768, bits) for bits in range(2, 9)]
    assert by_bits == sorted(by_bits, reverse=True)
    assert by_bits[-1] < 1e-4


def test_gradient_goes_straight_through_and_values_are_exact():
    rows = skewed_rows(6, 10).requires_grad_()
    owner = torch.arange(6)
    rounded = uniform.decode(*uniform.encode(rows.detach(), owner, 6, 2), owner)
    through = uniform.straight_through(rows, rounded)
    assert torch.equal(through, rounded)
    weights = torch.randn(6, 10)
    (through * weights).sum().backward()
    assert torch.equal(rows.grad, weights)


def test_one_range_for_values_of_any_shape():
    values = torch.linspace(-1.5, 2.5, 41).view(41, 1)
    found = uniform.round_to_range(values, torch.tensor(-1.0), torch.tensor(2.0), 8)
    step = 3 / 255
    inside = (values >= -1) & (values <= 2)
    assert float((found - values)[inside].abs().max()) <= step / 2 * (1 + 1e-5)
    assert float(found.min()) == pytest.approx(-1, abs=step) and float(found.max()) == pytest.approx(
        2, abs=step
    )
