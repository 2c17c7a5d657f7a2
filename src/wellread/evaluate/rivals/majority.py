"""The rival that has learnt nothing but the frequencies of the training labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from wellread.evaluate.metrics import Output
from wellread.evaluate.rivals.fitted import Examples, Fitted
from wellread.tasks.task import Example, Task


def fit(task: Task, train: list[Example]) -> Fitted:
    """The rival as all rivals are given."""
    return Fitted(lambda examples: _predict(task, train, examples), size_bytes=4 * len(task.labels))


def majority(task: Task, train: Iterable[Example], split: str) -> Output:
    """The relative frequencies of the classes (classify) or of each label (multilabel), the mean score
    (regress), the most frequent tag everywhere (tag).
    """
    return _predict(task, list(train), task.splits[split])


def _predict(task: Task, train: list[Example], examples: Examples) -> Output:
    if task.kind == "tag":
        seen = Counter(tag for example in train for tag in example.label)  # type: ignore[union-attr]
        return [[seen.most_common(1)[0][0]] * len(example.tokens) for example in examples]
    if task.kind == "regress":
        row = [float(np.mean([example.label for example in train]))]
    elif task.kind == "classify":
        counted = Counter(example.label for example in train)
        row = [counted[label] / len(train) for label in task.labels]
    else:
        row = [sum(label in example.label for example in train) / len(train) for label in task.labels]  # type: ignore[operator]
    return np.tile(np.array(row, dtype=np.float32), (len(examples), 1))
