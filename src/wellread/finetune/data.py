"""A task encoded once, for all the runs over budgets and seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wellread import rng
from wellread.finetune import encode, objective
from wellread.finetune.objective import Split
from wellread.tasks.task import Example, Task

# While a run is under way, dev is a fixed sample of this size: the moments of one run differ little from each
# other on the same examples, and ten evaluations of more would cost more than training on a small budget.
WATCHED = 500


@dataclass(frozen=True)
class TaskData:
    """A task with its encoded splits.

    Attributes:
        task: the task.
        splits: "train" (all examples that a run may ask for), "dev" and "test".
        watched_task: the task with a sample of dev in place of dev.
        watched: that sample, encoded.
        rows: where an example stands in train, by id.
    """

    task: Task
    splits: dict[str, Split]
    watched_task: Task
    watched: Split
    rows: dict[str, int]

    def sequences(self, examples: Iterable[Example]) -> np.ndarray:
        """Numbers of the sequences of some training examples, in the order of train.

        A window of a tagged sentence that owns no word teaches nothing and is left out.
        """
        encoded = self.splits["train"].encoded
        wanted = np.array([self.rows[example.id] for example in examples], dtype=np.int64)
        chosen = np.isin(encoded.inputs, wanted)
        if self.task.kind == "tag":
            chosen &= np.diff(encoded.word_offsets) > 0
        return np.flatnonzero(chosen)


def prepare(task: Task, train: list[Example], tokenizer: Any, max_length: int) -> TaskData:
    """Encode a task.

    Args:
        task: with dev and test.
        train: the training examples that runs will ask for.
        tokenizer: a fast `transformers` tokenizer.
        max_length: longest sequence in tokens.
    """
    splits = {
        name: encode_split(task, examples, tokenizer, max_length)
        for name, examples in (("train", train), ("dev", task.splits["dev"]), ("test", task.splits["test"]))
    }
    dev = splits["dev"]
    watched_task, watched = task, dev
    if len(dev.examples) > WATCHED:
        chosen = rng.permute(np.arange(WATCHED), len(dev.examples), 0, "finetune-dev")
        sample = [dev.examples[number] for number in np.sort(chosen)]
        watched_task = replace(task, splits={**task.splits, "dev": sample})
        watched = encode_split(task, sample, tokenizer, max_length)
    rows = {example.id: number for number, example in enumerate(train)}
    return TaskData(task, splits, watched_task, watched, rows)


def encode_split(task: Task, examples: list[Example], tokenizer: Any, max_length: int) -> Split:
    """Encode examples and their labels."""
    if task.kind == "tag":
        encoded = encode.sentences(tokenizer, [example.tokens for example in examples], max_length)
    else:
        second = [example.text_pair for example in examples]
        pairs = second if any(text is not None for text in second) else None
        encoded = encode.texts(tokenizer, [example.text for example in examples], pairs, max_length)
    return Split(examples, encoded, objective.targets(task.kind, task.labels, examples, encoded))
