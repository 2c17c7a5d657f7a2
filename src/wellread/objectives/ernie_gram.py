"""Whole n-grams as targets: an n-gram becomes one [MASK], and is predicted by its identity and by its tokens.

Xiao et al., 2021, ERNIE-Gram (arXiv 2010.12148): explicit masking with comprehensive prediction.  The tokens
of an n-gram are asked at query slots behind the text, each at the position of the token that it asks for.
The text sees no slot, and a slot sees the text and itself.  The table of n-grams is dropped afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wellread import rng
from wellread.models.build import seeded
from wellread.models.heads import lm_logits
from wellread.objectives.masking import Chosen, Text, ranges
from wellread.objectives.prediction import Prediction
from wellread.objectives.units import ngrams
from wellread.objectives.units.phrases import Phrases
from wellread.settings import ModelSettings
from wellread.sparsity.flops import step_flops
from wellread.tokens.batch import PackedBatch

if TYPE_CHECKING:
    from wellread.pretrain.auxiliary import Auxiliary, Seen

NAME = "ngrams"


def auxiliary(
    model: ModelSettings, listed: Phrases, vocab: int, mask_rate: float, seed: int, level: float = 0.0
) -> Auxiliary:
    """The loss on n-grams as such: one of the vocabulary or of the list, at each n-gram's [MASK].

    Args:
        model: the architecture.
        listed: the n-grams.
        vocab: size of the vocabulary.
        mask_rate: share of the tokens that is predicted.
        seed: the run's.
        level: share of zeros in the model's matrices.
    """
    from wellread.pretrain.auxiliary import Auxiliary

    with seeded(rng.derive(seed, "ngrams")):
        table = nn.Linear(model.hidden, max(1, sum(map(len, listed.values()))))
        nn.init.normal_(table.weight, std=model.std)

    def loss(model: Any, seen: Seen) -> Tensor:
        if seen.prediction.ngrams is None:
            return seen.hidden.sum() * 0.0
        positions, numbers = seen.prediction.ngrams
        states = seen.hidden.index_select(0, positions)
        tokens = lm_logits(model, states)
        logits = torch.cat([tokens, model.auxiliary[NAME](states)], dim=-1).float()
        total = F.cross_entropy(logits, numbers + tokens.shape[1], reduction="sum")
        return total / seen.step.ngrams

    dense, accounted = passes(model, vocab, table.out_features, mask_rate, level)
    return Auxiliary(NAME, 1.0, loss, table, passes=dense, accounted=accounted)


def passes(
    model: ModelSettings, vocab: int, listed: int, mask_rate: float, level: float
) -> tuple[float, float]:
    """(dense, accounted) FLOPs of slots and n-grams as shares of plain masking's; all masked are bigrams."""
    length, masked = model.max_length, round(mask_rate * model.max_length)
    inner, longer = (step_flops(model, vocab, [size], 0, level) for size in (length, length + masked // 2))
    whole = step_flops(model, vocab, [length], masked, level)
    head = 6 * (masked // 2) * (vocab + listed) * model.hidden
    return (longer[0] - inner[0] + head) / whole[0], (longer[1] - inner[1] + head) / whole[1]


def predict(batch: PackedBatch, text: Text, chosen: Chosen, listed: Phrases, mask_id: int) -> Prediction:
    """Hide the chosen tokens, each n-gram behind one [MASK], and append slots for its tokens.

    A text becomes shorter by n - 1 tokens for each hidden n-gram of n tokens, and n slots come behind it.
    Positions stay those of the tokens.  Without a hidden n-gram this is plain masking.

    Args:
        batch: T tokens.
        text: its maskable tokens.
        chosen: units that :func:`wellread.objectives.units.ngrams.units` found.
        listed: the n-grams.
        mask_id: id of [MASK].
    """
    ids = batch.input_ids.numpy()
    hidden = np.zeros(batch.tokens, bool)
    hidden[chosen.positions.numpy()] = True
    first, size, number = ngrams.spans(text, listed)
    taken = hidden[text.index[first]]
    first, size, number = first[taken], size[taken], number[taken]
    asked = text.index[ranges(first, size)]  # in slots
    inner = text.index[ranges(first + 1, size - 1)]
    kept = np.ones(batch.tokens, bool)
    kept[inner] = False
    alone = hidden.copy()
    alone[asked] = False

    index = np.concatenate([np.flatnonzero(kept), asked])
    slot = np.arange(len(index)) >= kept.sum()
    owner = np.repeat(np.arange(batch.sequences), batch.lengths)[index]
    order = np.lexsort((index, slot, owner))
    index, slot, owner = index[order], slot[order], owner[order]
    lengths = np.bincount(owner, minlength=batch.sequences)
    at = torch.from_numpy(index)
    inputs = replace(
        batch,
        input_ids=torch.from_numpy(np.where(hidden[index], mask_id, ids[index])),
        cu_seqlens=torch.from_numpy(np.append(0, np.cumsum(lengths)).astype(np.int32)),
        position_ids=batch.position_ids[at],
        word_ids=torch.where(torch.from_numpy(slot), -1, batch.word_ids[at]),
        token_type_ids=None if batch.token_type_ids is None else batch.token_type_ids[at],
        slots=torch.from_numpy(np.bincount(owner[slot], minlength=batch.sequences)) if len(first) else None,
    )
    positions = np.flatnonzero(slot | alone[index])
    whole = None
    if len(first):
        place = np.empty(batch.tokens, np.int64)
        place[index[~slot]] = np.flatnonzero(~slot)
        whole = (torch.from_numpy(place[text.index[first]]), torch.from_numpy(number))
    return Prediction(
        inputs, torch.from_numpy(positions), torch.from_numpy(ids[index[positions]]), ngrams=whole
    )
