"""SALT: a small model teaches a larger one in the first part of the training, on texts that it finds hard.

Rawat et al., "A Little Help Goes a Long Way" (arXiv 2410.18779).  A weaker teacher makes the signal less
noisy where text is easy, and biases the student later; so it is listened to at first only.  Which texts are
read meanwhile may be chosen by its own score: hard, but within its reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wellread.models import packed
from wellread.models.heads import lm_logits
from wellread.objectives.prediction import Prediction
from wellread.settings import TeacherSettings
from wellread.tokens.batch import PackedBatch
from wellread.tokens.packing import Packing

ROWS = 512  # positions whose logits over the vocabulary stand at a time


def weight(settings: TeacherSettings, progress: float) -> float:
    """The teacher's share of the loss.

    Args:
        settings: of the teacher.
        progress: share of the steps that lie behind, from 0.
    """
    if progress >= settings.share:
        return 0.0
    return settings.weight * (1 - progress / settings.share if settings.ramp else 1.0)


@torch.no_grad()
def scores(model: Any, prediction: Prediction, top: int) -> np.ndarray:
    """How hard yet learnable each sample is: median of ``[answer in the teacher's top k] * -log p(answer)``.

    Args:
        model: the teacher, in evaluation mode with packed attention.
        prediction: S samples and M positions.
        top: k.

    Returns:
        (S,) float64; -1 for a sample without a position.
    """
    asked = prediction.to(next(model.parameters()).device)
    hidden = packed.hidden_states(model, asked.inputs).index_select(0, asked.positions)
    parts = zip(hidden.split(ROWS), asked.targets.split(ROWS), strict=True)
    values = torch.cat([_values(lm_logits(model, part).float(), wanted, top) for part, wanted in parts])
    ends = prediction.inputs.cu_seqlens.cpu().numpy()
    owner = np.searchsorted(ends, prediction.positions.cpu().numpy(), side="right") - 1
    found = values.double().cpu().numpy()
    return np.array(
        [
            np.median(found[owner == number]) if (owner == number).any() else -1
            for number in range(len(ends) - 1)
        ]
    )


def rank(packing: Packing, ask: Callable[[PackedBatch], Prediction], model: Any, top: int) -> np.ndarray:
    """Documents of a packing, the highest mean score of its samples first; equal ones by number.

    Args:
        packing: of the documents among which is chosen.
        ask: what a batch's samples are asked, always the same.
        model: the teacher.
        top: as in :func:`scores`.
    """
    offsets = np.asarray(packing.store.offsets)
    totals, counts = np.zeros(len(offsets) - 1), np.zeros(len(offsets) - 1)
    for batch in packing.validation_batches():
        samples = batch.sample_ids.numpy()
        owner = np.searchsorted(offsets, packing.sample_starts[samples], side="right") - 1
        np.add.at(totals, owner, scores(model, ask(batch), top))
        np.add.at(counts, owner, 1)
    judged = np.flatnonzero(counts)
    return judged[np.argsort(-totals[judged] / counts[judged], kind="stable")]


def _values(logits: Tensor, wanted: Tensor, top: int) -> Tensor:
    losses = F.cross_entropy(logits, wanted, reduction="none")
    right = logits.gather(-1, wanted[:, None])
    return torch.where((logits > right).sum(-1) < top, losses, 0.0)
