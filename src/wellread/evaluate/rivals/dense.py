"""Linear models on dense features, for the rivals that stand on embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from wellread import rng
from wellread.evaluate.rivals.fitted import Examples, Fitted, once
from wellread.evaluate.rivals.tfidf import decode
from wellread.tasks.task import Example, Task

C_GRID = (0.001, 0.01, 0.1, 1.0)
ALPHA_GRID = (1.0, 10.0, 100.0, 1000.0)
MAX_ITERATIONS = 300
TOLERANCE = 1e-3
MOST_WORDS = 100_000  # tagged training words that a model is fitted on

# From examples to float32 (N, d); for tag (words of all examples, d).
Features = Callable[[Examples], np.ndarray]


def candidates(task: Task, train: list[Example], features: Features, size_bytes: int) -> Iterator[Fitted]:
    """Logistic regressions (for scores: ridge regressions) on standardised features, one a strength.

    Args:
        task: the task.
        train: examples to fit on.
        features: of any examples.
        size_bytes: what the features are made with.
    """
    if task.kind == "tag":
        train = some_words(train, MOST_WORDS)
    found = features(train)
    centre = found.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = found.std(axis=0, dtype=np.float64).astype(np.float32)
    scale[scale < 1e-6] = 1.0

    def scaled(examples: Examples) -> np.ndarray:
        return (features(examples) - centre) / scale

    # Only here, and only scaled: tagged words are many, and their features wide.
    inputs = once(scaled)
    found = inputs(train)
    fit = {"regress": _ridges, "multilabel": _multilabel, "classify": _classifiers, "tag": _taggers}
    for strength, predict, weights in fit[task.kind](task, train, found):
        size = size_bytes + 4 * (weights + 2 * len(centre))
        yield Fitted(partial(_predict, predict, inputs), strength, size)


def some_words(train: list[Example], most: int) -> list[Example]:
    """Whole sentences in a fixed random order, up to so many words, which bounds the memory."""
    if sum(len(example.tokens) for example in train) <= most:
        return train
    order = rng.permute(np.arange(len(train)), len(train), 0, "tagged words")
    ends = np.cumsum([len(train[place].tokens) for place in order])
    return [train[place] for place in sorted(order[: int(np.searchsorted(ends, most, side="right"))])]


def pair_features(first: np.ndarray, second: np.ndarray, kind: str) -> np.ndarray:
    """Features of N pairs from the embeddings of their texts.

    For scores the cosine alone, for classes both embeddings, their difference and their product (Conneau et
    al., arXiv 1705.02364).

    Args:
        first: (N, d) embeddings of the first texts.
        second: (N, d) of the second ones.
        kind: of the task.
    """
    if kind == "regress":
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return ((first * second).sum(axis=1) / np.maximum(norms, 1e-9))[:, None].astype(np.float32)
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)


def _predict(predict: Callable[[np.ndarray, Examples], Any], inputs: Features, examples: Examples) -> Any:
    return predict(inputs(examples), examples)


def _classifiers(task: Task, train: list[Example], inputs: np.ndarray) -> Iterator[tuple]:
    number = {label: place for place, label in enumerate(task.labels)}
    targets = np.array([number[str(example.label)] for example in train])
    for c in C_GRID:
        model, weights = _logistic(c, inputs, targets, len(task.labels))
        yield c, lambda given, _, model=model: model(given), weights


def _multilabel(task: Task, train: list[Example], inputs: np.ndarray) -> Iterator[tuple]:
    targets = np.zeros((len(train), len(task.labels)), dtype=np.int64)
    for row, example in zip(targets, train, strict=True):
        row[[task.labels.index(label) for label in example.label]] = 1  # type: ignore[union-attr]
    for c in C_GRID:
        models = [_logistic(c, inputs, column, 2) for column in targets.T]

        def predict(given: np.ndarray, _: Examples, models: list = models) -> np.ndarray:
            return np.stack([model(given)[:, 1] for model, _ in models], axis=1)

        yield c, predict, sum(weights for _, weights in models)


def _taggers(task: Task, train: list[Example], inputs: np.ndarray) -> Iterator[tuple]:
    number = {label: place for place, label in enumerate(task.labels)}
    targets = np.array([number[tag] for example in train for tag in example.label])  # type: ignore[union-attr]
    for c in C_GRID:
        model, weights = _logistic(c, inputs, targets, len(task.labels))

        def predict(given: np.ndarray, examples: Examples, model: Any = model) -> list[list[str]]:
            return decode(task.labels, model(given), examples)

        yield c, predict, weights


def _ridges(_: Task, train: list[Example], inputs: np.ndarray) -> Iterator[tuple]:
    from sklearn.linear_model import Ridge

    targets = np.array([example.label for example in train], dtype=np.float64)
    # A single feature has the same correlation at every strength: there is nothing to choose.
    for alpha in ALPHA_GRID if inputs.shape[1] > 1 else (0.0,):
        model = _quietly(Ridge(alpha=alpha), inputs, targets)

        def predict(given: np.ndarray, _: Examples, model: Any = model) -> np.ndarray:
            return model.predict(given)[:, None].astype(np.float32)

        yield alpha, predict, inputs.shape[1] + 1


def _logistic(
    c: float, inputs: np.ndarray, targets: np.ndarray, classes: int
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """A softmax regression as a function from (N, d) to (N, classes), and its number of weights.

    Classes without an example get probability 0.
    """
    from sklearn.linear_model import LogisticRegression

    present = np.unique(targets)

    def spread(probabilities: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(probabilities), classes), dtype=np.float32)
        rows[:, present] = probabilities
        return rows

    if len(present) == 1:
        return lambda given: spread(np.ones((len(given), 1))), 0
    model = LogisticRegression(C=c, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    model = _quietly(model, inputs, targets)
    return lambda given: spread(model.predict_proba(given)), int(model.coef_.size + len(present))


def _quietly(model: Any, inputs: np.ndarray, targets: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        # An unfinished fit is still a fair candidate: dev decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(inputs, targets)
