"""The masked language model: read a text with tokens hidden, predict the hidden ones.

Devlin et al., 2019 (arXiv 1810.04805); all chosen tokens become [MASK] (see :mod:`.masking`).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from wellread.objectives.prediction import Prediction
from wellread.tokens.batch import PackedBatch


def predict(batch: PackedBatch, positions: Tensor, mask_id: int) -> Prediction:
    """Hide the tokens at ``positions`` and ask for them.

    Args:
        batch: T tokens.
        positions: (M,) int64, as :func:`wellread.objectives.masking.choose` gives them.
        mask_id: id of [MASK].
    """
    inputs = replace(batch, input_ids=batch.input_ids.index_fill(0, positions, mask_id))
    return Prediction(inputs, positions, batch.input_ids[positions])
