"""How often two sets of logits say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wellread.evaluate.metrics import score
from wellread.finetune import objective
from wellread.finetune.objective import Split
from wellread.tasks.task import Kind, Task

if TYPE_CHECKING:
    from wellread.serve.predict import Predictor


def agreement(kind: Kind, reference: np.ndarray, found: np.ndarray) -> float:
    """Share of decisions that are the same: of texts, of words (tag), of labels of texts (multilabel).

    Scores are no decisions; for regress it is their correlation (Pearson).

    Args:
        kind: of the task.
        reference: logits (N, labels).
        found: logits of the same shape.

    Returns:
        A share; nan of nothing.
    """
    if not len(reference):
        return float("nan")
    if kind == "regress":
        return float(np.corrcoef(reference[:, 0], found[:, 0])[0, 1])
    if kind == "multilabel":
        return float(np.mean((reference >= 0) == (found >= 0)))
    return float(np.mean(reference.argmax(axis=1) == found.argmax(axis=1)))


def compare(reference: Predictor, other: Predictor, task: Task, split: str = "dev") -> dict[str, Any]:
    """Agreement and scores of two forms of one model on a split of its task.

    Args:
        reference: the model in floating point.
        other: its other form; decides as ``reference`` does, by its own logits.
        task: that both predict.
        split: "dev", or "test" at the very end.

    Returns:
        {"split", "examples", "agreement", "metric", "reference_score", "score", "drop"}; scores in points.
    """
    examples = task.splits[split]
    encoded = reference.head.encode(examples, reference.max_length)
    rows = [one.head.logits(one.model, encoded) for one in (reference, other)]
    if task.kind != "regress":  # metrics go by the task's order, the model may have another
        columns = [reference.labels.index(label) for label in task.labels]
        rows = [logits[:, columns] for logits in rows]
    whole = Split(examples, encoded, np.zeros(0))
    before, after = (
        100 * score(task, split, objective.output(task.kind, task.labels, logits, whole))[task.metric]
        for logits in rows
    )
    return {
        "split": split,
        "examples": len(examples),
        "agreement": agreement(task.kind, *rows),
        "metric": task.metric,
        "reference_score": before,
        "score": after,
        "drop": before - after,
    }
