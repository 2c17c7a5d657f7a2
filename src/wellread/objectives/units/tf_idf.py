"""The words that tell a text from others: highest TF-IDF (LegalTurk, arXiv 2407.00648).

A word's score is its frequency in the sequence times log(N / df): N documents in the corpus, df of them with
the word.  Words are scored, and all their pieces masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wellread import rng
from wellread.objectives.masking import Text, Units
from wellread.objectives.units import words
from wellread.objectives.units.phrases import Words, of_text


@dataclass(frozen=True)
class Rarity:
    """How rare words are.

    Attributes:
        hashes: (V,) uint64 of the corpus' words, ascending.
        idf: (V,) log(N / df) of each.
        unseen: that of a word which is not there: log N, as if one document had it.
    """

    hashes: np.ndarray
    idf: np.ndarray
    unseen: float


def learn(corpus: Words) -> Rarity:
    """Count in how many documents each word stands."""
    pairs = rng.bits(0, "document word", corpus.document, corpus.hashes)
    _, first = np.unique(pairs, return_index=True)
    hashes, documents = np.unique(corpus.hashes[first], return_counts=True)
    total = max(1, corpus.documents)
    return Rarity(hashes, np.log(total / documents), float(np.log(total)))


def scores(text: Text, rarity: Rarity) -> np.ndarray:
    """(W,) TF-IDF of a text's words."""
    hashes, owner = of_text(text)
    _, inverse, seen = np.unique(
        rng.bits(0, "sequence word", owner, hashes), return_inverse=True, return_counts=True
    )
    return seen[inverse] * idf(hashes, rarity)


def idf(hashes: np.ndarray, rarity: Rarity) -> np.ndarray:
    """log(N / df) of each of some words."""
    if not len(rarity.hashes):
        return np.full(len(hashes), rarity.unseen)
    number = np.minimum(np.searchsorted(rarity.hashes, hashes), len(rarity.hashes) - 1)
    return np.where(rarity.hashes[number] == hashes, rarity.idf[number], rarity.unseen)


def units(text: Text, rarity: Rarity, top: float) -> Units:
    """The words of the highest scores: of each sequence the share ``top`` of its words, rounded up."""
    score, owner = scores(text, rarity), text.sequence[text.words]
    order = np.lexsort((-score, owner))
    count = np.bincount(owner, minlength=text.sequences)
    rank = np.arange(len(owner)) - (np.cumsum(count) - count)[owner[order]]
    kept = np.sort(order[rank < np.ceil(top * count)[owner[order]]])
    return words.runs(text, kept, np.ones(len(kept), np.int64))
