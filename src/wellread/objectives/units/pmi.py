"""PMI masking: phrases whose words predict each other are masked together (Levine et al., 2021).

"PMI-Masking: Principled masking of correlated spans", arXiv 2010.01825.  If only one word of "myocardial
infarction" is hidden, the model need only complete the phrase.  The phrases are learnt from the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wellread.objectives.masking import Text, Units
from wellread.objectives.units import words
from wellread.objectives.units.phrases import Phrases, Words, contains, grams, longest

LEAST = 11  # occurrences of a phrase that is listed
SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}  # of the list, by number of words
LOOKED_AT = 1 << 20  # words on which the list's coverage is measured


@dataclass(frozen=True)
class Counts:
    """The phrases of n words that occur often enough, C in all.

    Attributes:
        hashes: (C,) uint64, ascending.
        log_share: (C,) log of their share of all phrases of n words.
        where: (C,) first word of an occurrence.
    """

    hashes: np.ndarray
    log_share: np.ndarray
    where: np.ndarray


def units(text: Text, phrases: Phrases) -> Units:
    """The text cut into listed phrases, the longest first, and the words between them."""
    first, size = longest(text, phrases)
    begins = np.ones(len(text.words) + 1, np.int64)
    begins[first] = size
    starts = np.ones(len(text.words), bool)
    for inner in range(1, max(phrases, default=1)):
        starts[(first + inner)[size > inner]] = False
    alone = np.flatnonzero(starts)
    return words.runs(text, alone, begins[alone])


def learn(corpus: Words, counted: dict[int, Counts], coverage: float) -> tuple[dict[int, np.ndarray], float]:
    """The phrases of a corpus that hang together most, so many that they cover a share of its words.

    As in the paper, half of the list has two words, a quarter three, an eighth each four and five; phrases
    are ranked by PMI_n with p(phrase) squared, which holds back rare ones.

    Args:
        corpus: the words.
        counted: its phrases.
        coverage: the share, measured at the beginning of the corpus.

    Returns:
        the list, and the share that it covers.
    """
    split = best_splits(corpus.hashes, counted)
    needed = {}
    for n, share in SHARES.items():
        score = 2 * counted[n].log_share - split[n]
        rank = np.empty(len(score), np.int64)
        rank[np.argsort(-score, kind="stable")] = np.arange(len(score))
        needed[n] = (rank + 1) / share  # the length that the whole list has when it reaches this phrase
    by_word = _needed_by_word(corpus, counted, needed)
    finite = np.sort(by_word[np.isfinite(by_word)])
    wanted = int(np.ceil(coverage * len(by_word)))
    length = finite[min(wanted, len(finite)) - 1] if len(finite) else 0.0
    listed = {n: counted[n].hashes[needed[n] <= length] for n in SHARES}
    return listed, float((by_word <= length).mean()) if len(by_word) else 0.0


def count(corpus: Words, least: int = LEAST, most: int = max(SHARES)) -> dict[int, Counts]:
    """Phrases of 1 .. ``most`` words with at least ``least`` occurrences, and all single words."""
    found: dict[int, Counts] = {}
    frequent = np.ones(len(corpus.hashes) + 1, bool)
    for n, here in grams(corpus.hashes, most):
        whole = corpus.document[: len(here)] == corpus.document[n - 1 :]
        # A frequent phrase consists of frequent ones.
        at = np.flatnonzero(whole & frequent[: len(here)] & frequent[1 : len(here) + 1])
        hashes, first, inverse, seen = np.unique(
            here[at], return_index=True, return_inverse=True, return_counts=True
        )
        enough = seen >= (least if n > 1 else 1)
        frequent = np.zeros(len(here) + 1, bool)
        frequent[at] = enough[inverse]
        share = np.log(seen[enough] / max(1, int(whole.sum())))
        found[n] = Counts(hashes[enough], share, at[first[enough]])
    nothing = Counts(np.empty(0, np.uint64), np.empty(0), np.empty(0, np.int64))
    return {n: found.get(n, nothing) for n in range(1, most + 1)}


def best_splits(hashes: np.ndarray, counted: dict[int, Counts]) -> dict[int, np.ndarray]:
    """For each phrase of two words or more, the largest sum of log shares over its splits into parts.

    PMI_n is the log share less this number: the smallest log p(phrase) / prod p(part) of all splits.
    """
    split: dict[int, np.ndarray] = {}
    whole = {1: counted[1].log_share}  # the best of all splits, the phrase unsplit among them
    for n in range(2, max(counted) + 1):
        at = counted[n].where
        sums = np.full(len(at), -np.inf)
        for head in range(1, n):
            left = counted[head].log_share[find(hashes, counted, at, head)]
            right = whole[n - head][find(hashes, counted, at + head, n - head)]
            sums = np.maximum(sums, left + right)
        split[n], whole[n] = sums, np.maximum(sums, counted[n].log_share)
    return split


def find(hashes: np.ndarray, counted: dict[int, Counts], at: np.ndarray, n: int) -> np.ndarray:
    """The numbers of the phrases of n words that begin at the words ``at``."""
    windows = hashes[at[:, None] + np.arange(n)].reshape(-1)
    *_, (_, grams_here) = grams(windows, n) if len(at) else [(n, np.empty(0, np.uint64))]
    return np.searchsorted(counted[n].hashes, grams_here[::n])


def _needed_by_word(corpus: Words, counted: dict[int, Counts], needed: dict[int, np.ndarray]) -> np.ndarray:
    """(words looked at,) how long the list must be to cover each word; infinite where it never does."""
    hashes, document = corpus.hashes[:LOOKED_AT], corpus.document[:LOOKED_AT]
    by_word = np.full(len(hashes), np.inf)
    for n, here in grams(hashes, max(needed)):
        if n not in needed or not len(counted[n].hashes):
            continue
        known = (document[: len(here)] == document[n - 1 :]) & contains(counted[n].hashes, here)
        number = np.minimum(np.searchsorted(counted[n].hashes, here), len(counted[n].hashes) - 1)
        length = np.where(known, needed[n][number], np.inf)
        for inner in range(n):
            window = by_word[inner : inner + len(here)]
            np.minimum(window, length, out=window)
    return by_word
