"""From single runs to a ranking: gains over the plain arm with intervals, and what they are worth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLAIN = "plain"
ONE_SEED = "one seed"  # says nothing of noise
# Name in rows, words for people, sign that makes more better, factor for people.
METRICS = {
    "loss": ("validation loss", -1.0, 1.0),
    "terms": ("term recall@1, points", 1.0, 100.0),
    "probe": ("frozen probes, points", 1.0, 100.0),
    "finetune": ("fine-tuning, points", 1.0, 100.0),
}


@dataclass(frozen=True)
class Gain:
    """Differences to the plain arm with the same seeds; positive is better.

    Attributes:
        each: by seed, in order.
        mean: of them.
        low, high: 95% interval of the mean by Student's t; infinite with one seed.
    """

    each: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "better" or "worse" where the interval says so, else "within the noise", or "one seed"."""
        if math.isinf(self.low):
            return ONE_SEED
        return "better" if self.low > 0 else "worse" if self.high < 0 else "within the noise"


def value(row: Mapping[str, Any], metric: str) -> float:
    """A metric of a run; of several tasks the mean."""
    found = row[metric]
    return statistics.fmean(found.values()) if isinstance(found, dict) else float(found)


def gain(ours: Mapping[int, float], plain: Mapping[int, float], sign: float = 1.0) -> Gain | None:
    """The gain from values by seed, over the seeds that both have; None where there is none.

    Args:
        ours, plain: value by seed.
        sign: -1 where less is better.
    """
    each = tuple(sign * (ours[seed] - plain[seed]) for seed in sorted(set(ours) & set(plain)))
    if not each:
        return None
    mean = statistics.fmean(each)
    if len(each) == 1:
        return Gain(each, mean, -math.inf, math.inf)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(each) - 1)) * statistics.stdev(each) / math.sqrt(len(each))
    return Gain(each, mean, mean - half, mean + half)


def worth(loss: float, curve: Sequence[tuple[float, float]]) -> tuple[str, float]:
    """How much budget the plain arm needs for a loss, in multiples of the one that was given.

    The loss is read off the plain arm's losses at several budgets, linearly in the logarithm of the budget.

    Args:
        loss: that an arm reached with budget 1.
        curve: (budget, loss) of the plain arm, at least one.

    Returns:
        "", and the budget; where the loss lies outside the curve ">" or "<", and the curve's end.
    """
    points = sorted(curve)
    if loss > points[0][1]:
        return "<", points[0][0]
    for (small, before), (large, after) in zip(points, points[1:], strict=False):
        if after <= loss <= before:
            share = (before - loss) / (before - after) if before > after else 0.0
            return "", small * (large / small) ** share
    return (">", points[-1][0]) if loss < points[-1][1] else ("", points[-1][0])


def gains(rows: Iterable[Mapping[str, Any]], match: str) -> dict[str, dict[str, Gain]]:
    """Gains by arm and metric, the largest gain in validation loss first.

    Args:
        rows: runs, as in results.jsonl.
        match: "flops" or "seconds", what was equal.
    """
    chosen = [row for row in rows if match in row["match"]]
    found: dict[str, dict[str, Gain]] = {}
    for arm in dict.fromkeys(row["arm"] for row in chosen):
        if arm == PLAIN:
            continue
        for metric, (_, sign, factor) in METRICS.items():
            ours, plain = (
                {row["seed"]: value(row, metric) for row in chosen if row["arm"] == name and metric in row}
                for name in (arm, PLAIN)
            )
            one = gain(ours, plain, sign * factor)
            if one:
                found.setdefault(arm, {})[metric] = one
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["loss"].mean))


def curve(rows: Iterable[Mapping[str, Any]], plain: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(budget, mean loss) of the plain arm, from its runs at other budgets and its own."""
    losses: dict[float, list[float]] = {}
    for row in rows:
        losses.setdefault(row["scale"], []).append(row["loss"])
    losses[1.0] = [row["loss"] for row in plain]
    return sorted((scale, statistics.fmean(found)) for scale, found in losses.items() if found)


def shown(one: Gain | None, digits: int) -> str:
    """A gain with its interval, for a table."""
    if one is None:
        return ""
    told = f"{one.mean:+.{digits}f}"
    return told if math.isinf(one.low) else f"{told} ({one.low:+.{digits}f} to {one.high:+.{digits}f})"
