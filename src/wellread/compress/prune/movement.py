"""Movement pruning: weights go that fine-tuning pushes towards zero, however large they are."""

from __future__ import annotations

from typing import Any

from wellread.compress.prune import gradual
from wellread.compress.prune.settings import GradualSettings
from wellread.compress.subject import Subject
from wellread.finetune.loop import Loss


def prune(subject: Subject, settings: GradualSettings, seed: int, *, loss: Loss | None = None) -> Any:
    """Prune every matrix by the movement of its weights (Sanh et al., arXiv 2005.07683).

    The score of a weight is the sum of minus gradient times weight over the steps, learnt straight through
    the mask; the top share of each matrix lives.  A block's score is the mean of its weights' scores.

    Args:
        subject: the fine-tuned model.
        settings: level, pattern and schedule.
        seed: of dropout and order.
        loss: instead of the task's own, a teacher's for instance.

    Returns:
        The stock model with zeros, in evaluation mode with packed attention.
    """
    return gradual.prune(subject, settings, seed, moving=True, loss=loss)
