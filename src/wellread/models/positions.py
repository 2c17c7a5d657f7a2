"""Learnt positions beyond those that have been trained."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel


@torch.no_grad()
def tile(model: PreTrainedModel, known: int, wanted: int) -> None:
    """Give rows ``known`` to ``wanted`` of a table of learnt positions the first rows over again, in place.

    What the model makes of sequences up to ``known`` tokens stays.  Models with rotary positions have no
    table and nothing is done.

    Args:
        model: BERT or GPT-2 have a table.
        known: positions that have been trained.
        wanted: positions that are to be read.
    """
    base: Any = model.base_model
    table = {"bert": "embeddings.position_embeddings", "gpt2": "wpe"}.get(model.config.model_type)
    if table is None:
        return
    rows = base.get_submodule(table).weight
    rows[known:wanted] = rows[torch.arange(known, wanted) % known]
