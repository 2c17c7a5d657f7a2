"""What every rival hands back, and the choice between candidates by their dev score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread.evaluate.metrics import Output, score
from wellread.tasks.task import Example, Task

Examples = Sequence[Example]
Predict = Callable[[Examples], Output]


@dataclass(frozen=True)
class Fitted:
    """A rival that has learnt.

    Attributes:
        predict: from examples, whose labels it does not look at, to what ``metrics.score`` takes.
        setting: which of the candidates it is; None where there is no choice.
        size_bytes: what would have to be kept to predict with it.
        save: writes it into a folder that `wellread predict` takes, where there is such a form of it.
    """

    predict: Predict
    setting: Any = None
    size_bytes: int = 0
    save: Callable[[Path], None] | None = None


def best(task: Task, candidates: Iterable[Fitted]) -> Fitted:
    """The candidate with the highest dev score; the first of equals."""
    chosen: tuple[float, Fitted] | None = None
    for candidate in candidates:
        value = score(task, "dev", candidate.predict(task.splits["dev"]))[task.metric]
        if chosen is None or value > chosen[0]:
            chosen = value, candidate
    assert chosen is not None
    return chosen[1]


def once(function: Callable[[Examples], Any]) -> Callable[[Examples], Any]:
    """The function, worked out once for each list of examples (not for equal lists)."""
    known: dict[int, tuple[Examples, Any]] = {}

    def remembered(examples: Examples) -> Any:
        if id(examples) not in known:
            known[id(examples)] = examples, function(examples)
        return known[id(examples)][1]

    return remembered
