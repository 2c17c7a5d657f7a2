"""Evenly spaced levels between the smallest and the largest weight of a group.

After Q-BERT (Shen et al., arXiv 1909.05840).  With k bits and a range [lo, hi] there are n = 2^k - 1 steps
of s = (hi - lo) / n; a weight w becomes the code q = clamp(round(w / s) + z, 0, n) and the value (q - z) s,
where the zero point z = round(-lo / s) is itself a code.  A range is widened to hold zero, so that zero stays
zero (pruned weights remain pruned) and z fits into a byte.  Then |w - value| <= s / 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-10  # of a range's width: a group of zeros has none


def encode(
    rows: Tensor, owner: Tensor, groups: int, bits: int, *, symmetric: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of a matrix.

    Args:
        rows: (R, C) float32 weights.
        owner: (R,) int64 group of each row.
        groups: number of groups G.
        bits: 2 to 8.
        symmetric: range [-a, a] with a = max |w|, in 2^k - 2 steps, so that zero lies in the middle.

    Returns:
        (R, C) uint8 codes, (G,) float32 steps, (G,) uint8 zero points.
    """
    low, high = _ranges(rows, owner, groups)
    step, zero, top = _steps(low, high, bits, symmetric)
    codes = torch.round(rows / step[owner, None]).add_(zero[owner, None]).clamp_(0, top)
    return codes.to(torch.uint8), step, zero.to(torch.uint8)


def decode(codes: Tensor, step: Tensor, zero: Tensor, owner: Tensor) -> Tensor:
    """(R, C) float32 values of the codes that :func:`encode` gives."""
    shifted = codes.to(torch.float32) - zero[owner, None].to(torch.float32)
    return shifted.mul_(step[owner, None])


def round_to_range(values: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Values, of any shape, at the levels of one given range; those outside are clamped to it.

    Args:
        values: float32.
        low: () smallest value expected.
        high: () largest.
        bits: 2 to 8.
    """
    step, zero, top = _steps(low.clamp(max=0), high.clamp(min=0), bits, False)
    return torch.round(values / step).add_(zero).clamp_(0, top).sub_(zero).mul_(step)


class StraightThrough(torch.autograd.Function):
    """Rounded values forwards, the gradient as if nothing had been rounded backwards."""

    @staticmethod
    def forward(_ctx: object, _exact: Tensor, rounded: Tensor) -> Tensor:  # type: ignore[override]
        """``rounded``, of the shape of ``exact``."""
        return rounded.clone()

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The gradient as it is, for ``exact``."""
        return gradient, None


def straight_through(exact: Tensor, rounded: Tensor) -> Tensor:
    """``rounded``, to the bit, whose gradient goes to ``exact`` unchanged."""
    return StraightThrough.apply(exact, rounded)


def _ranges(rows: Tensor, owner: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """(G,) smallest and largest weight of each group, zero included."""
    low = rows.new_zeros(groups).scatter_reduce_(0, owner, rows.amin(1), "amin")
    high = rows.new_zeros(groups).scatter_reduce_(0, owner, rows.amax(1), "amax")
    return low, high


def _steps(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor, int]:
    """Steps, zero points (float32) and the largest code of ranges that hold zero."""
    if symmetric:
        half = (1 << (bits - 1)) - 1
        step = torch.maximum(-low, high).clamp_(min=FLOOR) / half
        return step, torch.full_like(step, half), 2 * half
    top = (1 << bits) - 1
    step = (high - low).clamp_(min=FLOOR) / top
    return step, torch.round(-low / step).clamp_(0, top), top
