"""Words and phrases as numbers, and finding listed phrases in a text.

A word is the hash of its pieces, a phrase the hash of its words (64 bits: two of a million phrases share one
with a chance of 1 in 40 million), so a list of phrases is a sorted array and no text is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from wellread import rng
from wellread.objectives.masking import Text, ranges
from wellread.tokens.store import Store

# Hashes of listed phrases, ascending, by their number of words.
Phrases = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Words:
    """Words of a corpus, W in all, in order.

    Attributes:
        hashes: (W,) uint64.
        document: (W,) int64, number of the document in which each stands.
        documents: number of documents.
    """

    hashes: np.ndarray
    document: np.ndarray
    documents: int


def sample(store: Store, most_tokens: int) -> Words:
    """The words of every k-th document of a store, k being as small as ``most_tokens`` allows."""
    offsets = np.asarray(store.offsets)
    chosen = np.arange(0, store.n_documents, max(1, -(-store.n_tokens // most_tokens)))
    hashes, documents = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    sizes = offsets[chosen + 1] - offsets[chosen]
    for part in np.split(chosen, np.flatnonzero(np.diff(np.cumsum(sizes) >> 20)) + 1):
        first, size = offsets[part], offsets[part + 1] - offsets[part]
        ids, starts = store.gather(ranges(first, size))
        starts[(np.cumsum(size) - size)[size > 0]] = True
        begins = np.flatnonzero(starts)
        hashes.append(hash_words(ids, begins))
        documents.append(np.repeat(part, size)[begins])
    return Words(np.concatenate(hashes), np.concatenate(documents), len(chosen))


def hash_words(ids: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """(W,) uint64 hashes of words.

    Args:
        ids: (N,) pieces; the first begins a word.
        begins: (W,) where words begin, ascending.
    """
    if not len(ids):
        return np.empty(0, np.uint64)
    place = np.arange(len(ids)) - np.repeat(begins, np.diff(begins, append=len(ids)))
    return np.add.reduceat(rng.bits(0, "word", ids, place), begins)


def of_text(text: Text) -> tuple[np.ndarray, np.ndarray]:
    """(W,) hashes of a text's words, and (W,) the sequence in which each stands."""
    return hash_words(text.tokens, text.words), text.sequence[text.words]


def grams(hashes: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    """(n, hashes of the n words from each word on) for n = 1 .. ``most``; the n-th array is n - 1 shorter."""
    total = np.zeros(len(hashes), np.uint64)
    for n in range(1, min(most, len(hashes)) + 1):
        end = len(hashes) - n + 1
        total = total[:end] + rng.bits(0, "phrase", hashes[n - 1 :], n - 1)
        yield n, total


def find(hashes: np.ndarray, owner: np.ndarray, phrases: Phrases) -> tuple[np.ndarray, np.ndarray]:
    """Where listed phrases stand: their first words, and their numbers of words; they may overlap.

    Args:
        hashes: (W,) of the words of a text.
        owner: (W,) number of the sequence or document of each; a phrase stays within one.
        phrases: those that are looked for.
    """
    places, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for n, here in grams(hashes, max(phrases, default=0)):
        if n in phrases:
            at = np.flatnonzero((owner[: len(here)] == owner[n - 1 :]) & contains(phrases[n], here))
            places.append(at)
            sizes.append(np.full(len(at), n))
    return np.concatenate(places), np.concatenate(sizes)


def contains(listed: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Whether each hash asked for is in an ascending list."""
    if not len(listed):
        return np.zeros(len(asked), bool)
    return listed[np.minimum(np.searchsorted(listed, asked), len(listed) - 1)] == asked


def longest(text: Text, phrases: Phrases) -> tuple[np.ndarray, np.ndarray]:
    """Phrases that do not overlap: of those that do the longest is kept, of equally long ones a random one.

    Returns:
        (P,) first word of each, ascending, and (P,) its number of words.
    """
    first, size = find(*of_text(text), phrases)
    order = np.lexsort((text.bits("masking overlaps", text.words[first]), -size))
    first, size = first[order], size[order]
    kept = disjoint(first, size, len(text.words))
    first, size = first[kept], size[kept]
    order = np.argsort(first)
    return first[order], size[order]


def disjoint(first: np.ndarray, size: np.ndarray, words: int) -> np.ndarray:
    """Which of some ranges remain when each in turn is kept if it overlaps none that was kept before.

    All ranges that come before every other one that they overlap are kept at once, round by round.

    Args:
        first: (P,) where each range begins, best range first.
        size: (P,) its words.
        words: they lie within [0, words).

    Returns:
        (P,) bool.
    """
    kept, free = np.zeros(len(first), bool), np.ones(words, bool)
    left = np.arange(len(first))
    while len(left):
        sizes = size[left]
        covered, rank = ranges(first[left], sizes), np.repeat(np.arange(len(left)), sizes)
        holder = np.empty(words, np.int64)
        holder[covered[::-1]] = rank[::-1]
        begins = np.cumsum(sizes) - sizes
        wins = np.logical_and.reduceat(holder[covered] == rank, begins)
        kept[left[wins]] = True
        free[covered[wins[rank]]] = False
        left = left[np.logical_and.reduceat(free[covered], begins)]
    return kept
