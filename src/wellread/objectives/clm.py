"""The causal language model: predict each token from those before it in its own sequence."""

from __future__ import annotations

import torch

from wellread.objectives.prediction import Prediction
from wellread.tokens.batch import PackedBatch


def predict(batch: PackedBatch) -> Prediction:
    """Ask, at every token but the last of its sequence, for the next one: T - S predictions."""
    follows = torch.ones(batch.tokens, dtype=torch.bool)
    follows[batch.cu_seqlens[1:].long() - 1] = False
    positions = follows.nonzero().squeeze(1)
    return Prediction(batch, positions, batch.input_ids[positions + 1])
