"""How many tokens an arm may read: as many as the plain arm's FLOPs, or seconds, pay for."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from wellread.errors import UserError

SAME = 0.02  # numbers of tokens that differ by less are one run


@dataclass(frozen=True)
class Cost:
    """What a token costs, relative to the plain arm.

    Attributes:
        flops: ratio of accounted FLOPs a token.
        seconds: ratio of seconds a token.
    """

    flops: float = 1.0
    seconds: float = 1.0


def cost(flops: float, plain_flops: float, pairs: Sequence[tuple[float, float]]) -> Cost:
    """The relative cost of an arm.

    Args:
        flops, plain_flops: accounted FLOPs a token.
        pairs: seconds a token of (arm, plain), measured in turn; the median of their ratios counts.
    """
    ratio = statistics.median(arm / plain for arm, plain in pairs)
    return Cost(flops / plain_flops, ratio)


def tokens(plain: int, each: float, spent: float, batch: int, name: str) -> int:
    """Tokens, in whole steps, that cost what the plain arm's do.

    Args:
        plain: tokens of the plain arm.
        each: cost of the arm's tokens, in the plain arm's.
        spent: on what it starts from, in tokens of the plain arm.
        batch: tokens a step.
        name: of the arm, for the error.

    Raises:
        UserError: what it starts from leaves less than ten steps.
    """
    steps = round((plain - spent) / each / batch)
    if steps < 10:
        raise UserError(
            f"what it starts from costs {spent:,.0f} of the plain arm's {plain:,} tokens",
            where=f"arms.{name}",
            fix="lower the source's `share`, or raise --tokens",
        )
    return steps * batch


def budgets(plain: int, arm: Cost, source: Cost, source_tokens: int, batch: int, name: str) -> dict[str, int]:
    """Tokens of an arm at equal "flops" and at equal "seconds"; one number where they hardly differ.

    Args:
        plain: tokens of the plain arm.
        arm, source: costs of the arm's tokens and of its source's.
        source_tokens: that the source reads; 0 without one.
        batch: tokens a step.
        name: of the arm.
    """
    found = {
        kind: tokens(plain, getattr(arm, kind), source_tokens * getattr(source, kind), batch, name)
        for kind in ("flops", "seconds")
    }
    if abs(found["seconds"] - found["flops"]) <= SAME * found["flops"]:
        found["seconds"] = found["flops"]
    return found
