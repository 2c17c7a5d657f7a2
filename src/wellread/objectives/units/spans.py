"""Spans: runs of whole words of random length (SpanBERT, Joshi et al., 2020, arXiv 1907.10529).

The text is tiled by spans whose lengths are geometric with parameter 0.2, given at most 10 words: 3.8 words
on average.  Tiles instead of spans drawn anywhere: none overlap, so a drawn span is masked as it is.
"""

from __future__ import annotations

import numpy as np

from wellread import rng
from wellread.objectives.masking import Text, Units
from wellread.objectives.units import words

STOP = 0.2  # chance that a span ends after a word
LONGEST = 10  # words

_shares = (1 - STOP) ** np.arange(LONGEST) * STOP
# P(length <= 1, 2, ...), renormalised to lengths of at most LONGEST.
CUMULATIVE = np.cumsum(_shares) / _shares.sum()


def units(text: Text) -> Units:
    """The tiles; the last of a sequence ends with it."""
    owner, sample = text.sequence[text.words], text.sample[text.words]
    starts = np.append(True, owner[1:] != owner[:-1])[: len(owner)]
    first = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    # As many lengths are drawn as there are words; those beyond the sequence are not used.
    tile = np.arange(len(owner)) - first
    draw = rng.uniform(text.seed, "masking spans", text.epoch, sample, tile)
    length = np.searchsorted(CUMULATIVE, draw, side="right") + 1
    begin = np.cumsum(length) - length
    begin += first - begin[first]
    kept = begin < np.append(np.flatnonzero(starts)[1:], len(owner))[np.cumsum(starts) - 1]
    begin = begin[kept]
    return words.runs(text, begin, np.diff(begin, append=len(owner)))
