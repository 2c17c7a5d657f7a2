"""Which tokens a masked language model has to predict: units drawn until a budget is met.

A pure function of (seed, epoch, sample, position): a sample gets the same mask whatever stands beside it in
the batch, on one process or on four, before and after an interruption.

Units are runs of tokens that are masked together: single tokens (here), words, spans, phrases, terms
(:mod:`wellread.objectives.units`).  Kinds of units are mixed by weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wellread import rng
from wellread.tokens.batch import PackedBatch

# One mask for all validations: losses under different rates or units cannot be compared with each other.
VALIDATION_RATE = 0.15
VALIDATION_SEED = 20240229


@dataclass(frozen=True)
class Text:
    """The maskable tokens of a batch (those whose word id is not -1), N in all and W words, in order.

    Attributes:
        index: (N,) int64, where each stands in the batch.
        tokens: (N,) int64 ids.
        sequence: (N,) int64, number of its sequence in the batch.
        position: (N,) int64, place within its sequence.
        sample: (N,) int64, identity of its sequence.
        words: (W,) int64, where each word begins, as an index into the N.
        sequences: number of sequences in the batch.
        seed: the run's seed.
        epoch: the pass over the data.
    """

    index: np.ndarray
    tokens: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    sample: np.ndarray
    words: np.ndarray
    sequences: int
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.index)

    def bits(self, purpose: str, places: np.ndarray) -> np.ndarray:
        """64 random bits for each of some tokens, given as indices into the N."""
        return rng.bits(self.seed, purpose, self.epoch, self.sample[places], self.position[places])

    def uniform(self, purpose: str, places: np.ndarray) -> np.ndarray:
        """A float64 in [0, 1) for each of some tokens, given as indices into the N."""
        return rng.uniform(self.seed, purpose, self.epoch, self.sample[places], self.position[places])


class Units(NamedTuple):
    """Runs of tokens, U in all, ascending; none reaches from one sequence into another.

    Attributes:
        first: (U,) int64, where each begins, as an index into a text's N tokens.
        size: (U,) int64, its tokens.
    """

    first: np.ndarray
    size: np.ndarray


# What finds the units of one kind in a text.
Kind = Callable[[Text], Units]


class Chosen(NamedTuple):
    """The tokens to predict.

    Attributes:
        positions: (M,) int64 indices into the T tokens of the batch, ascending.
        units: (M,) int64, the first token of the unit by which each was chosen, as such an index.
    """

    positions: Tensor
    units: Tensor


def tokens(text: Text) -> Units:
    """Every token by itself."""
    return Units(np.arange(len(text)), np.ones(len(text), np.int64))


PLAIN: tuple[tuple[float, Kind], ...] = ((1.0, tokens),)


def choose(
    batch: PackedBatch, rate: float, seed: int, epoch: int, kinds: Sequence[tuple[float, Kind]] = PLAIN
) -> Chosen:
    """Choose the tokens to predict: in every sequence the budget, within half of the last unit.

    The budget is ``rate`` times the maskable tokens, rounded (a half up), and at least 1 where a sequence has
    a maskable token.  A unit is taken while its middle lies within the budget; a sequence gets one unit at
    least.  Single tokens meet the budget exactly.  Special tokens (word id -1) are never chosen.

    Args:
        batch: the batch, on the CPU.
        rate: share of the maskable tokens, in (0, 1].
        seed: the run's seed.
        epoch: the pass over the data.
        kinds: kinds of units, each with its weight: the share of the masked tokens that it brings where
            kinds do not overlap or run out.  A kind of weight 0 is drawn from when no other has a unit left.
            One kind alone gives the same mask at any weight.
    """
    text = read(batch, seed, epoch)
    if not len(text):
        nothing = torch.empty(0, dtype=torch.int64)
        return Chosen(nothing, nothing)
    first, size = _in_order(text, kinds)
    # A token belongs to the first unit that holds it; of repeated places the last assignment counts.
    holder = np.full(len(text), len(first))
    holder[ranges(first, size)[::-1]] = np.repeat(np.arange(len(first)), size)[::-1]
    fresh = np.bincount(holder, minlength=len(first) + 1)[:-1]
    brings = np.flatnonzero(fresh)
    fresh, owner = fresh[brings], text.sequence[first[brings]]

    budget = np.floor(rate * np.bincount(text.sequence, minlength=text.sequences) + 0.5).astype(np.int64)
    starts = np.append(True, owner[1:] != owner[:-1])
    before = np.cumsum(fresh) - fresh
    before -= before[starts][np.cumsum(starts) - 1]
    taken = np.zeros(len(first) + 1, bool)
    taken[brings] = starts | (2 * before + fresh <= 2 * budget[owner])
    chosen = np.flatnonzero(taken[holder])
    return Chosen(torch.from_numpy(text.index[chosen]), torch.from_numpy(text.index[first[holder[chosen]]]))


def read(batch: PackedBatch, seed: int, epoch: int) -> Text:
    """The maskable tokens of a batch; arguments as of :func:`choose`."""
    word = batch.word_ids.numpy()
    index = np.flatnonzero(word >= 0)
    lengths = np.diff(batch.cu_seqlens.numpy())
    sequence, word = np.repeat(np.arange(batch.sequences), lengths)[index], word[index]
    begins = np.ones(len(index), dtype=bool)
    begins[1:] = (sequence[1:] != sequence[:-1]) | (word[1:] != word[:-1])
    return Text(
        index=index,
        tokens=batch.input_ids.numpy()[index],
        sequence=sequence,
        position=batch.position_ids.numpy()[index],
        sample=batch.sample_ids.numpy()[sequence],
        words=np.flatnonzero(begins),
        sequences=batch.sequences,
        seed=seed,
        epoch=epoch,
    )


def validation_positions(batch: PackedBatch) -> Tensor:
    """The one fixed mask (15%, single tokens) by which all recipes are validated."""
    return choose(batch, VALIDATION_RATE, seed=VALIDATION_SEED, epoch=0).positions


def ranges(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The integers of the ranges [first, first + size), one after the other."""
    return np.arange(int(size.sum())) + np.repeat(first - (np.cumsum(size) - size), size)


