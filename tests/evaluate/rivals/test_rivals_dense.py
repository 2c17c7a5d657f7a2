"""Linear models on dense features: what they give is what scikit-learn gives on standardised features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rival_tasks import task_of
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from wellread.evaluate.rivals import dense


def test_pairs_by_hand() -> None:
    first, second = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])
    assert np.allclose(dense.pair_features(first, second, "regress"), [[24 / 25]])
    assert dense.pair_features(first, second, "classify").tolist() == [[3, 4, 4, 3, 1, 1, 12, 12]]
    assert dense.pair_features(0 * first, second, "regress").tolist() == [[0]]


def test_classes_as_scikit_learn_and_absent_ones() -> None:
    task = task_of("classify", (60, 10, 10))
    task = replace(task, labels=("a", "absent", "b", "c"))
    generator = np.random.default_rng(0)
    known = {example.id: generator.normal(3, 2, 5) for split in task.splits.values() for example in split}
    train = task.splits["train"]

    def features(examples: list) -> np.ndarray:
        return np.array([known[example.id] for example in examples])

    scaler = StandardScaler().fit(features(train))
    asked = features(task.splits["test"])
    for fitted in dense.candidates(task, train, features, 100):
        model = LogisticRegression(C=fitted.setting, tol=dense.TOLERANCE, max_iter=dense.MAX_ITERATIONS)
        model.fit(scaler.transform(features(train)).astype(np.float32), [example.label for example in train])
        expected = model.predict_proba(scaler.transform(asked).astype(np.float32))
        found = fitted.predict(task.splits["test"])
        assert found.shape == (10, 4) and not found[:, 1].any()
        assert np.allclose(found[:, [0, 2, 3]], expected, atol=1e-5)
        assert fitted.size_bytes == 100 + 4 * (3 * 5 + 3 + 2 * 5)


def test_one_class_only() -> None:
    task = task_of("classify", (60, 10, 10))
    train = [example for example in task.splits["train"] if example.label == "b"]
    (fitted, *_) = dense.candidates(task, train, lambda examples: np.ones((len(examples), 3)), 0)
    assert fitted.predict(task.splits["dev"]).tolist() == [[0, 1, 0]] * 10


def test_tagged_words_are_bounded() -> None:
    train = task_of("tag", (50, 5, 5)).splits["train"]
    kept = dense.some_words(train, 100)
    assert 94 < sum(len(example.tokens) for example in kept) <= 100
    assert [example for example in train if example in kept] == kept
    assert dense.some_words(train, 10_000) is train
