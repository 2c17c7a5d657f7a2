"""Choosing and holding masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wellread.compress.prune import masks
from wellread.compress.prune.gradual import level_at
from wellread.sparsity.patterns import BLOCK


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_largest_of_the_matrix_live(level):
    score = torch.rand(12, 20)
    live = masks.choose(score, level, "unstructured")
    assert int(live.sum()) == round((1 - level) * score.numel())
    assert score[live].min() >= score[~live].max()


def test_every_row_keeps_as_many():
    score = torch.rand(12, 20) * torch.arange(1, 13)[:, None]
    live = masks.choose(score, 0.7, "unstructured", by_row=True)
    assert (live.sum(1) == 6).all()
    for row, alive in zip(score, live, strict=True):
        assert row[alive].min() >= row[~alive].max()


@pytest.mark.parametrize("pattern", ["block4", "block16"])
@pytest.mark.parametrize("by_row", [False, True])
def test_blocks_by_the_mean_of_what_is_inside(pattern, by_row):
    size, score = BLOCK[pattern], torch.rand(40, 54)
    live = masks.choose(score, 0.5, pattern, by_row=by_row)
    means, alive = {}, {}
    for row in range(0, 40, size):
        for column in range(0, 54, size):
            block = (slice(row, row + size), slice(column, column + size))
            means[row, column] = float(score[block].mean())
            assert live[block].all() or not live[block].any()
            alive[row, column] = bool(live[block].any())
    groups = sorted({row for row, _ in means}) if by_row else [None]
    for group in groups:
        chosen = [key for key in means if group is None or key[0] == group]
        kept = [means[key] for key in chosen if alive[key]]
        assert len(kept) == round(0.5 * len(chosen))
        assert min(kept) >= max(means[key] for key in chosen if not alive[key])


def test_at_least_one_lives():
    assert int(masks.choose(torch.rand(16, 16), 0.99, "block16").sum()) == 256


def test_cubic_rise():
    levels = [level_at(step, 10, 0.8) for step in range(13)]
    assert levels[0] == 0
    assert levels[10:] == [0.8] * 3
    assert levels == sorted(levels)
    assert levels[5] == pytest.approx(0.8 * (1 - 0.5**3))


def test_movement_is_minus_gradient_times_weight_through_the_mask():
    """The dead weight gets no gradient, but its movement counts: straight through."""
    live = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    masked = masks.Masked(live, moving=True)
    weight = nn.Parameter(torch.tensor([[2.0, -3.0], [0.5, 4.0]]))
    given = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    (masked(weight) * given).sum().backward()
    torch.testing.assert_close(weight.grad, given * live)
    torch.testing.assert_close(masked.movement, -given * weight.detach())
    masked.eval()
    (masked(weight) * given).sum().backward()
    torch.testing.assert_close(masked.movement, -given * weight.detach())