def _in_order(text: Text, kinds: Sequence[tuple[float, Kind]]) -> tuple[np.ndarray, np.ndarray]:
    """All units, sequence by sequence, in the order in which they are drawn.

    Each kind's units come in a random order of its own.  Kinds are merged as Poisson processes: a unit
    follows the one before it of its kind after an exponential time of mean size / weight, so that tokens
    come in at rates in proportion to the weights.
    """
    found = []
    for number, (weight, kind) in enumerate(kinds):
        first, size = kind(text)
        purpose = f"masking {number}" if number else "masking"
        order = np.lexsort((text.bits(purpose, first), text.sequence[first]))
        found.append((first[order], size[order], weight))
    if len(found) == 1:
        return found[0][:2]
    times = [_arrivals(text, *units, number) for number, units in enumerate(found)]
    first = np.concatenate([units[0] for units in found])
    size = np.concatenate([units[1] for units in found])
    merged = np.lexsort((np.concatenate(times), text.sequence[first]))  # stable: a kind keeps its order
    return first[merged], size[merged]


def _arrivals(text: Text, first: np.ndarray, size: np.ndarray, weight: float, number: int) -> np.ndarray:
    """When each unit of a kind arrives, in its sequence's time; never, at weight 0."""
    if not len(first) or not weight:
        return np.full(len(first), np.inf)
    waits = -np.log(text.uniform(f"masking wait {number}", first) + 2.0**-54) * size / weight
    total = np.cumsum(waits)
    owner = text.sequence[first]
    starts = np.append(True, owner[1:] != owner[:-1])
    return total - (total - waits)[starts][np.cumsum(starts) - 1]
