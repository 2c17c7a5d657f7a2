"""The cheap rival: linear models on TF-IDF features (for tags, on features of the word and its neighbours).

Everything runs on one thread with a seeded deterministic solver, so the same data give the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wellread.evaluate.rivals.fitted import Examples, Fitted, best, once
from wellread.tasks import decoding
from wellread.tasks.task import Example, Task

C_GRID = (1.0, 3.0, 10.0, 30.0)
TAG_C_GRID = (1.0, 3.0)
ALPHA_GRID = (0.1, 1.0, 10.0)
MAX_ITERATIONS = 1000
TOLERANCE = 0.01
HASHED_FEATURES = 1 << 20


def fit(task: Task, train: list[Example]) -> Fitted:
    """The linear model of the grid that is best on dev."""
    return best(task, candidates(task, train))


def candidates(task: Task, train: Examples) -> Iterator[Fitted]:
    """Fitted models, one for each regularisation of the grid."""
    if task.kind == "tag":
        yield from _taggers(train)
    elif task.kind == "regress":
        yield from _regressions(train)
    else:
        yield from _classifiers(task, train)


def _text(example: Example) -> str:
    return example.text if example.second is None else f"{example.text}\n{example.second}"


def _featuriser(train: Examples, pairs_alone: bool = False) -> tuple[Any, int]:
    """A function from examples to TF-IDF of word 1-2-grams, as fitted on train, and the bytes it is made of.

    For pairs: of both texts together, with their similarity beside it (or that alone).
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    fitted = vectorizer.fit_transform([_text(example) for example in train])
    pairs = any(example.second is not None for example in train)
    size = sum(len(term.encode()) + 8 for term in vectorizer.vocabulary_)

    def features(examples: Examples) -> Any:
        if pairs and pairs_alone:
            return _similarity(vectorizer, examples)
        # What fitting gave is in another order than what transforming gives, and so are sums over it.
        whole = fitted if examples is train else vectorizer.transform([_text(e) for e in examples])
        if not pairs:
            return whole
        return hstack([whole, csr_matrix(_similarity(vectorizer, examples))], format="csr")

    return once(features), size


def _similarity(vectorizer: Any, examples: Examples) -> np.ndarray:
    """Cosine of the two TF-IDF vectors, Jaccard of the words, and ratio of lengths: (examples, 3)."""
    first = vectorizer.transform([example.text for example in examples])
    second = vectorizer.transform([example.second or "" for example in examples])
    found = np.zeros((len(examples), 3))
    found[:, 0] = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    for index, example in enumerate(examples):
        words = set(example.text.lower().split())
        other = set((example.second or "").lower().split())
        found[index, 1] = len(words & other) / max(len(words | other), 1)
        found[index, 2] = min(len(words), len(other)) / max(len(words), len(other), 1)
    return found


