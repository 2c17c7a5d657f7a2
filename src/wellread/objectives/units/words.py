"""Whole words: all pieces of a word are masked together, with any tokenizer (the store marks word starts)."""

from __future__ import annotations

import numpy as np

from wellread.objectives.masking import Text, Units


def units(text: Text) -> Units:
    """Every word."""
    return Units(text.words, np.diff(text.words, append=len(text)))


def runs(text: Text, first: np.ndarray, count: np.ndarray) -> Units:
    """Runs of words as units.

    Args:
        text: W words.
        first: (U,) number of each run's first word, ascending.
        count: (U,) its words.
    """
    borders = np.append(text.words, len(text))
    return Units(borders[first], borders[first + count] - borders[first])
