"""Runs of words as 64-bit hashes, by which texts are compared without keeping them."""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np

# White space and punctuation: outside ASCII by Unicode's word characters, within it by a table of bytes.
_SEPARATOR = re.compile(r"[^\w\x00-\x7f]")
# Scripts that are written without spaces: each character counts as a word.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
_ASCII = bytes(byte if byte > 0x7F or chr(byte).isalnum() else 0x20 for byte in range(256))
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def words(text: str) -> list[bytes]:
    """The words of a text in lower case and UTF-8; punctuation and white space are left out."""
    if not text.isascii():
        text = _UNSPACED.sub(r" \1 ", text)
    return _SEPARATOR.sub(" ", text.lower()).encode("utf-8", "replace").translate(_ASCII).split()


def hashes(text: str, size: int) -> np.ndarray:
    """One hash for every run of ``size`` words; a shorter text that has words is one run.

    Returns:
        uint64 array (max(1, words - size + 1)), in the order of the text; empty where there are no words.
    """
    found = words(text)
    if not found:
        return np.empty(0, np.uint64)
    single = np.fromiter(map(crc32, found), np.uint64, len(found))
    size = min(size, len(found))
    count = len(found) - size + 1
    run = np.full(count, size, np.uint64)
    for offset in range(size):  # arithmetic on uint64 arrays wraps around
        run = run * _MULTIPLIER + single[offset : offset + count]
        run ^= run >> np.uint64(29)
    run *= _MIX
    return run ^ (run >> np.uint64(32))
