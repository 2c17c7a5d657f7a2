"""Pairs of nearly equal texts, exactly and without comparing all pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from wellread.corpus.shingles import hashes

WORDS = 3
SIMILARITY = 0.8


def near_pairs(
    texts: Sequence[str], groups: Sequence[int], threshold: float = SIMILARITY
) -> Iterator[tuple[int, int, float]]:
    """For each text of a later group the first text of an earlier group that is nearly equal to it.

    Two texts are nearly equal when the Jaccard similarity of their sets of three-word runs reaches the
    threshold.  Sets that similar share one of their rarest elements, so only those are looked up (prefix
    filtering; Chaudhuri, Ganti and Kaushik, 2006), and none is missed.

    Args:
        texts: what is compared.
        groups: number of each text's group.
        threshold: above 0.

    Yields:
        (index of the earlier group's text, index of the later group's text, similarity).
    """
    sets = [np.unique(hashes(text, WORDS)) for text in texts]
    if not any(len(one) for one in sets):
        return
    _, inverse, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    rarities = np.split(counts[inverse], np.cumsum([len(one) for one in sets])[:-1])
    index: dict[int, list[int]] = defaultdict(list)
    for number in sorted(range(len(texts)), key=lambda number: (groups[number], number)):
        one = sets[number]
        if not len(one):
            continue
        rarity = rarities[number]
        order = np.lexsort((one, rarity))[: len(one) - int(np.ceil(threshold * len(one))) + 1]
        rarest = one[order[rarity[order] > 1]].tolist()  # what occurs once cannot be shared
        tried: set[int] = set()
        match = None
        for value in rarest:
            for other in index[value]:
                if groups[other] == groups[number] or other in tried:
                    continue
                tried.add(other)
                similarity = _jaccard(sets[other], one)
                if similarity >= threshold and (match is None or other < match[0]):
                    match = (other, number, similarity)
            index[value].append(number)
        if match is not None:
            yield match


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
