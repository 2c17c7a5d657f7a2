"""Randomness without state: every draw is a pure function of integers.

``bits(seed, "masking", epoch, sample_ids, positions)`` gives the same 64 random bits wherever and whenever
it is asked, so data order and masking need no generator state in a checkpoint, and are the same on one
process or on four.  The mixer is SplitMix64's finaliser (Steele et al., 2014), applied once per key.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def bits(seed: int, purpose: str, *keys: Any) -> np.ndarray:
    """64 random bits for every combination of ``keys``.

    Args:
        seed: the run's seed.
        purpose: a word that keeps different uses of the same seed apart.
        keys: integers or integer arrays; arrays are broadcast against each other.

    Returns:
        uint64 array of the broadcast shape of ``keys``.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.asarray(np.uint64(seed & 0xFFFFFFFFFFFFFFFF)))
        state = _mix(state ^ np.uint64(zlib.crc32(purpose.encode())))
        for key in keys:
            array = np.asarray(key)
            state = _mix(state ^ _mix(array.astype(np.int64, copy=False).view(np.uint64)))
    return state


def uniform(seed: int, purpose: str, *keys: Any) -> np.ndarray:
    """float64 uniforms in [0, 1) with 53 random bits; arguments as in :func:`bits`."""
    return (bits(seed, purpose, *keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def derive(seed: int, purpose: str, *keys: int) -> int:
    """A seed below 2**63 for code that wants one (``torch.manual_seed``, scikit-learn: take ``% 2**32``)."""
    return int(bits(seed, purpose, *keys)) >> 1


def permute(index: Any, size: int, seed: int, purpose: str, *keys: int) -> np.ndarray:
    """Where a random permutation of ``range(size)`` sends ``index``, without building the permutation.

    A four-round Feistel network over the next even power of two, walked until the value falls below
    ``size`` (cycle walking), so any position of any epoch costs O(1).

    Args:
        index: integer or integer array with values in [0, size).
        size: length of the permuted range.
        seed: the run's seed.
        purpose: a word that keeps different uses of the same seed apart.
        keys: integers that choose the permutation, for instance the epoch.

    Returns:
        int64 array of the shape of ``index``; a bijection on ``range(size)``.
    """
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    half = np.uint64(half_bits)
    low = np.uint64((1 << half_bits) - 1)
    round_seeds = [derive(seed, purpose, *keys, number) for number in range(4)]
    value = np.atleast_1d(np.asarray(index, dtype=np.int64)).astype(np.uint64)
    pending = np.ones(value.shape, dtype=bool)
    while pending.any():
        left, right = value[pending] >> half, value[pending] & low
        for round_seed in round_seeds:
            left, right = right, left ^ (bits(round_seed, "feistel", right) & low)
        value[pending] = (left << half) | right
        pending &= value >= np.uint64(size)
    return value.astype(np.int64).reshape(np.shape(index))


def _mix(value: np.ndarray) -> np.ndarray:
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
