"""Scores of predictions, each as a function of example weights.

``METRICS[name](task, examples, output)`` looks at the predictions once and gives a function that maps weights
(resamples, examples) to scores (resamples,).  With all weights one it is the plain score; with counts of a
bootstrap resample it is the score on that resample, so a thousand resamples cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wellread.tasks.task import Example, Kind, Task

Weighted = Callable[[np.ndarray], np.ndarray]
Output = Any  # float32 (examples, labels), or one list of tags per example
THRESHOLD = 0.5
# Scores that mean something for some tasks only: reported where a task names them.
ASKED = frozenset({"micro_f1_positive", "matthews", "word_macro_f1", "word_accuracy"})
_DEFAULTS: dict[str, str] = {
    "classify": "macro_f1",
    "multilabel": "micro_f1",
    "regress": "pearson",
    "tag": "entity_f1",
}


def default_metric(kind: Kind) -> str:
    """The score that is reported first where a task names none."""
    return _DEFAULTS[kind]


def metrics_of(kind: Kind, labels: int) -> tuple[str, ...]:
    """What a task may report first, and models are chosen by (more is better: so not rmse)."""
    if kind == "classify":
        return ("macro_f1", "accuracy", *(("auroc",) if labels == 2 else ()), "micro_f1_positive", "matthews")
    if kind == "multilabel":
        return ("micro_f1", "macro_f1", "accuracy", "micro_f1_doc")
    if kind == "regress":
        return ("pearson", "spearman")
    return ("entity_f1", "entity_precision", "entity_recall", "word_macro_f1", "word_accuracy")


def metric_names(task: Task) -> list[str]:
    """Every score that is reported for a task, its own first."""
    known = metrics_of(task.kind, len(task.labels))
    names = [name for name in known if name != task.metric and name not in ASKED]
    if not any(example.doc for example in task.splits["test"]):
        names = [name for name in names if name != "micro_f1_doc"]
    return [task.metric, *names, *(["rmse"] if task.kind == "regress" else [])]


def score(task: Task, split: str, output: Output) -> dict[str, float]:
    """Every score of a split's predictions.

    Args:
        task: the task.
        split: "train", "dev" or "test".
        output: float32 (examples, labels) in the order of the split (probabilities, or predicted scores), or
            for ``tag`` one list of tags per example.

    Returns:
        Score by metric.  Predictions that are not finite score 0 and have no ``rmse``.

    Raises:
        ValueError: the output does not fit the split.
    """
    examples = task.splits[split]
    checked = check_output(task, examples, output)
    names = metric_names(task)
    if not is_finite(checked):
        return {name: 0.0 for name in names if name != "rmse"}
    ones = np.ones((1, len(examples)))
    return {name: float(METRICS[name](task, examples, checked)(ones)[0]) for name in names}


def is_finite(output: Output) -> bool:
    """Whether all predictions are numbers (tags always are)."""
    return not isinstance(output, np.ndarray) or bool(np.isfinite(output).all())


def check_output(task: Task, examples: Sequence[Example], output: Output) -> Output:
    """The output as float64 (examples, labels) or as lists of tags.

    Raises:
        ValueError: its shape does not fit the examples.
    """
    if task.kind == "tag":
        lengths = [len(tags) for tags in output]
        if lengths != [len(example.tokens) for example in examples]:
            raise ValueError("predicted tags do not fit the tokens")
        return output
    array = np.asarray(output, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    wanted = (len(examples), len(task.labels))
    if array.shape != wanted:
        raise ValueError(f"predictions of shape {array.shape}, {wanted} expected")
    return array


def gold_indices(task: Task, examples: Sequence[Example]) -> np.ndarray:
    """Label numbers of a ``classify`` task, int64 (examples,)."""
    number = {label: index for index, label in enumerate(task.labels)}
    return np.array([number[example.label] for example in examples], dtype=np.int64)  # type: ignore[index]


def gold_matrix(task: Task, examples: Sequence[Example]) -> np.ndarray:
    """Labels of a ``multilabel`` task as bool (examples, labels)."""
    rows = [[label in example.label for label in task.labels] for example in examples]  # type: ignore[operator]
    return np.array(rows, dtype=np.bool_).reshape(len(examples), len(task.labels))


def gold_scores(examples: Sequence[Example]) -> np.ndarray:
    """Scores of a ``regress`` task, float64 (examples,)."""
    return np.array([example.label for example in examples], dtype=np.float64)


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Entities as (start, end, type) under strict IOB2, as seqeval reads it.

    An ``I-`` that continues nothing of its type begins nothing.
    """
    found = set()
    start, kind = -1, ""
    for index, tag in enumerate([*tags, "O"]):
        if start >= 0 and tag != f"I-{kind}":
            found.add((start, index, kind))
            start = -1
        if tag.startswith("B-"):
            start, kind = index, tag[2:]
    return found


