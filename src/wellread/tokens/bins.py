"""Samples of many lengths into bins of one size, with little room left over.

Bins are filled by best-fit decreasing on the histogram of lengths (like SPFHP, Krell et al., 2021,
arXiv:2107.02027): the work depends on the number of different lengths, not of samples.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from wellread import rng


def fill_bins(sizes: np.ndarray, bin_tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack samples into bins by best-fit decreasing over the histogram of their sizes.

    Args:
        sizes: (samples,) tokens of each sample, each from 1 to ``bin_tokens``.
        bin_tokens: room of a bin.
        seed: chooses which of the samples of one size goes where.

    Returns:
        (bins + 1,) int64 offsets and (samples,) int64 sample numbers, bin after bin.
    """
    # rooms: the different amounts of room that are left, ascending; open_bins: bins with that room, in groups
    # of equal content (the sizes in it, how many bins).
    rooms: list[int] = []
    open_bins: dict[int, list[tuple[tuple[int, ...], int]]] = {}

    def put(room: int, content: tuple[int, ...], count: int) -> None:
        if room not in open_bins:
            open_bins[room] = []
            insort(rooms, room)
        open_bins[room].append((content, count))

    histogram = np.bincount(sizes)
    for size in np.flatnonzero(histogram)[::-1].tolist():
        left = int(histogram[size])
        while left:
            place = bisect_left(rooms, size)
            if place == len(rooms):
                each = bin_tokens // size
                if left >= each:
                    put(bin_tokens - each * size, (size,) * each, left // each)
                if left % each:
                    put(bin_tokens - left % each * size, (size,) * (left % each), 1)
                break
            room = rooms[place]
            content, count = open_bins[room].pop()
            if not open_bins[room]:
                del open_bins[room], rooms[place]
            each = min(room // size, left)
            used = min(count, left // each)
            put(room - each * size, content + (size,) * each, used)
            if count > used:
                put(room, content, count - used)
            left -= each * used
    groups = [group for room in rooms for group in open_bins[room]]
    return _materialise(groups, sizes, seed)


def _materialise(
    groups: list[tuple[tuple[int, ...], int]], sizes: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give each place of each bin a sample of the size planned for it."""
    if not groups:
        return np.zeros(1, np.int64), np.empty(0, np.int64)
    slots = np.concatenate([np.tile(np.array(content), count) for content, count in groups])
    per_bin = np.concatenate([np.full(count, len(content)) for content, count in groups])
    # Samples by size, in random order within a size; slots by size, in the order of the bins.
    numbers = np.arange(len(sizes))
    samples = np.lexsort((rng.bits(seed, "bins", numbers), sizes))
    bin_samples = np.empty(len(sizes), np.int64)
    bin_samples[np.argsort(slots, kind="stable")] = samples
    return np.concatenate([[0], np.cumsum(per_bin)]), bin_samples
