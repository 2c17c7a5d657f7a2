"""Percentile bootstrap intervals of the mean score over seeds (Efron and Tibshirani, 1993).

Test examples are drawn with replacement, whole documents where examples come from documents; every seed is
scored on the same draw and the scores are averaged.  The interval so speaks of other test sets of this kind,
not of other training runs: the spread over seeds is reported beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wellread import rng
from wellread.evaluate.metrics import METRICS, Output, check_output, documents, is_finite
from wellread.tasks.task import Example, Task

LEVEL = 0.95
_CHUNK_CELLS = 1 << 21


def resample_weights(examples: Sequence[Example], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each example is drawn, in chunks of float64 (resamples of the chunk, examples)."""
    groups = documents(examples)
    total = int(groups.max()) + 1
    step = max(1, _CHUNK_CELLS // max(len(examples), total))
    for start in range(0, resamples, step):
        rows = np.arange(start, min(start + step, resamples))
        draws = rng.uniform(seed, "bootstrap", rows[:, None], np.arange(total)[None, :])
        chosen = np.minimum((draws * total).astype(np.int64), total - 1)
        flat = (chosen + np.arange(len(rows))[:, None] * total).ravel()
        counts = np.bincount(flat, minlength=len(rows) * total).reshape(len(rows), total)
        yield counts[:, groups].astype(np.float64)


def interval(
    task: Task, split: str, outputs: Sequence[Output], metric: str, resamples: int, seed: int
) -> tuple[float, float] | None:
    """The 95% percentile interval of the mean over ``outputs`` (one per training seed).

    Args:
        task: the task.
        split: whose predictions these are.
        outputs: predictions as ``metrics.score`` takes them; not finite ones score 0.
        metric: a name of METRICS.
        resamples: 0 gives None.
        seed: of the draws; the same for all models, so that their intervals rest on the same draws.

    Returns:
        (low, high), or None.
    """
    if resamples <= 0 or not outputs:
        return None
    return _quantiles(_means(task, split, outputs, metric, resamples, seed))


def difference(
    task: Task,
    split: str,
    outputs: tuple[Sequence[Output], Sequence[Output]],
    metric: str,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """The 95% interval of the first model's mean less the second's, both scored on the same draws.

    Narrower than two intervals side by side, because a draw that is hard for one is hard for the other.

    Args:
        task: the task.
        split: whose predictions these are.
        outputs: predictions of two models, one per training seed each.
        metric: a name of METRICS.
        resamples: at least 1.
        seed: of the draws.
    """
    first, second = (_means(task, split, each, metric, resamples, seed) for each in outputs)
    return _quantiles(first - second)


def _means(
    task: Task, split: str, outputs: Sequence[Output], metric: str, resamples: int, seed: int
) -> np.ndarray:
    """(resamples,) mean scores over the outputs; an output that is not finite scores 0."""
    examples = task.splits[split]
    checked = [check_output(task, examples, output) for output in outputs]
    scorers = [METRICS[metric](task, examples, output) for output in checked if is_finite(output)]
    means = []
    for weights in resample_weights(examples, resamples, seed):
        sums = np.zeros(len(weights))
        for scorer in scorers:
            sums += scorer(weights)
        means.append(sums / len(outputs))
    return np.concatenate(means)


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
