"""The masked language model: read a text with tokens hidden, predict the hidden ones.

Devlin et al., 2019 (arXiv 1810.04805).  All chosen tokens become [MASK] unless told otherwise (Wettig et
al., 2023, arXiv 2202.08005: replacing some by random tokens, or keeping them, does not help).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from wellread.objectives.prediction import Prediction
from wellread.tokens.batch import PackedBatch


def predict(batch: PackedBatch, positions: Tensor, shown: int | Tensor) -> Prediction:
    """Hide the tokens at ``positions`` and ask for them.

    Args:
        batch: T tokens.
        positions: (M,) int64, as :func:`wellread.objectives.masking.choose` gives them.
        shown: what is read there: the id of [MASK], or (M,) int64 ids.
    """
    ids = batch.input_ids
    if isinstance(shown, int):
        hidden = ids.index_fill(0, positions, shown)
    else:
        hidden = ids.index_copy(0, positions, shown)
    return Prediction(replace(batch, input_ids=hidden), positions, ids[positions])
