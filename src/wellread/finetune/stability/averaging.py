"""Weight averaging: the mean of many moments is evaluated and kept instead of a single one.

SWA (Izmailov et al., arXiv 1803.05407) is the plain mean over the last part of training, EMA the mean with
weights that fall by a factor a step.  Both are one running mean; they differ in the share of the newcomer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass
class Average:
    """A running mean over steps.

    Attributes:
        weights: the parameters that are trained.
        first: the step, from 0, whose outcome is the first point.
        decay: factor by which a point's weight falls with each later one; 1 for a plain mean.
        points: how many there are so far.
        means: their mean, once there is one.
    """

    weights: list[Tensor]
    first: int
    decay: float
    points: int = 0
    means: list[Tensor] = field(default_factory=list)


def begin(
    model: Any, kind: Literal["none", "ema", "swa"], steps: int, *, ema_decay: float, swa_last: float
) -> Average | None:
    """An average without points, or None for "none".

    Args:
        model: what is trained; frozen weights are left out.
        kind: which average.
        steps: of the full run.
        ema_decay: in [0, 1); 0 is the newest weights.
        swa_last: share of the steps, at the end, that SWA takes in; at least one step.
    """
    if kind == "none":
        return None
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if kind == "ema":
        return Average(weights, first=0, decay=ema_decay)
    return Average(weights, first=steps - max(1, round(swa_last * steps)), decay=1.0)


@torch.no_grad()
def update(average: Average, step: int) -> None:
    """Take the weights after ``step`` (from 0) into the mean, if it has begun.

    The newcomer's share is (1 - d) / (1 - d^n) for the n-th point, 1 / n for d = 1: the weights d^(n - i) of
    the points i add up to one, so the mean holds nothing from before the first.
    """
    if step < average.first:
        return
    average.points += 1
    if not average.means:
        average.means = [weight.detach().clone() for weight in average.weights]
        return
    d, n = average.decay, average.points
    share = 1 / n if d == 1 else (1 - d) / (1 - d**n)
    for mean, weight in zip(average.means, average.weights, strict=True):
        mean.lerp_(weight, share)


@contextmanager
def applied(average: Average | None) -> Iterator[None]:
    """Let the model hold the mean within the block; without a mean it stays as it is."""
    _swap(average)
    try:
        yield
    finally:
        _swap(average)


def _swap(average: Average | None) -> None:
    if average is None or not average.means:
        return
    for place, weight in enumerate(average.weights):
        weight.data, average.means[place] = average.means[place], weight.data
