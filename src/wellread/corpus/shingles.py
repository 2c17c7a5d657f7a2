"""Runs of words as 64-bit hashes, by which texts are compared without keeping them."""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def words(text: str) -> list[str]:
    """The words of a text in lower case, punctuation and white space left out."""
    return _WORD.findall(text.lower())


def hashes(text: str, size: int) -> np.ndarray:
    """One hash for every run of ``size`` words; a shorter text that has words is one run.

    Returns:
        uint64 array (max(1, words - size + 1)), in the order of the text; empty where there are no words.
    """
    found = words(text)
    if not found:
        return np.empty(0, np.uint64)
    single = np.fromiter(map(crc32, " ".join(found).encode().split(b" ")), np.uint64, len(found))
    size = min(size, len(found))
    count = len(found) - size + 1
    run = np.full(count, size, np.uint64)
    for offset in range(size):  # arithmetic on uint64 arrays wraps around
        run = run * _MULTIPLIER + single[offset : offset + count]
        run ^= run >> np.uint64(29)
    run *= _MIX
    return run ^ (run >> np.uint64(32))
