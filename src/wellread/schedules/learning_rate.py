"""Learning rates as pure functions of the step, so that nothing of them needs saving.

Each function gives the factor, in (0, 1], on the peak rate for the 0-based ``step`` of ``steps``.  No step
has a factor of zero: the first warms up from 1/w, the last decays to 1/d, so none is wasted.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_stable_decay(step: int, steps: int, warmup: float, decay: float) -> float:
    """Linear warm-up, a plateau, linear decay (Zhai et al., 2022; Hägele et al., 2024).

    Args:
        step: which step, from 0.
        steps: how many steps there are.
        warmup: share of the steps that warm up.
        decay: share of the steps, at the end, that decay; where it meets the warm-up the smaller holds.

    Returns:
        The factor on the peak rate.
    """
    return min(_rise(step, steps, warmup), _left(step, steps, decay))


def linear(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then linear decay over all that is left: the schedule of fine-tuning, a triangle.

    Arguments as in :func:`warmup_stable_decay`.
    """
    warm = _count(steps, warmup)
    if step < warm:
        return (step + 1) / warm
    return (steps - step) / max(1, steps - warm)


def one_minus_sqrt(step: int, steps: int, warmup: float, decay: float) -> float:
    """Linear warm-up, a plateau, then 1 - sqrt(progress) (Hägele et al., 2024, arXiv 2405.18392).

    Arguments as in :func:`warmup_stable_decay`.
    """
    progress = 1 - _left(step, steps, decay)
    return (
        min(_rise(step, steps, warmup), 1 - math.sqrt(progress)) if progress else _rise(step, steps, warmup)
    )


def cosine(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine down (Loshchilov and Hutter, 2017).

    Arguments as in :func:`warmup_stable_decay`.
    """
    warm = _count(steps, warmup)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


# What `pretrain.schedule` may name; cosine and the triangle fall from the warm-up on and have no plateau.
SCHEDULES: dict[str, Callable[[int, int, float, float], float]] = {
    "wsd": warmup_stable_decay,
    "wsd-sqrt": one_minus_sqrt,
    "cosine": lambda step, steps, warmup, _decay: cosine(step, steps, warmup),
    "triangular": lambda step, steps, warmup, _decay: linear(step, steps, warmup),
}


def factor(schedule: str, step: int, steps: int, warmup: float, decay: float) -> float:
    """The factor on the peak rate by the schedule of that name.

    Arguments as in :func:`warmup_stable_decay`.
    """
    return SCHEDULES[schedule](step, steps, warmup, decay)


def _count(steps: int, share: float) -> int:
    return math.ceil(steps * share - 1e-9)


def _rise(step: int, steps: int, warmup: float) -> float:
    return min(1.0, (step + 1) / max(1, _count(steps, warmup)))


def _left(step: int, steps: int, decay: float) -> float:
    return min(1.0, (steps - step) / max(1, _count(steps, decay)))
