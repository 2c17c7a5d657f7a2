"""Small label budgets cut from a task's training examples, the same for rivals and fine-tuning."""

from __future__ import annotations

import numpy as np

from wellread import rng
from wellread.tasks.task import Example, Task, names_of


def subset(task: Task, budget: int | str, seed: int) -> list[Example]:
    """A random sample of the training examples.

    The first example of each label in the random order comes in before all others, so every label is there
    when the budget allows.  A smaller budget of the same seed is contained in a larger one.

    Args:
        task: the task.
        budget: number of examples, or "all"; more than there are means all.
        seed: of the run.

    Returns:
        Examples in the order of the training split.
    """
    train = task.splits["train"]
    if budget == "all" or int(budget) >= len(train):
        return list(train)
    place = rng.permute(np.arange(len(train)), len(train), seed, "label budget")
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for index in np.argsort(place).tolist():
        names = names_of(train[index], task.kind)
        (rest if names <= seen else first).append(index)
        seen |= names
    return [train[index] for index in sorted((first + rest)[: int(budget)])]
