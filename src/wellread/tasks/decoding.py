"""From a score of each tag for each word to tags: of all valid sequences the one with the greatest sum.

Lester et al., "Constrained Decoding for Computationally Efficient Named Entity Recognition Taggers", arXiv
2010.04362.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_valid(labels: Sequence[str], scores: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """The valid sequence of tags with the greatest sum of scores, for each run of words.

    Valid is what IOB2 allows: an "I-" continues its own type.  Where the best tag of every word does, that is
    the answer; only other runs are searched.

    Args:
        labels: L tags in the order of the scores.  An "I-" whose "B-" is not among them may begin, too.
        scores: (W, L) logits or log-probabilities of W words.
        begins: (W,) bool, where a word has nothing before it; the first always has.

    Returns:
        (W,) number of each word's tag.
    """
    may = _may_follow(labels)
    best = scores.argmax(axis=1)
    before = np.where(begins, 0, np.roll(best, 1) + 1)
    broken = np.flatnonzero(~may[before, best])
    starts = np.append(np.flatnonzero(begins), len(scores))
    for run in np.unique(np.searchsorted(starts, broken, side="right") - 1):
        words = slice(starts[run], starts[run + 1])
        best[words] = _search(scores[words].astype(np.float64), np.where(may, 0.0, -np.inf))
    return best


def tags(labels: Sequence[str], scores: np.ndarray, counts: Sequence[int]) -> list[list[str]]:
    """The same as names, sentence by sentence.

    Args:
        labels: L tags in the order of the scores.
        scores: (W, L) logits or log-probabilities of the words of all sentences.
        counts: number of words of each.
    """
    edges = np.cumsum([0, *counts])
    best = best_valid(labels, scores, np.isin(np.arange(len(scores)), edges))
    names = [labels[number] for number in best.tolist()]
    return [names[start:end] for start, end in zip(edges[:-1], edges[1:], strict=True)]


def _may_follow(labels: Sequence[str]) -> np.ndarray:
    """(1 + L, L) bool: whether a tag may stand at the beginning (row 0), or after each of the tags."""
    alone = np.array([tag[:2] != "I-" or f"B-{tag[2:]}" not in labels for tag in labels])
    types = np.array(["", *(tag[2:] for tag in labels)])
    return alone | (types[:, None] == types[1:])


def _search(scores: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Viterbi's algorithm: (T, L) scores and the (1 + L, L) cost of one tag after another."""
    total, origins = scores[0] + cost[0], np.zeros(scores.shape, dtype=np.intp)
    for step in range(1, len(scores)):
        paths = total[:, None] + cost[1:]
        origins[step] = paths.argmax(axis=0)
        total = paths.max(axis=0) + scores[step]
    found = [int(total.argmax())]
    for step in range(len(scores) - 1, 0, -1):
        found.append(int(origins[step, found[-1]]))
    return np.array(found[::-1])
