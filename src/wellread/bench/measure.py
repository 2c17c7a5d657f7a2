"""Timing in alternation, and what is made of the times.

The speed of a machine drifts while one measures, by other programs and by its own heat.  So a candidate is
never timed alone: baseline, candidate, baseline, next candidate ..., and each candidate is compared with the
baseline's time right before it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

clock = time.perf_counter

# Of every record, in this order; what does not apply is None.
KEYS = (
    "part",  # machine, layers, steps, trainer, memory; latency or file
    "name",  # what is measured
    "shape",  # inputs->outputs of a layer, layers x width of a model
    "pattern",
    "sparsity",  # as asked for
    "zeros",  # share of zeros that the pattern really has
    "threads",
    "pass",  # forward, backward, both; step; process, training
    "against",  # the baseline of the ratio
    "ratio",  # times: how many times as fast as the baseline; memory: the share of the baseline's
    "spread",  # quartiles of the ratio over the pairs
    "ratio_of_totals",  # the same ratio by sums of times instead of the median
    "repetitions",  # counted pairs
    "tokens",  # in a call, on average, padding not counted
    "padding",  # share of padding in what the call computes
    "seconds",  # of a call, median
    "baseline_seconds",
    "tokens_per_second",  # median
    "baseline_tokens_per_second",
    "flops",  # in a call, on average: what the living weights need for real tokens
    "bytes",  # that a call must move at least; in memory: resident
    "share_of_peak",  # flops a second, of the best matrix product of this run
    "share_of_roofline",  # of the speed that peak FLOP/s and memory bandwidth allow
    "flops_per_second",  # machine only
    "bytes_per_second",  # machine only
    "note",
    "batch",  # texts in a call (latency, file)
    "length",  # longest text in tokens
    "p95_seconds",  # of a call
    "documents_per_second",  # median
)
Record = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """One call: seconds, real tokens, FLOPs, and bytes moved at least (0: not counted)."""

    seconds: float
    tokens: int
    flops: float
    bytes: float = 0.0


# The number of a pair to the timings of the call, by pass.
Call = Callable[[int], dict[str, Timing]]
# (baseline, candidate) of every counted pair.
Pairs = list[tuple[dict[str, Timing], dict[str, Timing]]]


def alternate(
    baseline: Call,
    candidates: Mapping[Key, Call],
    *,
    rounds: int,
    warmup: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[Key, Pairs]:
    """Call baseline and candidate in turn; the two of a pair get the same number.

    Args:
        baseline: called before every candidate.
        candidates: each called once a round.
        rounds: that are counted.
        warmup: rounds before them.
        advance: called after each pair.

    Returns:
        The counted pairs of each candidate.
    """
    pairs: dict[Key, Pairs] = {key: [] for key in candidates}
    for number in range(warmup + rounds):
        for key, candidate in candidates.items():
            pair = baseline(number), candidate(number)
            if number >= warmup:
                pairs[key].append(pair)
            advance()
    return pairs


def record(part: str, name: str, passing: str, threads: int | None, **figures: Any) -> Record:
    """A record with every key of KEYS; those not given are None.

    Raises:
        ValueError: a figure is not in KEYS.
    """
    unknown = figures.keys() - set(KEYS)
    if unknown:
        raise ValueError(f"records have no {sorted(unknown)}")
    head = {"part": part, "name": name, "pass": passing, "threads": threads}
    return dict.fromkeys(KEYS) | head | figures


def alone(timings: list[Timing]) -> dict[str, Any]:
    """The figures of one thing that was timed: medians of seconds and tokens/s, means of the rest."""
    bytes_moved = statistics.fmean(timing.bytes for timing in timings)
    return {
        "repetitions": len(timings),
        "tokens": statistics.fmean(timing.tokens for timing in timings),
        "seconds": statistics.median(timing.seconds for timing in timings),
        "tokens_per_second": statistics.median(timing.tokens / timing.seconds for timing in timings),
        "flops": statistics.fmean(timing.flops for timing in timings),
        "bytes": bytes_moved or None,
    }


def as_baseline(pairs: Mapping[Key, Pairs], passing: str) -> dict[str, Any]:
    """The figures of a baseline, over all pairs that it stood in."""
    return alone([first[passing] for of_one in pairs.values() for first, _ in of_one]) | {"ratio": 1.0}


def compared(pairs: Pairs, passing: str) -> dict[str, Any]:
    """The figures of a candidate and its ratio to the baseline: seconds per token of neighbours."""
    baselines = [first[passing] for first, _ in pairs]
    candidates = [second[passing] for _, second in pairs]
    ratios = [
        (first.seconds / first.tokens) / (second.seconds / second.tokens)
        for first, second in zip(baselines, candidates, strict=True)
    ]
    before = alone(baselines)
    return alone(candidates) | {
        "ratio": statistics.median(ratios),
        "spread": [float(quartile) for quartile in np.quantile(ratios, (0.25, 0.75))],
        "ratio_of_totals": _per_token(baselines) / _per_token(candidates),
        "baseline_seconds": before["seconds"],
        "baseline_tokens_per_second": before["tokens_per_second"],
    }


def _per_token(timings: list[Timing]) -> float:
    return sum(timing.seconds for timing in timings) / sum(timing.tokens for timing in timings)
