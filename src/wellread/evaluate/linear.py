"""The cheap rival: linear models on TF-IDF features (for tags, on features of the word and its neighbours).

Everything runs on one thread with a deterministic solver, so the same data give the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from wellread.tasks.examples import iob2_tags
from wellread.tasks.task import Example, Task

C_GRID = (1.0, 10.0, 100.0)
TAG_C_GRID = (1.0, 10.0)
ALPHA_GRID = (0.1, 1.0, 10.0)
MAX_ITERATIONS = 300
HASHED_FEATURES = 1 << 20

Predict = Callable[[Sequence[Example]], Any]


def candidates(task: Task, train: Sequence[Example]) -> Iterator[tuple[float, Predict]]:
    """Fitted models, one for each regularisation of the grid, as (setting, predict).

    ``predict(examples)`` gives the output that ``metrics.score`` takes.
    """
    if task.kind == "tag":
        yield from _taggers(train)
    elif task.kind == "regress":
        yield from _regressions(train)
    else:
        yield from _classifiers(task, train)


def _text(example: Example) -> str:
    return example.text if example.text_pair is None else f"{example.text}\n{example.text_pair}"


def _vectorizer(train: Sequence[Example]) -> Any:
    """TF-IDF of word 1-2-grams, fitted on the training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [_text(example) for example in train]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    return vectorizer.fit(texts)


def _features(vectorizer: Any, examples: Sequence[Example]) -> Any:
    """TF-IDF of the text; for pairs of both texts together, their cosine and their overlap beside it."""
    from scipy.sparse import csr_matrix, hstack

    whole = vectorizer.transform([_text(example) for example in examples])
    if not any(example.text_pair is not None for example in examples):
        return whole
    return hstack([whole, csr_matrix(_similarity(vectorizer, examples))], format="csr")


def _similarity(vectorizer: Any, examples: Sequence[Example]) -> np.ndarray:
    """Cosine of the two TF-IDF vectors, Jaccard of the words, and ratio of lengths: (examples, 3)."""
    first = vectorizer.transform([example.text for example in examples])
    second = vectorizer.transform([example.text_pair or "" for example in examples])
    cosine = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    found = np.zeros((len(examples), 3))
    for index, example in enumerate(examples):
        words = set(example.text.lower().split())
        other = set((example.text_pair or "").lower().split())
        jaccard = len(words & other) / max(len(words | other), 1)
        ratio = min(len(words), len(other)) / max(len(words), len(other), 1)
        found[index] = cosine[index], jaccard, ratio
    return found


def _logistic(c: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=MAX_ITERATIONS)


def _fit(model: Any, features: Any, targets: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        # An unfinished fit is still a fair candidate: dev decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, targets)


def _classifiers(task: Task, train: Sequence[Example]) -> Iterator[tuple[float, Predict]]:
    vectorizer = _vectorizer(train)
    features = _features(vectorizer, train)
    for c in C_GRID:
        if task.kind == "classify":
            yield c, _classify(task, train, features, vectorizer, c)
        else:
            yield c, _multilabel(task, train, features, vectorizer, c)


def _classify(task: Task, train: Sequence[Example], features: Any, vectorizer: Any, c: float) -> Predict:
    gold = np.array([task.labels.index(example.label) for example in train])  # type: ignore[arg-type]
    seen = np.unique(gold)
    model = _fit(_logistic(c), features, gold) if len(seen) > 1 else None

    def predict(examples: Sequence[Example]) -> np.ndarray:
        scores = np.zeros((len(examples), len(task.labels)), dtype=np.float32)
        scores[:, seen] = 1.0 if model is None else model.predict_proba(_features(vectorizer, examples))
        return scores

    return predict


def _multilabel(task: Task, train: Sequence[Example], features: Any, vectorizer: Any, c: float) -> Predict:
    gold = np.array([[label in example.label for label in task.labels] for example in train])  # type: ignore[operator]
    models = [
        _fit(_logistic(c), features, column) if 0 < column.sum() < len(column) else float(column.mean())
        for column in gold.T
    ]

    def predict(examples: Sequence[Example]) -> np.ndarray:
        found = _features(vectorizer, examples)
        columns = [
            np.full(len(examples), model) if isinstance(model, float) else model.predict_proba(found)[:, 1]
            for model in models
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    return predict


def _regressions(train: Sequence[Example]) -> Iterator[tuple[float, Predict]]:
    """Ridge regression; on the similarity features alone for pairs, on TF-IDF for single texts."""
    from sklearn.linear_model import Ridge

    pairs = any(example.text_pair is not None for example in train)
    vectorizer = _vectorizer(train)
    take = _similarity if pairs else _features
    features = take(vectorizer, train)
    gold = np.array([example.label for example in train], dtype=np.float64)
    for alpha in ALPHA_GRID:
        model = _fit(Ridge(alpha=alpha, solver="auto" if pairs else "sparse_cg"), features, gold)
        yield (
            alpha,
            lambda examples, model=model: model.predict(take(vectorizer, examples))[:, None].astype(
                np.float32
            ),
        )


def _taggers(train: Sequence[Example]) -> Iterator[tuple[float, Predict]]:
    """Logistic regression that tags each word by itself, repaired to IOB2 afterwards."""
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(HASHED_FEATURES, input_type="string", alternate_sign=False, dtype=np.float32)
    features = hasher.transform(_words(train))
    gold = np.array([tag for example in train for tag in example.label])  # type: ignore[union-attr]
    for c in TAG_C_GRID:
        model = _fit(_logistic(c), features, gold) if len(set(gold)) > 1 else None
        yield c, partial(_tag, hasher, model, str(gold[0]))


def _tag(hasher: Any, model: Any, only: str, examples: Sequence[Example]) -> list[list[str]]:
    total = sum(len(example.tokens) for example in examples)
    tags = [only] * total if model is None else model.predict(hasher.transform(_words(examples))).tolist()
    found, start = [], 0
    for example in examples:
        found.append(list(iob2_tags(tags[start : start + len(example.tokens)])))
        start += len(example.tokens)
    return found


def _words(examples: Sequence[Example]) -> Iterator[list[str]]:
    """The features of every token of every example."""
    for example in examples:
        seen = [_word(token) for token in example.tokens]
        for index, token in enumerate(example.tokens):
            found = [f"{name}={value}" for name, value in seen[index].items()]
            found += [f"p{size}={token[:size].lower()}" for size in (1, 2, 3, 4)]
            found += [f"s{size}={token[-size:].lower()}" for size in (1, 2, 3, 4)]
            for step in (-2, -1, 1, 2):
                near = seen[index + step] if 0 <= index + step < len(seen) else {"w": "", "shape": ""}
                found += [f"{step}{name}={value}" for name, value in near.items()]
            for step in (-1, 1):
                near = seen[index + step] if 0 <= index + step < len(seen) else {"w": ""}
                found.append(f"{step}pair={near['w']} {seen[index]['w']}")
            yield found


def _word(token: str) -> dict[str, str]:
    """The word itself in lower case and its shape ("IL-2" has the shape "A-0")."""
    shape = ""
    for character in token:
        mark = (
            "A"
            if character.isupper()
            else "a"
            if character.islower()
            else "0"
            if character.isdigit()
            else character
        )
        if not shape.endswith(mark):
            shape += mark
    return {"w": token.lower(), "shape": shape[:8]}
