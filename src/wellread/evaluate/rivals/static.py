"""The rival with static word vectors: means over texts, windows over words, then logistic regression."""

from __future__ import annotations

import numpy as np

from wellread.evaluate.rivals import dense
from wellread.evaluate.rivals.fitted import Examples, Fitted, best
from wellread.evaluate.rivals.vectors import Vectors, words
from wellread.tasks.task import Example, Task

AROUND = 2  # words on either side of the tagged one


def fit(task: Task, train: list[Example], vectors: Vectors) -> Fitted:
    """The logistic regression of the grid that is best on dev."""
    return best(
        task,
        dense.candidates(task, train, lambda examples: features(task, examples, vectors), vectors.bytes),
    )


def features(task: Task, examples: Examples, vectors: Vectors) -> np.ndarray:
    """(N, d') features of texts or pairs; for tag (words of all examples, d')."""
    if task.kind == "tag":
        return np.concatenate([_words(example.tokens, vectors) for example in examples])
    first = text_vectors([example.text for example in examples], vectors)
    if all(example.second is None for example in examples):
        return first
    second = text_vectors([example.second or "" for example in examples], vectors)
    return dense.pair_features(first, second, task.kind)


def text_vectors(texts: list[str], vectors: Vectors) -> np.ndarray:
    """(N, d) means over the known words of each text, frequent words weighing less; 0 without such words."""
    found = np.zeros((len(texts), vectors.rows.shape[1]), dtype=np.float32)
    other = len(vectors.rows) - 1
    for row, text in zip(found, texts, strict=True):
        ids = np.array([vectors.place.get(word, other) for word in words(text)], dtype=np.int64)
        weights = vectors.weights[ids]
        if weights.any():
            row[:] = weights @ vectors.rows[ids] / weights.sum()
    return found


def _words(tokens: tuple[str, ...], vectors: Vectors) -> np.ndarray:
    """(W, (2 AROUND + 1) (d + 4)): of each word and its neighbours the vector and how they are written."""
    rows = np.concatenate([text_vectors(list(tokens), vectors), [_shape(token) for token in tokens]], axis=1)
    padded = np.pad(rows, ((AROUND, AROUND), (0, 0)))
    steps = [padded[step : step + len(tokens)] for step in range(2 * AROUND + 1)]
    return np.concatenate(steps, axis=1).astype(np.float32)


def _shape(token: str) -> list[bool]:
    """Capital first letter, capitals only, a digit inside, and that there is a word at all."""
    return [token[:1].isupper(), token.isupper(), any(letter.isdigit() for letter in token), True]
