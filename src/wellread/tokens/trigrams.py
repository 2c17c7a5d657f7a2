"""A trigram model of tokens: how likely a text is after a text that one trusts.

Interpolated Witten-Bell smoothing (Witten and Bell, 1991): with c occurrences of a token after a context
that was seen n times with t different tokens, ``p = (c + t * p') / (n + t)``, where p' is the probability
after the context shortened by one, at last 1 / vocabulary.  Nothing is tuned; probabilities sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wellread.tokens.store import Store

MOST_TOKENS = 1 << 23  # of a text from which is learnt
CHUNK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Order:
    """What was counted after contexts of one length.

    Attributes:
        grams: (G,) int64, ascending: context * (vocabulary + 1) + token.
        counts: (G,) how often each occurred.
        contexts: (C,) int64, ascending.
        totals: (C,) tokens that were seen after each.
        kinds: (C,) different ones.
    """

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Trigrams:
    """A trigram model.

    Attributes:
        vocab: entries of the vocabulary; one number more stands for what is before a text.
        orders: after no token, after one, after two.
    """

    vocab: int
    orders: tuple[Order, ...]


def learn(store: Store) -> Trigrams:
    """Count the trigrams of a store's first MOST_TOKENS tokens, in whole documents (one at least)."""
    last = max(1, int(np.searchsorted(store.offsets, MOST_TOKENS, side="right")) - 1)
    offsets = np.asarray(store.offsets[: last + 1])
    return count(store.tokens(0, int(offsets[-1])), offsets, store.vocab_size)


def count(tokens: np.ndarray, offsets: np.ndarray, vocab: int) -> Trigrams:
    """Count trigrams.

    Args:
        tokens: (n,) ids of documents end to end.
        offsets: (documents + 1,) where each begins.
        vocab: more than any id.
    """
    return Trigrams(
        vocab, tuple(_order(context, tokens, vocab + 1) for context in _contexts(tokens, offsets, vocab))
    )


def log_probabilities(model: Trigrams, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n,) natural logarithms of each token's probability after those before it in its document.

    Args:
        model: that was learnt.
        tokens: (n,) ids of documents end to end.
        offsets: (documents + 1,) where each begins.
    """
    probability = np.full(len(tokens), 1.0 / model.vocab)
    for order, context in zip(model.orders, _contexts(tokens, offsets, model.vocab), strict=True):
        seen = _look_up(order.grams, order.counts, context * (model.vocab + 1) + tokens)
        total = _look_up(order.contexts, order.totals, context)
        kinds = _look_up(order.contexts, order.kinds, context)
        # Where a context was never seen the shorter one has to do.
        probability = np.where(
            total > 0, (seen + kinds * probability) / np.maximum(1, total + kinds), probability
        )
    return np.log(probability)


def surprise(model: Trigrams, store: Store) -> np.ndarray:
    """(documents,) mean negative log probability of each document's tokens in nats; infinite without any."""
    parts = [np.empty(0)]
    for first, last in _stretches(np.asarray(store.offsets)):
        offsets = np.asarray(store.offsets[first : last + 1])
        tokens = store.tokens(int(offsets[0]), int(offsets[-1]))
        sums = np.concatenate([[0.0], np.cumsum(-log_probabilities(model, tokens, offsets - offsets[0]))])
        sizes = np.diff(offsets)
        totals = sums[offsets[1:] - offsets[0]] - sums[offsets[:-1] - offsets[0]]
        parts.append(np.where(sizes > 0, totals / np.maximum(1, sizes), np.inf))
    return np.concatenate(parts)


def _stretches(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Documents in a row of about CHUNK_TOKENS tokens, as [first, last)."""
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + CHUNK_TOKENS, side="right")) - 1
        last = min(max(last, first + 1), len(offsets) - 1)
        yield first, last
        first = last


def _contexts(
    tokens: np.ndarray, offsets: np.ndarray, vocab: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What stands before each token: nothing, one token, two; the number ``vocab`` before a document."""
    place = np.arange(len(tokens)) - np.repeat(offsets[:-1], np.diff(offsets))
    before = [np.full(len(tokens), vocab, np.int64) for _ in range(2)]
    for distance, column in enumerate(before, 1):
        column[distance:][place[distance:] >= distance] = tokens[:-distance][place[distance:] >= distance]
    return np.zeros(len(tokens), np.int64), before[0], before[1] * (vocab + 1) + before[0]


def _order(context: np.ndarray, tokens: np.ndarray, base: int) -> Order:
    grams, counts = np.unique(context * base + tokens, return_counts=True)
    contexts, first, kinds = np.unique(grams // base, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, first) if len(first) else counts
    return Order(grams, counts, contexts, totals, kinds)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of the wanted keys; 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
