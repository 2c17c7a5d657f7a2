"""AdamW without bias correction, as the original BERT code had it: an unstable baseline.

The moments m and v begin at zero.  Adam divides them by 1 - beta1^t and 1 - beta2^t; the code that came with
BERT did not, so its first steps are too long: the very first 3.16 times, the twelfth 6.6 (arXiv 2006.05987).
"""

from __future__ import annotations

import math


def uncorrected(
    step: int, rate: float, eps: float, weight_decay: float, betas: tuple[float, float]
) -> dict[str, float]:
    """Settings with which a bias-corrected AdamW step t moves a weight w as the uncorrected one would.

    The step wanted is w <- w (1 - rate weight_decay) - rate m / (sqrt(v) + eps).  With c = 1 - beta1^t and
    d = sqrt(1 - beta2^t), a corrected step of rate lr is w (1 - lr decay) - lr (d / c) m / (sqrt(v) + d e).

    Args:
        step: t, counted from 1.
        rate: of the step wanted.
        eps: of the step wanted.
        weight_decay: of the step wanted.
        betas: of the moments.

    Returns:
        "lr", "eps" and "weight_decay" of the corrected step.
    """
    first, second = 1 - betas[0] ** step, math.sqrt(1 - betas[1] ** step)
    return {
        "lr": rate * first / second,
        "eps": eps / second,
        "weight_decay": weight_decay * second / first,
    }
