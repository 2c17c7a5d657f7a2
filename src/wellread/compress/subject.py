"""What compression works on: a fine-tuned model with its task, encoded once.

Every method takes a :class:`Subject`, opens the model, changes it, trains it further with
:func:`wellread.finetune.loop.tune` where it learns, and is judged by :func:`scores` on dev.  The test set is
read once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread.errors import ArtefactError
from wellread.finetune import objective
from wellread.finetune.data import TaskData, prepare
from wellread.finetune.head import NOTES
from wellread.finetune.light import stored
from wellread.models import build, packed
from wellread.settings import FinetuneSettings
from wellread.tasks.task import Task
from wellread.tokens import tokenizer as tokenizers


@dataclass(frozen=True)
class Subject:
    """A fine-tuned model and the task that it predicts.

    Attributes:
        folder: of the model, a stock checkpoint with its tokenizer.
        task: with train, dev and test.
        data: the task encoded, at the longest length that the model reads.
        tokenizer: of the model.
        settings: of further training.
    """

    folder: Path
    task: Task
    data: TaskData
    tokenizer: Any
    settings: FinetuneSettings


def open_subject(folder: Path, task: Task, settings: FinetuneSettings | None = None) -> Subject:
    """Encode a task for a fine-tuned model.

    Args:
        folder: a fine-tuned stock classifier of sequences or tokens.
        task: that it predicts, with the labels in the model's order.
        settings: of further training; default the stable recipe.

    Raises:
        ArtefactError: no model there, one that answers in words or in two parts, or of another task.
    """
    folder, settings = Path(folder), settings or FinetuneSettings(recipe="stable")
    config = build.load_config(folder)
    if (folder / NOTES).exists() or stored.is_light(folder):
        raise ArtefactError(
            "only plain fine-tuned classifiers can be compressed",
            where=str(folder),
            fix='fine-tune with head = "classifier" and light.method "full", "lora" or "bitfit"',
        )
    labels = build.labels_of(config)
    if task.kind != "regress" and labels != task.labels:
        raise ArtefactError(
            f"the model's labels are not those of {task.name}",
            where=str(folder),
            fix="give the model that was fine-tuned on this task",
        )
    tokenizer = tokenizers.load(folder)
    length = build.longest(config, tokenizer)
    length = min(settings.max_length or length, length)
    data = prepare(task, task.splits["train"], tokenizer, length, settings)
    return Subject(folder, task, data, tokenizer, settings)


def load_model(subject: Subject) -> Any:
    """The fine-tuned model, in evaluation mode with packed attention."""
    head: build.Head = "tag" if subject.task.kind == "tag" else "classify"
    return packed.enable(build.load(subject.folder, head)).eval()


def scores(model: Any, subject: Subject, split: str = "dev") -> dict[str, float]:
    """Scores by metric of a model in evaluation mode with packed attention, on a whole split."""
    return score_logits(logits(model, subject, split), subject, split)


def logits(model: Any, subject: Subject, split: str = "dev") -> Any:
    """float32 (S, labels) of the split's sequences, for tag (labelled words, labels)."""
    return subject.data.head.logits(model, subject.data.splits[split].encoded)


def score_logits(found: Any, subject: Subject, split: str = "dev") -> dict[str, float]:
    """Scores of logits that any engine has given: rows as :func:`logits` gives them."""
    from wellread.evaluate.metrics import score

    task = subject.task
    output = objective.output(task.kind, task.labels, found, subject.data.splits[split])
    return score(task, split, output)
