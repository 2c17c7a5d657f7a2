"""DB-LLM's flexible dual binarisation (arXiv 2402.11960): a weight as the sum of two scaled bits.

w' = a1 b1 + a2 b2 with bits b1, b2 in {0, 1}, and a1, a2 for each group of neighbouring weights of a row: the
levels a2, 0, a1 + a2 and a1.  While a1 > -a2 > 0 this is rounding to the nearest level.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STARTS = torch.linspace(0.2, 1.0, 33).tolist()  # s of the search over the largest weight / 2
REFINEMENTS = 8


def bits(weight: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The two bits of every weight, as bool: b1 = w >= (a1 + a2) / 2, b2 = w - a1 b1 <= a2 / 2.

    The second comparison is H(-(w - a1 b1 - a2 / 2)) with H(0) = 1.

    Args:
        weight: (groups, n).
        first: a1, (groups, 1).
        second: a2, (groups, 1).
    """
    upper = weight >= (first + second) / 2
    return upper, weight - first * upper <= second / 2


def levelled(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """w', with gradients for all three.

    The bits count as constants for the scales (dw'/da1 = b1, dw'/da2 = b2); a weight gets the gradient of w'
    where it lies between the lowest and the highest level.

    Args:
        weight: (groups, n).
        first: a1 > 0, (groups, 1).
        second: a2 < 0, (groups, 1).
    """
    return _Levels.apply(weight, first, second)


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
        upper, lower = bits(weight, first, second)
        ctx.save_for_backward(upper, lower, (weight >= second) & (weight <= first))
        return first * upper + second * lower

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        upper, lower, inside = ctx.saved_tensors
        return (
            gradient * inside,
            (gradient * upper).sum(1, keepdim=True),
            (gradient * lower).sum(1, keepdim=True),
        )


@torch.no_grad()
def start(weight: Tensor) -> tuple[Tensor, Tensor]:
    """a1 and a2 of small squared error: the best a1 = 2 s, a2 = -s of a search, then least squares.

    The largest weight must not set s: for a normal distribution that is worse than one bit.

    Args:
        weight: (groups, n).

    Returns:
        (groups, 1) each, with a1 > -a2 > 0.
    """
    best = searched(weight)
    error = _error(weight, *best)
    for _ in range(REFINEMENTS):
        better = _squares(weight, *bits(weight, *best))
        sensible = (better[0] > -better[1]) & (better[1] < 0)
        found = _error(weight, *better)
        wins = sensible & (found < error)
        best = (torch.where(wins, better[0], best[0]), torch.where(wins, better[1], best[1]))
        error = torch.where(wins, found, error)
    return best


@torch.no_grad()
def searched(weight: Tensor) -> tuple[Tensor, Tensor]:
    """a1 = 2 s and a2 = -s with the s of least squared error among a few: a plain 2-bit quantiser."""
    largest = weight.abs().amax(1, keepdim=True).clamp_min(1e-8) / 2
    best, error = largest, torch.full_like(largest, torch.inf)
    for share in STARTS:
        s = largest * share
        found = _error(weight, 2 * s, -s)
        best, error = torch.where(found < error, s, best), torch.minimum(found, error)
    return 2 * best, -best


def _error(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    upper, lower = bits(weight, first, second)
    return (weight - first * upper - second * lower).square().sum(1, keepdim=True)


def _squares(weight: Tensor, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """The scales of least squares for given bits, from two equations for each group."""
    ones, others = upper.sum(1, keepdim=True), lower.sum(1, keepdim=True)
    both = (upper & lower).sum(1, keepdim=True)
    top = (weight * upper).sum(1, keepdim=True)
    low = (weight * lower).sum(1, keepdim=True)
    determinant = (ones * others - both * both).clamp_min(1)
    return (top * others - low * both) / determinant, (low * ones - top * both) / determinant
