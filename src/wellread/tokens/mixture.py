"""Two token stores read side by side at fixed shares: a field's text, and other text replayed beside it.

The bins of both (:mod:`wellread.tokens.packing`) stand in one endless row, the other text's spread evenly
through it, and each step takes the next few.  Which bin stands where is integer arithmetic on its place, so
any step is found at once, and shares hold over any stretch of the run to within one bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wellread import rng
from wellread.tokens.batch import PackedBatch
from wellread.tokens.packing import Packing
from wellread.tokens.store import Store

UNIT = 1 << 20  # shares of bins are counted in parts of so many


@dataclass(frozen=True)
class Mixture:
    """The order of two stores' tokens in a run; what a :class:`Packing` is to one store.

    A sample's number tells its pass as well, so that it is masked anew each time: the field's samples have
    the numbers from ``pass * (field + other)`` on, the other's those after them.

    Attributes:
        field: the packing of the field's text.
        other: that of the other text, with bins of the same size.
        parts: of UNIT bins so many are the other's.
        bins: of the whole run.
        steps: over which they are spread evenly.
    """

    field: Packing
    other: Packing
    parts: int
    bins: int
    steps: int

    @property
    def store(self) -> Store:
        """The field's."""
        return self.field.store

    @property
    def max_length(self) -> int:
        """Longest sequence, special tokens included."""
        return self.field.max_length

    @property
    def steps_per_epoch(self) -> int:
        """The run counts as one epoch."""
        return self.steps

    @property
    def mean_tokens_per_step(self) -> float:
        """Tokens in a step, special tokens included, on average."""
        return self._mean(_fill(self.field), _fill(self.other)) * self.bins / self.steps

    @property
    def n_samples(self) -> int:
        """Samples of the whole run, those of later passes counted again; about."""
        field, other = (packing.n_samples / packing.n_bins for packing in (self.field, self.other))
        return round(self._mean(field, other) * self.bins)

    def epoch(self, _: int) -> int:
        """Always 0: passes are told by the samples' numbers."""
        return 0

    def samples(self, step: int) -> np.ndarray:
        """(S,) the samples of a step: a pure function of (seed, step)."""
        place = np.arange(step * self.bins // self.steps, (step + 1) * self.bins // self.steps)
        before = place * self.parts // UNIT  # bins of the other text before each place
        is_other = (place + 1) * self.parts // UNIT > before
        found = [
            self._contents(self.other if other else self.field, int(number), shift)
            for number, other in zip(np.where(is_other, before, place - before), is_other, strict=True)
            for shift in (self._field_samples if other else 0,)
        ]
        return np.concatenate(found)

    def sizes(self, samples: np.ndarray) -> np.ndarray:
        """(S,) int64 tokens of each sample, special tokens included."""
        within, is_other = self._where(samples)
        sizes = np.empty(len(samples), np.int64)
        sizes[~is_other] = self.field.sizes(within[~is_other])
        sizes[is_other] = self.other.sizes(within[is_other])
        return sizes

    def assemble(self, samples: np.ndarray) -> PackedBatch:
        """The given samples end to end, the field's before the other's."""
        within, is_other = self._where(samples)
        parts = [
            (packing.assemble(within[chosen]), samples[chosen])
            for packing, chosen in ((self.field, ~is_other), (self.other, is_other))
            if chosen.any()
        ] or [(self.field.assemble(within), samples)]  # a process may have nothing to read
        ends = np.cumsum([0, *(batch.tokens for batch, _ in parts)])
        borders = [batch.cu_seqlens[1:] + int(end) for (batch, _), end in zip(parts, ends, strict=False)]
        return PackedBatch(
            input_ids=torch.cat([batch.input_ids for batch, _ in parts]),
            cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int32), *borders]),
            position_ids=torch.cat([batch.position_ids for batch, _ in parts]),
            word_ids=torch.cat([batch.word_ids for batch, _ in parts]),
            sample_ids=torch.from_numpy(np.concatenate([numbers for _, numbers in parts]).astype(np.int64)),
        )

    def batch(self, step: int) -> PackedBatch:
        """The whole batch of a step."""
        return self.assemble(self.samples(step))

    @property
    def _field_samples(self) -> int:
        return len(self.field.sample_starts)

    def _mean(self, field: float, other: float) -> float:
        return (field * (UNIT - self.parts) + other * self.parts) / UNIT

    def _where(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers within their own packing, and which are the other's."""
        within = samples % (self._field_samples + len(self.other.sample_starts))
        is_other = within >= self._field_samples
        return np.where(is_other, within - self._field_samples, within), is_other

    def _contents(self, packing: Packing, number: int, shift: int) -> np.ndarray:
        """The samples of the ``number``-th bin that a packing gives, over all its passes."""
        passed, place = divmod(number, packing.n_bins)
        chosen = int(rng.permute(place, packing.n_bins, packing.seed, "order", passed))
        inside = packing.bin_samples[packing.bin_offsets[chosen] : packing.bin_offsets[chosen + 1]]
        return inside + shift + passed * (self._field_samples + len(self.other.sample_starts))


def mix(
    field: Packing, other: Packing, share: float, *, epochs: float = 1.0, tokens: int | None = None
) -> Mixture:
    """Lay out a run.

    Args:
        field: of the field's text.
        other: of the other text, planned with the same lengths.
        share: of the tokens that are the other's, in (0, 1).
        epochs: passes over the field's text.
        tokens: of the run, instead of ``epochs``.
    """
    rates = (1 - share) / _fill(field), share / _fill(other)
    parts = round(UNIT * rates[1] / sum(rates))
    if tokens is not None:
        bins = max(1, round(tokens * sum(rates)))
    else:
        wanted = max(1, round(epochs * field.n_bins))
        bins = wanted
        while bins - bins * parts // UNIT < wanted:
            bins += wanted - (bins - bins * parts // UNIT)
    width = field.batch_tokens // field.bin_tokens
    return Mixture(field, other, parts, bins, -(-bins // width))


def _fill(packing: Packing) -> float:
    """Tokens of a bin on average."""
    return packing.tokens_per_epoch / packing.n_bins
