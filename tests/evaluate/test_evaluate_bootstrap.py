"""Bootstrap intervals against a plain loop over the same draws, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from wellread import rng
from wellread.evaluate import bootstrap
from wellread.evaluate.bootstrap import difference, interval, resample_weights
from wellread.tasks.task import Example, Task

LABELS = ("a", "b", "c")


def made(number: int, seed: int, docs: int = 0) -> tuple[Task, list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, 3, number)
    examples = [
        Example(f"e{i}", "t", LABELS[g], doc=f"d{generator.integers(docs)}" if docs else "")
        for i, g in enumerate(gold)
    ]
    outputs = []
    for _ in range(3):
        scores = generator.random((number, 3)).astype(np.float32)
        scores[np.arange(number), gold] += 0.5
        outputs.append(scores)
    return Task("t", "classify", LABELS, "macro_f1", {"train": [], "dev": [], "test": examples}), outputs


@pytest.mark.parametrize("docs", [0, 15])
def test_equals_a_plain_loop(docs: int) -> None:
    task, outputs = made(80, 1, docs)
    examples = task.splits["test"]
    gold = np.array([example.label for example in examples])
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.doc or str(index), []).append(index)
    members = list(groups.values())
    means = []
    for row in range(200):
        draws = (rng.uniform(5, "bootstrap", row, np.arange(len(members))) * len(members)).astype(int)
        chosen = [index for draw in draws for index in members[draw]]
        scores = [
            f1_score(gold[chosen], np.array(LABELS)[output[chosen].argmax(axis=1)], average="macro")
            for output in outputs
        ]
        means.append(np.mean(scores))
    low, high = np.quantile(means, [0.025, 0.975])
    assert interval(task, "test", outputs, "macro_f1", 200, 5) == pytest.approx((low, high), abs=1e-12)


def test_weights_are_whole_documents_and_add_up() -> None:
    task, _ = made(40, 2, docs=9)
    examples = task.splits["test"]
    weights = np.concatenate(list(resample_weights(examples, 50, 0)))
    docs = np.array([example.doc for example in examples])
    assert weights.shape == (50, 40)
    for doc in set(docs):
        assert (weights[:, docs == doc] == weights[:, docs == doc][:, :1]).all()
    first = [int(np.flatnonzero(docs == doc)[0]) for doc in dict.fromkeys(docs)]
    assert (weights[:, first].sum(axis=1) == len(first)).all()


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    task, outputs = made(50, 3)
    whole = interval(task, "test", outputs, "accuracy", 100, 1)
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 333)
    assert interval(task, "test", outputs, "accuracy", 100, 1) == whole
    assert interval(task, "test", outputs, "accuracy", 100, 2) != whole


def test_none_and_failures() -> None:
    task, outputs = made(50, 4)
    assert interval(task, "test", outputs, "accuracy", 0, 1) is None
    assert interval(task, "test", [], "accuracy", 10, 1) is None
    low, high = interval(task, "test", outputs[:1], "accuracy", 100, 1) or (0, 0)
    bad = np.full_like(outputs[0], np.nan)
    assert interval(task, "test", [outputs[0], bad], "accuracy", 100, 1) == pytest.approx((low / 2, high / 2))


def test_coverage_of_an_accuracy() -> None:
    """About 95 of 100 intervals hold the accuracy of the population from which the examples come."""
    inside = 0
    for seed in range(100):
        right = np.random.default_rng(seed).random(150) < 0.7
        examples = [Example(f"e{i}", "t", "a") for i in range(150)]
        output = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
        task = Task("t", "classify", ("a", "b"), "accuracy", {"train": [], "dev": [], "test": examples})
        low, high = interval(task, "test", [output], "accuracy", 300, seed) or (0, 0)
        inside += low <= 0.7 <= high
    assert 88 <= inside <= 99


def test_a_difference_rests_on_the_same_draws() -> None:
    task, outputs = made(80, 4)
    assert difference(task, "test", (outputs, outputs), "macro_f1", 50, 5) == (0.0, 0.0)
    worse = [np.roll(output, 1, axis=1) for output in outputs]
    low, high = difference(task, "test", (outputs, worse), "macro_f1", 400, 5)
    best, worst = (interval(task, "test", each, "macro_f1", 400, 5) for each in (outputs, worse))
    assert best is not None and worst is not None
    assert 0 < low < high
    assert high - low < (best[1] - best[0]) + (worst[1] - worst[0])
