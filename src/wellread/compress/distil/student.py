"""Distil a fine-tuned teacher into a student: the student's half.

Turc, Chang, Lee and Toutanova, "Well-read students learn better" (arXiv 1908.08962): a pre-trained student
learns the teacher's probabilities on unlabelled text of the task's kind, then, if wanted, the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wellread import rng
from wellread.compress.distil import loss as losses
from wellread.compress.distil import teacher as teachers
from wellread.compress.distil.settings import DistilSettings
from wellread.errors import RecipeError
from wellread.finetune import batches, objective, stable
from wellread.finetune import data as preparing
from wellread.finetune.classifier import answer
from wellread.finetune.data import TaskData
from wellread.finetune.head import neighbours
from wellread.finetune.loop import FinetuneResult, finetune, tune
from wellread.finetune.objective import Objective, Split
from wellread.finetune.stability.freeze import freeze
from wellread.models import packed
from wellread.settings import FinetuneSettings, ModelSettings
from wellread.tasks.task import Example, Kind, Task


@dataclass(frozen=True)
class Lesson:
    """What a student learns from, encoded with its tokenizer.

    Attributes:
        data: the task with the transfer set in place of its training examples.
        gold: the task itself.
        rows: float32, the teacher's logits for the rows of the transfer set's targets: (S, labels), for tag
            (labelled words, labels).
        labelled: bool, which of these rows have a label of their own.
    """

    data: TaskData
    gold: TaskData
    rows: np.ndarray
    labelled: np.ndarray


def prepare(
    task: Task,
    transfer: Sequence[Example],
    rows: np.ndarray,
    tokenizer: Any,
    max_length: int,
    settings: FinetuneSettings,
) -> Lesson:
    """Encode a transfer set and the task for a student.

    Args:
        task: with train, dev and test.
        transfer: N texts; those with the id of a training example have its label.
        rows: the teacher's logits, as :func:`wellread.compress.distil.teacher.soft_labels` gives them.
        tokenizer: of the student.
        max_length: longest sequence in tokens.
        settings: of training.

    Raises:
        RecipeError: settings that distillation has no use for.
    """
    check(settings)
    own = {example.id: example for example in task.splits["train"]}
    said = _said(task.kind, task.labels, rows, transfer)
    examples = [
        own[example.id] if example.id in own else replace(example, label=label)
        for example, label in zip(transfer, said, strict=True)
    ]
    data = preparing.prepare(task, examples, tokenizer, max_length, settings)
    gold = preparing.encode_split(task, task.splits["train"], tokenizer, max_length, data.head)
    numbers = {example.id: number for number, example in enumerate(task.splits["train"])}
    split = data.splits["train"]
    if task.kind == "tag":
        rows = rows[teachers.word_rows(split.encoded, transfer)]
        inputs = objective.word_inputs(split.encoded)
    else:
        inputs = split.encoded.inputs
        rows = rows[inputs]
    known = np.array([example.id in own for example in transfer], dtype=bool)
    return Lesson(
        data, replace(data, splits=data.splits | {"train": gold}, rows=numbers), rows, known[inputs]
    )


def check(settings: FinetuneSettings) -> None:
    """Refuse settings of fine-tuning that distillation has no use for.

    Raises:
        RecipeError: naming the key.
    """
    for key, wrong in (
        ("head", settings.head != "classifier"),
        ("light.method", settings.light.method != "full"),
        ("rdrop", settings.rdrop > 0),
    ):
        if wrong:
            raise RecipeError(
                "a student learns with a classification head, all of its weights and one pass a step",
                where=f"finetune.{key}",
                fix="leave it out",
            )


def distil(
    lesson: Lesson,
    start: Path | ModelSettings,
    tokenizer: Any,
    settings: DistilSettings,
    training: FinetuneSettings,
    seed: int,
) -> FinetuneResult:
    """Teach a student, once.

    Args:
        lesson: from :func:`prepare`.
        start: pre-trained checkpoint folder, or the architecture to start at random.
        tokenizer: of the student.
        settings: of distillation.
        training: of both stages; a named recipe picks anew for each.
        seed: of head, dropout and order.

    Returns:
        The outcome, as fine-tuning gives it; ``picked["stage"]`` says which stage was kept ("distilled" or
        "fine-tuned"), and each step of the history which one it belongs to.

    Raises:
        ArtefactError: the start cannot be loaded.
    """
    check(training)
    transfer = lesson.data.splits["train"].examples

    def loss(model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int) -> Tensor:
        logits, at = _forward(model, goal.kind, split, index)
        known = (lesson.rows, split.targets, lesson.labelled)
        return losses.mixed(
            goal,
            logits,
            *(torch.from_numpy(rows[at]).to(logits.device) for rows in known),
            temperature=settings.temperature,
            alpha=settings.alpha,
        )

    first = finetune(lesson.data, transfer, start, tokenizer, training, seed, loss=loss)
    first.picked["stage"] = "distilled"
    first.history = [{"stage": "distilled", **entry} for entry in first.history]
    if first.failed or not settings.fine_tune:
        return first
    return _fine_tuned(lesson, start, first, training, seed)


def _fine_tuned(
    lesson: Lesson, start: Path | ModelSettings, first: FinetuneResult, training: FinetuneSettings, seed: int
) -> FinetuneResult:
    """Go on with the labels; the weights before come back where dev is worse after."""
    task, model = lesson.gold.task, first.model
    before = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    examples = task.splits["train"]
    resolved, picked = stable.resolve(training, task.kind, len(examples), stable.size_of(start))
    model.requires_grad_(True)
    freeze(model, resolved.freeze_layers)
    after = tune(
        packed.enable(model),
        lesson.gold,
        examples,
        resolved,
        rng.derive(seed, "distil-finetune"),
        fine_tuned=True,
    )
    history = first.history + [{"stage": "fine-tuned", **entry} for entry in after.history]
    if after.failed or after.dev[task.metric] < first.dev[task.metric]:
        first.model, first.history = packed.disable(model.cpu().eval()), history
        model.load_state_dict(before)
        return first
    after.picked = picked | {"stage": "fine-tuned"}
    after.history = history
    return after


def _forward(model: Any, kind: Kind, split: Split, index: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Logits of a batch, (rows, labels) float32, and which rows of the targets they belong to."""
    device = next(model.parameters()).device
    index = neighbours(split.encoded, index)
    batch, places, words = batches.select(split.encoded, index)
    logits = answer(model, kind, batch.to(device), places)
    return logits, words if kind == "tag" else index


def _said(kind: Kind, labels: tuple[str, ...], rows: np.ndarray, examples: Sequence[Example]) -> list[Any]:
    """What the teacher says, as labels of examples."""
    if kind == "tag":
        return [tuple(tags) for tags in teachers.answers(kind, labels, rows, examples)]
    if kind == "regress":
        return rows[:, 0].tolist()
    if kind == "multilabel":
        return [tuple(label for label, value in zip(labels, row, strict=True) if value > 0) for row in rows]
    return [labels[number] for number in rows.argmax(axis=1)]
