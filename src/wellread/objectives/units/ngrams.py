"""N-grams that occur together more often than by chance, listed by their t-statistic (ERNIE-Gram).

Xiao et al., 2021, "ERNIE-Gram: Pre-training with explicitly n-gram masked language modeling" (arXiv
2010.12148).
"""

from __future__ import annotations

import numpy as np

from wellread.objectives.masking import Text, Units, ranges
from wellread.objectives.units.phrases import Phrases, Words, grams, longest, of_text
from wellread.objectives.units.pmi import Counts, find

SHARES = {2: 2 / 3, 3: 1 / 3}  # of the list, by number of words


def units(text: Text, ngrams: Phrases) -> Units:
    """The text cut into listed n-grams, the longest first, and the single tokens between them."""
    first, size, _ = spans(text, ngrams)
    alone = np.ones(len(text), bool)
    alone[ranges(first, size)] = False
    single = np.flatnonzero(alone)
    every, sizes = np.append(single, first), np.append(np.ones_like(single), size)
    order = np.argsort(every)
    return Units(every[order], sizes[order])


def spans(text: Text, ngrams: Phrases) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The listed n-grams of a text that do not overlap, G in all.

    Returns:
        (G,) first token of each, ascending, as an index into the text's N; (G,) its tokens; (G,) its number
        in the list.
    """
    first, words = longest(text, ngrams)
    number, offset = np.zeros(len(first), np.int64), 0
    here = dict(grams(of_text(text)[0], max(ngrams, default=0)))
    for n, listed in sorted(ngrams.items()):
        at = words == n
        number[at] = offset + np.searchsorted(listed, here[n][first[at]]) if at.any() else 0
        offset += len(listed)
    borders = np.append(text.words, len(text))
    return borders[first], borders[first + words] - borders[first], number


def learn(corpus: Words, counted: dict[int, Counts], size: int) -> dict[int, np.ndarray]:
    """The n-grams of two and three words with the largest t, and t above 0.

    Args:
        corpus: the words.
        counted: its n-grams.
        size: most entries of the list.

    Returns:
        ascending hashes by number of words.
    """
    listed = {}
    for n, share in SHARES.items():
        t = scores(corpus, counted, n)
        best = np.argsort(-t, kind="stable")[: int(size * share)]
        listed[n] = np.sort(counted[n].hashes[best[t[best] > 0]])
    return listed


def scores(corpus: Words, counted: dict[int, Counts], n: int) -> np.ndarray:
    """(C,) t-statistic of each counted n-gram."""
    at = counted[n].where
    product = np.zeros(len(at))
    for inner in range(n):
        product += counted[1].log_share[find(corpus.hashes, counted, at + inner, 1)]
    whole = corpus.document[: len(corpus.document) - n + 1] == corpus.document[n - 1 :]
    return t_statistic(np.exp(counted[n].log_share), np.exp(product), int(whole.sum()))


def t_statistic(share: np.ndarray, product: np.ndarray, count: int) -> np.ndarray:
    """(p - prod p_i) / sqrt(p (1 - p) / N): 0 for an n-gram that is as frequent as its words by chance.

    Args:
        share: p of each n-gram among all n-grams.
        product: of the shares of its words.
        count: N, all n-grams.
    """
    return (share - product) / np.sqrt(np.maximum(share * (1 - share), np.finfo(float).tiny) / max(1, count))
