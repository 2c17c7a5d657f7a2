"""The held-out text on which all recipes are compared: the same samples in the same order, under one mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wellread import rng
from wellread.objectives.masking import VALIDATION_SEED
from wellread.tokens.batch import PackedBatch
from wellread.tokens.packing import assemble, cut
from wellread.tokens.store import Store

# Enough for differences of about 0.01 between two models on the same mask; ten validations of so many tokens
# take as long as training on about 80,000.
MOST_TOKENS = 1 << 15


@dataclass(frozen=True)
class HeldOut:
    """The held-out samples.

    Attributes:
        batches: in the order in which they are scored, at most ``batch_tokens`` tokens each.
        bytes: UTF-8 length of their text, in proportion to the store's tokens.
    """

    batches: tuple[PackedBatch, ...]
    bytes: float


def held_out(store: Store, max_length: int, batch_tokens: int) -> HeldOut:
    """Choose samples in an order that depends on nothing but the store, up to MOST_TOKENS tokens.

    Args:
        store: the held-out documents.
        max_length: longest sequence in tokens, special tokens included.
        batch_tokens: most tokens of a batch, at least ``max_length``.
    """
    special = len(store.prefix) + len(store.suffix)
    starts, lengths, _ = cut(np.asarray(store.offsets), max_length - special)
    order = np.argsort(rng.bits(VALIDATION_SEED, "held out", np.arange(len(starts))), kind="stable")
    order = order[np.cumsum(lengths[order] + special) <= MOST_TOKENS]
    batches: list[list[int]] = []
    room = 0
    for sample in order.tolist():
        size = int(lengths[sample]) + special
        if size > room:
            batches.append([])
            room = batch_tokens
        batches[-1].append(sample)
        room -= size
    share = int(lengths[order].sum()) / max(1, store.n_tokens)
    return HeldOut(
        tuple(assemble(store, starts, lengths, np.array(batch)) for batch in batches), store.bytes * share
    )