def documents(examples: Sequence[Example]) -> np.ndarray:
    """The number of each example's document, int64 (examples,); examples without one stand alone."""
    numbers: dict[str, int] = {}
    return np.array(
        [
            numbers.setdefault(example.doc or f"\0{index}", len(numbers))
            for index, example in enumerate(examples)
        ],
        dtype=np.int64,
    )


def label_counts(task: Task, examples: Sequence[Example], output: Output) -> np.ndarray:
    """True positives, false positives and false negatives per example and label: (examples, labels, 3)."""
    if task.kind == "multilabel":
        gold, predicted = gold_matrix(task, examples), np.asarray(output) >= THRESHOLD
    else:
        gold = np.eye(len(task.labels), dtype=bool)[gold_indices(task, examples)]
        predicted = np.eye(len(task.labels), dtype=bool)[np.argmax(output, axis=1)]
    return np.stack([gold & predicted, ~gold & predicted, gold & ~predicted], axis=2).astype(np.float64)


def _f1(counts: np.ndarray) -> np.ndarray:
    """2 tp / (2 tp + fp + fn) over the last axis, 0 where nothing is there."""
    top = 2 * counts[..., 0]
    return _ratio(top, top + counts[..., 1] + counts[..., 2])


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.zeros_like(top, dtype=np.float64), where=bottom > 0)


