"""Bins: every sample once, within the room, as full as plain best-fit decreasing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.tokens.bins import fill_bins


@given(sizes=st.lists(st.integers(1, 64), max_size=200), extra=st.integers(0, 100), seed=st.integers(0, 99))
@settings(deadline=None)
def test_filling_is_a_partition_within_the_room(sizes, extra, seed):
    array = np.array(sizes, np.int64)
    room = 64 + extra
    offsets, samples = fill_bins(array, room, seed)
    assert sorted(samples.tolist()) == list(range(len(sizes)))
    assert offsets[0] == 0 and offsets[-1] == len(sizes) and (np.diff(offsets) > 0).all()
    totals = [array[samples[begin:end]].sum() for begin, end in zip(offsets[:-1], offsets[1:], strict=True)]
    assert all(total <= room for total in totals)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=120), room=st.integers(30, 70))
@settings(deadline=None)
def test_filling_equals_plain_best_fit_decreasing(sizes, room):
    """Bins as full as when the samples are placed one after the other, longest first, where they fit best."""
    bins = []
    for size in sorted(sizes, reverse=True):
        fitting = [content for content in bins if room - sum(content) >= size]
        if fitting:
            max(fitting, key=sum).append(size)
        else:
            bins.append([size])
    offsets, samples = fill_bins(np.array(sizes), room, 0)
    totals = np.add.reduceat(np.array(sizes)[samples], offsets[:-1])
    assert sorted(totals.tolist()) == sorted(map(sum, bins))


def test_the_seed_chooses_who_shares_a_bin():
    sizes = np.full(100, 10)
    first, second = fill_bins(sizes, 50, 0)[1], fill_bins(sizes, 50, 1)[1]
    assert first.tolist() != second.tolist() and first.tolist() != list(range(100))
