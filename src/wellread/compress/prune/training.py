"""Training what pruning has left."""

from __future__ import annotations

from typing import Any

from wellread.compress.subject import Subject
from wellread.errors import RecipeError
from wellread.finetune import stable
from wellread.finetune.loop import After, Loss, steps_of, tune
from wellread.models import packed
from wellread.settings import FinetuneSettings


def settings_of(subject: Subject, epochs: int | None) -> FinetuneSettings:
    """The subject's settings of training, with all keys resolved."""
    train = subject.task.splits["train"]
    size = stable.size_of(subject.folder)
    settings, _ = stable.resolve(subject.settings, subject.task.kind, len(train), size)
    return settings if epochs is None else settings.model_copy(update={"epochs": epochs, "min_steps": 0})


def steps_in(subject: Subject, settings: FinetuneSettings) -> int:
    """Optimiser steps of a full run over train."""
    return steps_of(settings, len(subject.data.sequences(subject.task.splits["train"])))


def retrain(
    model: Any,
    subject: Subject,
    settings: FinetuneSettings,
    seed: int,
    *,
    loss: Loss | None = None,
    after: After | None = None,
) -> Any:
    """Train a model further on train; the best moment on dev is kept.

    Returns:
        The same model, in evaluation mode with packed attention.

    Raises:
        RecipeError: the loss stopped being a number.
    """
    train = subject.task.splits["train"]
    result = tune(model, subject.data, train, settings, seed, loss=loss, after=after, fine_tuned=True)
    if result.failed:
        raise RecipeError(
            f"training the pruned model failed: {result.failure}",
            where="finetune.learning_rate",
            fix=f"lower it (now {settings.learning_rate:g})",
        )
    return packed.enable(result.model).eval()