def _accuracy(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Share of right examples; for several labels, of examples with every label right."""
    if task.kind == "multilabel":
        right = (gold_matrix(task, examples) == (np.asarray(output) >= THRESHOLD)).all(axis=1)
    else:
        right = gold_indices(task, examples) == np.argmax(output, axis=1)
    values = right.astype(np.float64)
    return lambda weights: _ratio(weights @ values, weights.sum(axis=1))


def _macro_f1(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Mean F1 of the labels that occur in gold or predictions (scikit-learn's default labels)."""
    return _macro(label_counts(task, examples, output))


def _macro(counts: np.ndarray) -> Weighted:
    """Mean F1 over the labels that occur; counts are (examples, labels, 3)."""

    def weighted(weights: np.ndarray) -> np.ndarray:
        sums = (weights @ counts.reshape(len(counts), -1)).reshape(len(weights), -1, 3)
        occurs = sums.sum(axis=2) > 0
        return _ratio(np.where(occurs, _f1(sums), 0.0).sum(axis=1), occurs.sum(axis=1).astype(np.float64))

    return weighted


def _micro_f1(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """F1 over all label decisions (for one label per example this is the accuracy)."""
    counts = label_counts(task, examples, output).sum(axis=1)
    return lambda weights: _f1(weights @ counts)


def _micro_f1_positive(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Micro F1 of all labels but the first, the negative class (relations: ChemProt, DDI, GAD)."""
    counts = label_counts(task, examples, output)[:, 1:].sum(axis=1)
    return lambda weights: _f1(weights @ counts)


def _matthews(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Matthews correlation for any number of classes (Gorodkin, 2004); 0 where either side is constant."""
    size = len(task.labels)
    gold = np.eye(size)[gold_indices(task, examples)]
    predicted = np.eye(size)[np.argmax(output, axis=1)]
    right = (gold * predicted).sum(axis=1)

    def weighted(weights: np.ndarray) -> np.ndarray:
        total, truth, guess = weights.sum(axis=1), weights @ gold, weights @ predicted
        top = total * (weights @ right) - (truth * guess).sum(axis=1)
        spread = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (guess**2).sum(axis=1))
        return _ratio(top, np.sqrt(np.maximum(spread, 0.0)))

    return weighted


def _micro_f1_doc(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Micro F1 by document: a document has the labels of any of its examples, in gold and predictions (HoC).

    Weights are meant by document: the first example's counts.
    """
    numbers = documents(examples)
    total = int(numbers.max()) + 1 if len(numbers) else 0
    gold = np.zeros((total, len(task.labels)), dtype=bool)
    predicted = np.zeros_like(gold)
    np.logical_or.at(gold, numbers, gold_matrix(task, examples))
    np.logical_or.at(predicted, numbers, np.asarray(output) >= THRESHOLD)
    counts = (
        np.stack([gold & predicted, ~gold & predicted, gold & ~predicted], axis=2).sum(axis=1).astype(float)
    )
    first = np.unique(numbers, return_index=True)[1]
    return lambda weights: _f1(weights[:, first] @ counts)


def entity_counts(examples: Sequence[Example], output: Output) -> np.ndarray:
    """True positives, false positives and false negatives among each example's entities: (examples, 3)."""
    counts = np.zeros((len(examples), 3))
    for index, (example, tags) in enumerate(zip(examples, output, strict=True)):
        gold, predicted = entities(example.label), entities(tags)  # type: ignore[arg-type]
        counts[index] = len(gold & predicted), len(predicted - gold), len(gold - predicted)
    return counts


def _entity_f1(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """F1 over entities with exact borders and type, strict IOB2."""
    counts = entity_counts(examples, output)
    return lambda weights: _f1(weights @ counts)


def _entity_precision(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    counts = entity_counts(examples, output)
    return lambda weights: _ratio(weights @ counts[:, 0], weights @ (counts[:, 0] + counts[:, 1]))


def _entity_recall(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    counts = entity_counts(examples, output)
    return lambda weights: _ratio(weights @ counts[:, 0], weights @ (counts[:, 0] + counts[:, 2]))


def word_counts(task: Task, examples: Sequence[Example], output: Output) -> np.ndarray:
    """True positives, false positives and false negatives of words: (examples, types, 3).

    B- and I- of a type are one; types are in the order of the task's labels.
    """
    names = dict.fromkeys(label[2:] for label in task.labels if label != "O")
    types = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(examples), len(types), 3))
    for row, example, tags in zip(counts, examples, output, strict=True):
        for gold, predicted in zip(example.label, tags, strict=True):  # type: ignore[arg-type]
            if gold[2:] == predicted[2:]:
                if gold != "O":
                    row[types[gold[2:]], 0] += 1
                continue
            if predicted != "O":
                row[types[predicted[2:]], 1] += 1
            if gold != "O":
                row[types[gold[2:]], 2] += 1
    return counts


def _word_macro_f1(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Mean over the types of the F1 over words, "O" left out (EBM PICO)."""
    return _macro(word_counts(task, examples, output))


def _word_accuracy(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Share of words with the right type (parts of speech)."""
    right = np.array(
        [
            sum(gold[2:] == tag[2:] for gold, tag in zip(example.label, tags, strict=True))  # type: ignore[arg-type]
            for example, tags in zip(examples, output, strict=True)
        ],
        dtype=np.float64,
    )
    words = np.array([len(example.tokens) for example in examples], dtype=np.float64)
    return lambda weights: _ratio(weights @ right, weights @ words)


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation; x and y are (examples,) or (resamples, examples).  0 for a constant."""
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    top = (weights * dx * dy).sum(axis=1)
    spread = np.sqrt((weights * dx * dx).sum(axis=1) * (weights * dy * dy).sum(axis=1))
    # A prediction that is constant but for rounding has no correlation to speak of.
    scale = total[:, 0] * np.maximum(np.abs(x).max(), 1e-300) * np.maximum(np.abs(y).max(), 1e-300)
    return np.divide(top, spread, out=np.zeros_like(top), where=spread > 1e-13 * scale)


def _pearson(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Pearson correlation; 0 where either side is constant."""
    gold, predicted = gold_scores(examples), np.asarray(output)[:, 0]
    return lambda weights: _correlation(gold, predicted, weights)


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks of the resampled values at each original example: (resamples, examples)."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    before = np.cumsum(tied, axis=1) - tied
    return (before + (tied + 1) / 2)[:, inverse]


def _spearman(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Pearson correlation of mid-ranks; 0 where either side is constant."""
    gold, predicted = gold_scores(examples), np.asarray(output)[:, 0]
    return lambda weights: _correlation(
        _weighted_ranks(gold, weights), _weighted_ranks(predicted, weights), weights
    )


def _rmse(_task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Root mean squared error (lower is better)."""
    squares = (gold_scores(examples) - np.asarray(output)[:, 0]) ** 2
    return lambda weights: np.sqrt(_ratio(weights @ squares, weights.sum(axis=1)))


def _auroc(task: Task, examples: Sequence[Example], output: Output) -> Weighted:
    """Area under the ROC curve of the second of two labels (Mann-Whitney); 0.5 where one class is absent."""
    if len(task.labels) != 2:
        raise ValueError("auroc needs exactly two labels")
    positive = (gold_indices(task, examples) == 1).astype(np.float64)
    values = np.asarray(output)[:, 1]

    def weighted(weights: np.ndarray) -> np.ndarray:
        ones, total = weights @ positive, weights.sum(axis=1)
        ranks = (weights * positive * _weighted_ranks(values, weights)).sum(axis=1)
        pairs = ones * (total - ones)
        area = ranks - ones * (ones + 1) / 2
        return np.divide(area, pairs, out=np.full_like(area, 0.5), where=pairs > 0)

    return weighted


METRICS: dict[str, Callable[[Task, Sequence[Example], Output], Weighted]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "micro_f1": _micro_f1,
    "micro_f1_positive": _micro_f1_positive,
    "micro_f1_doc": _micro_f1_doc,
    "matthews": _matthews,
    "entity_f1": _entity_f1,
    "entity_precision": _entity_precision,
    "entity_recall": _entity_recall,
    "word_macro_f1": _word_macro_f1,
    "word_accuracy": _word_accuracy,
    "pearson": _pearson,
    "spearman": _spearman,
    "rmse": _rmse,
    "auroc": _auroc,
}
