"""Stateless randomness: frozen values, uniformity, independence of keys, permutations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread import rng

SEEDS = st.integers(0, 2**31 - 1)


def splitmix(value):
    """SplitMix64's output function in plain integers (Steele et al., 2014)."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_the_mixer_is_splitmix64():
    """The first outputs of SplitMix64 seeded with 0 are published with the algorithm."""
    assert splitmix(0) == 0xE220A8397B1DCDAF
    for value in (0, 1, 2**63, 2**64 - 1, 12345678901234567890):
        with np.errstate(over="ignore"):
            assert int(rng._mix(np.uint64(value))) == splitmix(value)


def test_values_are_frozen():
    """A change of any of these changes every order and mask of every run that was ever made."""
    assert int(rng.bits(0, "test")) == 7196375943157555907
    assert int(rng.bits(7, "masking", 3, 12345)) == 1525869287662866678
    assert float(rng.uniform(7, "masking", 3, 12345)) == 0.08271753983064944
    assert rng.derive(7, "torch", 1) == 7599424904341087583
    assert rng.permute(np.arange(10), 10, 7, "order", 2).tolist() == [6, 5, 8, 3, 1, 4, 7, 9, 2, 0]
    assert int(rng.permute(10**6, 10**9, 7, "order", 2)) == 643131880


@given(seed=SEEDS, first=st.integers(-5, 2**40), second=st.lists(st.integers(0, 2**40), max_size=5))
def test_arrays_give_what_single_keys_give(seed, first, second):
    together = rng.bits(seed, "test", first, np.array(second, np.int64))
    assert together.dtype == np.uint64 and together.shape == (len(second),)
    assert together.tolist() == [int(rng.bits(seed, "test", first, key)) for key in second]


def test_keys_are_broadcast():
    grid = rng.bits(0, "test", np.arange(3)[:, None], np.arange(4)[None])
    assert grid.shape == (3, 4) and int(grid[2, 3]) == int(rng.bits(0, "test", 2, 3))


def test_seed_purpose_epoch_and_order_of_keys_matter():
    drawn = [
        int(rng.bits(*key))
        for key in [
            (0, "a", 1, 2),
            (1, "a", 1, 2),
            (0, "b", 1, 2),
            (0, "a", 2, 1),
            (0, "a", 1),
            (0, "a", 1, 2, 0),
            (0, "a", 0, 2),
        ]
    ]
    assert len(set(drawn)) == len(drawn)


def test_large_seeds_and_negative_keys_are_taken():
    assert int(rng.bits(2**64 + 5, "test", -1)) == int(rng.bits(5, "test", -1))
    assert int(rng.bits(5, "test", -1)) != int(rng.bits(5, "test", 1))


@pytest.mark.parametrize("keys", [(np.arange(100_000),), (3, np.arange(100_000) * 1024)])
def test_uniforms_are_uniform_and_uncorrelated(keys):
    """Bounds of five standard deviations, for consecutive and for strided keys."""
    drawn = rng.uniform(11, "test", *keys)
    count = len(drawn)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 5 * (1 / 12 / count) ** 0.5
    observed = np.histogram(drawn, bins=50, range=(0, 1))[0]
    chi_squared = ((observed - count / 50) ** 2 / (count / 50)).sum()
    assert abs(chi_squared - 49) < 5 * (2 * 49) ** 0.5
    for lag in (1, 2, 512):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 5 / count**0.5


def test_every_bit_is_fair():
    drawn = rng.bits(11, "test", np.arange(50_000))
    for place in range(64):
        share = (drawn >> np.uint64(place) & np.uint64(1)).mean()
        assert abs(share - 0.5) < 5 * 0.5 / 50_000**0.5


def test_derived_seeds_fit_where_seeds_are_taken():
    seeds = [rng.derive(seed, "torch") for seed in range(1000)]
    assert len(set(seeds)) == 1000 and all(0 <= seed < 2**63 for seed in seeds)


@given(size=st.integers(1, 300), seed=SEEDS, epoch=st.integers(0, 1000))
@settings(deadline=None)
def test_permute_is_a_bijection(size, seed, epoch):
    sent = rng.permute(np.arange(size), size, seed, "order", epoch)
    assert sent.dtype == np.int64 and sorted(sent.tolist()) == list(range(size))


@given(size=st.integers(1, 2**50), seed=SEEDS, data=st.data())
@settings(deadline=None)
def test_permute_stays_in_range_and_needs_no_neighbours(size, seed, data):
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5, unique=True))
    sent = rng.permute(np.array(index), size, seed, "order")
    assert all(0 <= place < size for place in sent.tolist()) and len(set(sent.tolist())) == len(index)
    assert [int(rng.permute(place, size, seed, "order")) for place in index] == sent.tolist()


def test_permute_keeps_shapes():
    assert rng.permute(3, 10, 0, "order").shape == ()
    assert rng.permute(np.zeros((2, 3), int), 10, 0, "order").shape == (2, 3)
    assert rng.permute(np.empty(0, int), 10, 0, "order").shape == (0,)


@pytest.mark.parametrize("size", [2, 7, 33])
def test_every_place_is_reached_equally_often(size):
    """Over many epochs, each index goes to each place: a chi-squared bound of five standard deviations."""
    epochs = 40 * size
    reached = np.zeros((size, size))
    for epoch in range(epochs):
        reached[np.arange(size), rng.permute(np.arange(size), size, 5, "order", epoch)] += 1
    expected = epochs / size
    chi_squared = ((reached - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert abs(chi_squared - freedom) < 5 * (2 * freedom) ** 0.5 + 1
