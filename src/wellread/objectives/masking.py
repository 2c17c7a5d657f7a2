"""Which tokens a masked language model has to predict.

A pure function of (seed, epoch, sample, position): a sample gets the same mask whatever stands beside it in
the batch, on one process or on four, before and after an interruption.  All chosen tokens become [MASK]
(Wettig et al., 2023, arXiv 2202.08005: replacing some by random tokens, or keeping them, does not help).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wellread import rng
from wellread.tokens.batch import PackedBatch

# One mask for all validations: losses under different rates or units cannot be compared with each other.
VALIDATION_RATE = 0.15
VALIDATION_SEED = 20240229


def choose(batch: PackedBatch, rate: float, whole_word: bool, seed: int, epoch: int) -> Tensor:
    """Choose the tokens to predict: exactly the budget of every sequence, or the nearest in whole words.

    The budget is ``rate`` times the maskable tokens, rounded (a half up), and at least 1 where a sequence has
    a maskable token; special tokens (word id -1) are never chosen.

    Args:
        batch: the batch, on the CPU.
        rate: share of the maskable tokens, in (0, 1].
        whole_word: choose all pieces of a word together; the budget is then met within half a word (a
            sequence gets one word at least).
        seed: the run's seed.
        epoch: the pass over the data.

    Returns:
        (M,) int64 indices into the T tokens of the batch, ascending.
    """
    sequence, position, word = _coordinates(batch)
    maskable = np.flatnonzero(word >= 0)
    if not len(maskable):
        return torch.empty(0, dtype=torch.int64)
    sequence, position, word = sequence[maskable], position[maskable], word[maskable]
    budget = np.floor(rate * np.bincount(sequence, minlength=batch.sequences) + 0.5).astype(np.int64)

    new_unit = np.ones(len(maskable), dtype=bool)
    if whole_word:
        new_unit[1:] = (sequence[1:] != sequence[:-1]) | (word[1:] != word[:-1])
    first = np.flatnonzero(new_unit)
    size = np.diff(np.append(first, len(maskable)))
    owner = sequence[first]
    keys = rng.bits(seed, "masking", epoch, batch.sample_ids.numpy()[owner], position[first])

    order = np.lexsort((keys, owner))
    owner, size, first = owner[order], size[order], first[order]
    before = np.cumsum(size) - size
    starts = np.append(True, owner[1:] != owner[:-1])
    before -= before[starts][np.cumsum(starts) - 1]
    # A unit is taken while its middle lies within the budget: for single tokens that is the exact number.
    taken = starts | (2 * before + size <= 2 * budget[owner])
    chosen = np.repeat(first[taken], size[taken])
    within = np.arange(len(chosen)) - np.repeat(np.cumsum(size[taken]) - size[taken], size[taken])
    return torch.from_numpy(np.sort(maskable[chosen + within]))


def validation_positions(batch: PackedBatch) -> Tensor:
    """The one fixed mask (15%, single tokens) by which all recipes are validated."""
    return choose(batch, VALIDATION_RATE, whole_word=False, seed=VALIDATION_SEED, epoch=0)


def _coordinates(batch: PackedBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequence number, position and word of every token, (T,) each."""
    lengths = np.diff(batch.cu_seqlens.numpy())
    sequence = np.repeat(np.arange(batch.sequences), lengths)
    return sequence, batch.position_ids.numpy(), batch.word_ids.numpy()
