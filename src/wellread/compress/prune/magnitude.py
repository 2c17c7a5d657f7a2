"""Magnitude pruning: the smallest weights go, little by little."""

from __future__ import annotations

from typing import Any

from wellread.compress.prune import gradual
from wellread.compress.prune.settings import GradualSettings
from wellread.compress.subject import Subject
from wellread.finetune.loop import Loss


def prune(subject: Subject, settings: GradualSettings, seed: int, *, loss: Loss | None = None) -> Any:
    """Prune every matrix by |w| while the model trains (Zhu and Gupta, arXiv 1710.01878).

    A weight that has gone keeps its value out of sight and can come back when others become smaller.

    Args:
        subject: the fine-tuned model.
        settings: level, pattern and schedule.
        seed: of dropout and order.
        loss: instead of the task's own, a teacher's for instance.

    Returns:
        The stock model with zeros, in evaluation mode with packed attention.
    """
    return gradual.prune(subject, settings, seed, moving=False, loss=loss)
