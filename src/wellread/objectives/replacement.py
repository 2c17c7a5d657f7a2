"""What a model reads where tokens are hidden: [MASK] everywhere, or BERT's 80/10/10 as an ablation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wellread.objectives.masking import Chosen, Text
from wellread.tokens.batch import PackedBatch

MASKED, REPLACED = 0.8, 0.9  # below the first [MASK], below the second another token, above it the token


def shown(
    batch: PackedBatch, chosen: Chosen, mask_id: int, ordinary: np.ndarray, text: Text, salient: np.ndarray
) -> Tensor:
    """The tokens shown at the chosen positions: 80% [MASK], 10% others, 10% as they are.

    Devlin et al., 2019.  All tokens of a unit fare alike (SpanBERT): its fate is drawn from its first token.

    Args:
        batch: T tokens.
        chosen: M of them.
        mask_id: id of [MASK].
        ordinary: (V,) ids of the tokens that are not special; the others are drawn from these.
        text: the batch's maskable tokens.
        salient: (K,) tokens of the text, as indices into its N, from which the others are drawn instead,
            those of the same sequence (LegalTurk, arXiv 2407.00648: high TF-IDF), of which each has one
            at least; or none at all.

    Returns:
        (M,) int64 ids.
    """
    positions, heads = chosen.positions.numpy(), chosen.units.numpy()
    place = np.searchsorted(text.index, positions)
    fate = text.uniform("replacement", np.searchsorted(text.index, heads))
    draw = text.bits("replacement token", place)
    others = ordinary[draw % np.uint64(len(ordinary))]
    if len(salient):
        owner = text.sequence[salient]
        count = np.bincount(owner, minlength=text.sequences)
        first, here = np.cumsum(count) - count, text.sequence[place]
        others = text.tokens[salient[first[here] + (draw % count[here].astype(np.uint64)).astype(np.int64)]]
    kept = batch.input_ids.numpy()[positions]
    return torch.from_numpy(np.where(fate < MASKED, mask_id, np.where(fate < REPLACED, others, kept)))
