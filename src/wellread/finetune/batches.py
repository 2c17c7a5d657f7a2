"""Encoded texts in batches: which sequences come when, and how they are packed."""

from __future__ import annotations

import numpy as np
import torch

from wellread import rng
from wellread.finetune.encode import Encoded
from wellread.tokens.batch import PackedBatch


def select(encoded: Encoded, index: np.ndarray) -> tuple[PackedBatch, np.ndarray, np.ndarray]:
    """Some sequences as a packed batch.

    Args:
        encoded: all sequences.
        index: (B,) numbers of the sequences wanted, in that order.

    Returns:
        The batch of T tokens; (V,) int64 rows of the batch at which labelled words stand; and (V,) int64
        numbers of these words among all labelled words of ``encoded``.
    """
    tokens, lengths = _spread(encoded.offsets, index)
    words, counts = _spread(encoded.word_offsets, index)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    rows = encoded.word_positions[words] + np.repeat(ends[:-1], counts)
    batch = PackedBatch(
        input_ids=torch.from_numpy(encoded.input_ids[tokens]),
        cu_seqlens=torch.from_numpy(ends.astype(np.int32)),
        position_ids=torch.from_numpy(positions),
        word_ids=torch.full((int(ends[-1]),), -1),
        sample_ids=torch.from_numpy(np.asarray(index, dtype=np.int64)),
        token_type_ids=None if encoded.type_ids is None else torch.from_numpy(encoded.type_ids[tokens]),
    )
    return batch, rows, words


def order(count: int, first: int, size: int, seed: int) -> np.ndarray:
    """(size,) numbers of the sequences at the places ``first``, ``first + 1``, ... of an endless shuffle.

    The shuffle runs through all ``count`` sequences before any comes again; it is a pure function of the
    seed and the place, so no state has to be kept, and every batch is full.
    """
    places = np.arange(first, first + size)
    epochs = places // count
    parts = [
        rng.permute(places[epochs == epoch] % count, count, seed, "finetune-order", int(epoch))
        for epoch in np.unique(epochs)
    ]
    return np.concatenate(parts)


def by_length(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """All sequences in batches of about ``tokens`` tokens, the longest first.

    Sequences of equal length stand together, which lets attention treat them at once.
    """
    ranked = np.argsort(-lengths, kind="stable")
    bins = (np.cumsum(lengths[ranked]) - 1) // tokens
    return np.split(ranked, np.flatnonzero(np.diff(bins)) + 1) if len(ranked) else []


def _spread(offsets: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the items of the sequences ``index`` in flat storage, and how many each has."""
    counts = offsets[index + 1] - offsets[index]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(offsets[index] - (ends - counts), counts) + np.arange(total), counts