def _fit(model: Any, features: Any, targets: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        # An unfinished fit is still a fair candidate: dev decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, targets)


def _binary(c: float, features: Any, targets: np.ndarray) -> Any:
    """A fitted logistic regression, or the one probability where all targets are alike."""
    from sklearn.linear_model import LogisticRegression

    if targets.all() or not targets.any():
        return float(targets[0])
    # The dual solver is twenty times faster than L-BFGS on many sparse features, with equal scores.
    model = LogisticRegression(
        C=c, solver="liblinear", dual=True, tol=TOLERANCE, max_iter=MAX_ITERATIONS, random_state=0
    )
    return _fit(model, features, targets)


def _probability(model: Any, features: Any) -> np.ndarray:
    if isinstance(model, float):
        return np.full(features.shape[0], model)
    return model.predict_proba(features)[:, 1]


def _classifiers(task: Task, train: Examples) -> Iterator[Fitted]:
    """One against the rest for each label; for single labels the probabilities are scaled to sum 1."""
    features, size = _featuriser(train)
    single = task.kind == "classify"
    targets = np.array(
        [[label == e.label if single else label in e.label for label in task.labels] for e in train]  # type: ignore[operator]
    )
    if single and len(task.labels) == 2:
        targets = targets[:, 1:]
    for c in C_GRID:
        models = [_binary(c, features(train), column) for column in targets.T]

        def predict(examples: Examples, models: list[Any] = models) -> np.ndarray:
            return _joined(models, features(examples), single)

        yield Fitted(predict, c, size + _bytes(models))


def _joined(models: list[Any], features: Any, single: bool) -> np.ndarray:
    scores = np.stack([_probability(model, features) for model in models], axis=1)
    if single and len(models) == 1:
        scores = np.concatenate([1 - scores, scores], axis=1)
    elif single:
        scores /= np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
    return scores.astype(np.float32)


def _regressions(train: Examples) -> Iterator[Fitted]:
    """Ridge regression; for pairs on the similarity features alone, for single texts on TF-IDF."""
    from scipy.sparse import issparse
    from sklearn.linear_model import Ridge

    features, size = _featuriser(train, pairs_alone=True)
    targets = np.array([example.label for example in train], dtype=np.float64)
    for alpha in ALPHA_GRID:
        solver = "sparse_cg" if issparse(features(train)) else "cholesky"
        model = _fit(Ridge(alpha=alpha, solver=solver), features(train), targets)

        def predict(examples: Examples, model: Any = model) -> np.ndarray:
            return model.predict(features(examples))[:, None].astype(np.float32)

        yield Fitted(predict, alpha, size + _bytes([model]))


def _taggers(train: Examples) -> Iterator[Fitted]:
    """One-against-rest logistic regression that scores each word by itself."""
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(HASHED_FEATURES, input_type="string", alternate_sign=False, dtype=np.float32)
    features = once(lambda examples: hasher.transform(_words(examples)))
    gold = np.array([tag for example in train for tag in example.label])  # type: ignore[union-attr]
    names = sorted(set(gold.tolist()))
    for c in TAG_C_GRID:
        models = [_binary(c, features(train), gold == name) for name in names]

        def predict(examples: Examples, models: list[Any] = models) -> list[list[str]]:
            found = features(examples)
            return decode(names, np.stack([_probability(model, found) for model in models], axis=1), examples)

        yield Fitted(predict, c, _bytes(models))


def _bytes(models: list[Any]) -> int:
    """Bytes of the coefficients, zeros left out: a rival would be kept in float32 and sparse."""
    return sum(0 if isinstance(model, float) else 8 * int(np.count_nonzero(model.coef_)) for model in models)


def decode(labels: Sequence[str], probabilities: np.ndarray, examples: Examples) -> list[list[str]]:
    """The best valid tags of all words, example by example, from (words, labels) probabilities."""
    scores = np.log(np.maximum(probabilities, 1e-12))
    return decoding.tags(labels, scores, [len(example.tokens) for example in examples])


def _words(examples: Examples) -> Iterator[list[str]]:
    """The features of every token of every example."""
    nothing = ("", "")
    for example in examples:
        words = [
            nothing,
            nothing,
            *((token.lower(), _shape(token)) for token in example.tokens),
            nothing,
            nothing,
        ]
        for index, token in enumerate(example.tokens):
            low = token.lower()
            found = [f"p{low[:size]}" for size in (1, 2, 3, 4)] + [f"s{low[-size:]}" for size in (1, 2, 3, 4)]
            for step in (-2, -1, 0, 1, 2):
                word, shape = words[index + 2 + step]
                found += [f"w{step} {word}", f"f{step} {shape}"]
            found += [f"b{words[index + 1][0]} {low}", f"a{low} {words[index + 3][0]}"]
            yield found


def _shape(token: str) -> str:
    """Which kinds of characters follow each other ("IL-2" has the shape "A-0")."""
    shape = ""
    for one in token:
        mark = "A" if one.isupper() else "a" if one.islower() else "0" if one.isdigit() else one
        if not shape.endswith(mark):
            shape += mark
    return shape[:8]
