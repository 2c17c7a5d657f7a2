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
    sets, rarest = _rarest(texts, threshold)
    index: dict[int, list[int]] = defaultdict(list)
    for number in sorted(range(len(texts)), key=lambda number: (groups[number], number)):
        tried: set[int] = set()
        match = None
        for value in rarest[number]:
            for other in index[value]:
                if groups[other] == groups[number] or other in tried:
                    continue
                tried.add(other)
                similarity = _jaccard(sets[other], sets[number])
                if similarity >= threshold and (match is None or other < match[0]):
                    match = (other, number, similarity)
            index[value].append(number)
        if match is not None:
            yield match


def near_groups(texts: Sequence[str], threshold: float = SIMILARITY) -> list[int]:
    """For each text the number of the first text that it is nearly equal to, directly or through others."""
    sets, rarest = _rarest(texts, threshold)
    groups = list(range(len(texts)))
    index: dict[int, list[int]] = defaultdict(list)
    for number in range(len(texts)):
        tried: set[int] = set()
        for value in rarest[number]:
            for other in index[value]:
                if other in tried or leader(groups, other) == leader(groups, number):
                    continue
                tried.add(other)
                if _jaccard(sets[other], sets[number]) >= threshold:
                    join(groups, other, number)
            index[value].append(number)
    return [leader(groups, number) for number in range(len(texts))]


def leader(groups: list[int], number: int) -> int:
    """The lowest member of a group; ``groups`` leads each member to a lower one of its own."""
    while groups[number] != number:
        groups[number] = number = groups[groups[number]]
    return number


def join(groups: list[int], one: int, other: int) -> None:
    """Make one group of the groups of two members."""
    low, high = sorted((leader(groups, one), leader(groups, other)))
    groups[high] = low


def _rarest(texts: Sequence[str], threshold: float) -> tuple[list[np.ndarray], list[list[int]]]:
    """Each text's set of runs, and those of its rarest runs of which a text that similar has one, too."""
    sets = [np.unique(hashes(text, WORDS)) for text in texts]
    if not sets:
        return [], []
    _, inverse, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    rarities = np.split(counts[inverse], np.cumsum([len(one) for one in sets])[:-1])
    rarest = []
    for one, rarity in zip(sets, rarities, strict=True):
        order = np.lexsort((one, rarity))[: len(one) - int(np.ceil(threshold * len(one))) + 1]
        rarest.append(one[order[rarity[order] > 1]].tolist())  # what occurs once cannot be shared
    return sets, rarest


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
