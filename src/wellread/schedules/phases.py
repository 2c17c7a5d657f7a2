"""Stages of sequence length and of batch size, as shares of the training tokens.

GrowLength (Jin et al., 2023, arXiv 2310.00576) reads short sequences first: attention costs less, and a step
has as many tokens as ever.  Batch warm-up takes many small steps first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wellread.settings import PretrainSettings


@dataclass(frozen=True)
class Phase:
    """A part of the training tokens.

    Attributes:
        max_length: longest sequence in tokens, special tokens included.
        batch_tokens: most tokens of a step.
        share: of the training tokens.
    """

    max_length: int
    batch_tokens: int
    share: float


def phases(settings: PretrainSettings, max_length: int) -> list[Phase]:
    """The stages of ``lengths`` and ``batches`` laid over each other; without them a single one.

    Args:
        settings: as in the recipe.
        max_length: of the model.
    """
    lengths = settings.lengths or ((max_length, 1.0),)
    batches = settings.batches or ((settings.batch_tokens, 1.0),)
    borders = sorted({*_ends(lengths), *_ends(batches)})
    return [
        Phase(_at(lengths, begin), _at(batches, begin), end - begin)
        for begin, end in zip([0.0, *borders], borders, strict=False)
    ]


def _ends(stages: Sequence[tuple[int, float]]) -> list[float]:
    """Where each stage ends, in (0, 1]; rounded, so that equal borders of two lists are one."""
    sums = [round(sum(share for _, share in stages[: number + 1]), 9) for number in range(len(stages))]
    return [*sums[:-1], 1.0]


def _at(stages: Sequence[tuple[int, float]], place: float) -> int:
    """The value of the stage in which a place in [0, 1) lies."""
    return next(value for (value, _), end in zip(stages, _ends(stages), strict=True) if place < end)
