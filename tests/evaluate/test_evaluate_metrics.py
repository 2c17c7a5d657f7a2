"""Scores equal to those of scikit-learn, SciPy and seqeval, with and without weights."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.metrics import precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn import metrics as sk

from wellread.evaluate.metrics import (
    METRICS,
    default_metric,
    entities,
    gold_matrix,
    metric_names,
    metrics_of,
    score,
)
from wellread.tasks.task import Example, Task

LABELS = ("a", "b", "c")


def task_of(kind: str, golds: list, labels: tuple[str, ...] = LABELS, docs: list[str] | None = None) -> Task:
    examples = [
        Example(
            f"e{i}",
            "t",
            gold,
            tokens=tuple("t" * len(gold)) if kind == "tag" else (),
            doc=docs[i] if docs else "",
        )
        for i, gold in enumerate(golds)
    ]
    splits = {"train": examples, "dev": examples, "test": examples}
    return Task("t", kind, labels, default_metric(kind), splits)  # type: ignore[arg-type]


probabilities = st.floats(0, 1, width=32)


@st.composite
def classified(draw: st.DrawFn, labels: tuple[str, ...] = LABELS) -> tuple[list[str], np.ndarray]:
    number = draw(st.integers(1, 25))
    golds = draw(st.lists(st.sampled_from(labels), min_size=number, max_size=number))
    # Few distinct values, so that ties happen.
    cells = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    rows = draw(
        st.lists(
            st.lists(cells, min_size=len(labels), max_size=len(labels)), min_size=number, max_size=number
        )
    )
    return golds, np.array(rows, dtype=np.float32)


@settings(deadline=None)
@given(classified())
def test_classify(made: tuple[list[str], np.ndarray]) -> None:
    golds, output = made
    found = score(task_of("classify", golds), "test", output)
    predicted = [LABELS[index] for index in output.argmax(axis=1)]
    assert set(found) == {"macro_f1", "accuracy"}
    assert found["accuracy"] == sk.accuracy_score(golds, predicted)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(golds, predicted, average="macro"), abs=1e-15)


def asked(task: Task, metric: str, output: object) -> float:
    """A score that is reported only where the task names it."""
    assert metric not in score(task, "test", output)
    return score(replace(task, metric=metric), "test", output)[metric]


@settings(deadline=None)
@given(classified())
def test_relations_leave_the_negative_class_out(made: tuple[list[str], np.ndarray]) -> None:
    golds, output = made
    predicted = [LABELS[index] for index in output.argmax(axis=1)]
    expected = sk.f1_score(golds, predicted, labels=LABELS[1:], average="micro", zero_division=0)
    assert asked(task_of("classify", golds), "micro_f1_positive", output) == pytest.approx(
        expected, abs=1e-15
    )


@settings(deadline=None)
@given(classified())
def test_matthews(made: tuple[list[str], np.ndarray]) -> None:
    golds, output = made
    predicted = [LABELS[index] for index in output.argmax(axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.matthews_corrcoef(golds, predicted)
    assert asked(task_of("classify", golds), "matthews", output) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.data())
def test_words(data: st.DataObject) -> None:
    """Types of words, whatever mark they have; "O" is no type."""
    labels = ("O", "B-x", "I-x", "B-y", "I-y")
    tags = st.lists(st.sampled_from(labels), min_size=1, max_size=6)
    golds = data.draw(st.lists(tags, min_size=1, max_size=5))
    output = [data.draw(st.lists(st.sampled_from(labels), min_size=len(g), max_size=len(g))) for g in golds]
    task = task_of("tag", [tuple(gold) for gold in golds], labels)
    gold = [tag[-1] for row in golds for tag in row]
    predicted = [tag[-1] for row in output for tag in row]
    assert asked(task, "word_accuracy", output) == pytest.approx(sk.accuracy_score(gold, predicted))
    types = sorted({*gold, *predicted} - {"O"})
    expected = sk.f1_score(gold, predicted, labels=types, average="macro", zero_division=0) if types else 0
    assert asked(task, "word_macro_f1", output) == pytest.approx(expected, abs=1e-15)
    other = task_of("tag", [tuple(gold) for gold in golds], ("B-x", "B-y", "I-x", "I-y", "O"))
    assert asked(other, "word_macro_f1", output) == pytest.approx(expected, abs=1e-15)


@settings(deadline=None)
@given(classified(("no", "yes")))
def test_auroc(made: tuple[list[str], np.ndarray]) -> None:
    golds, output = made
    found = score(task_of("classify", golds, ("no", "yes")), "test", output)["auroc"]
    if len(set(golds)) == 1:
        assert found == 0.5
    else:
        assert found == pytest.approx(
            sk.roc_auc_score([gold == "yes" for gold in golds], output[:, 1]), abs=1e-15
        )


@settings(deadline=None)
@given(st.data())
def test_multilabel(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 20))
    golds = [tuple(sorted(data.draw(st.sets(st.sampled_from(LABELS))))) for _ in range(number)]
    output = np.array(
        [[data.draw(st.sampled_from([0.0, 0.49, 0.5, 0.9])) for _ in LABELS] for _ in range(number)]
    )
    task = task_of("multilabel", golds)
    gold, predicted = gold_matrix(task, task.splits["test"]), output >= 0.5
    found = score(task, "test", output)
    assert set(found) == {"micro_f1", "macro_f1", "accuracy"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["micro_f1"] == pytest.approx(
            sk.f1_score(gold, predicted, average="micro", zero_division=0)
        )
        present = np.flatnonzero(gold.any(axis=0) | predicted.any(axis=0))
        expected = (
            sk.f1_score(gold, predicted, average="macro", labels=present, zero_division=0)
            if len(present)
            else 0
        )
        assert found["macro_f1"] == pytest.approx(expected)
    assert found["accuracy"] == sk.accuracy_score(gold, predicted)


def test_micro_f1_by_document() -> None:
    golds: list = [("a",), (), ("b",), ("a", "b"), ()]
    output = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float32)
    task = task_of("multilabel", golds, docs=["d1", "d1", "d2", "d2", "d3"])
    # d1: gold a, predicted a b; d2: gold a b, predicted a; d3: gold nothing, predicted c.
    found = score(task, "test", output)
    assert found["micro_f1_doc"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert found["micro_f1"] == pytest.approx(2 * 1 / (2 * 1 + 3 + 3))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=25))
def test_regress(pairs: list[tuple[int, int]]) -> None:
    golds = [float(gold) for gold, _ in pairs]
    predicted = np.array([[value / 4] for _, value in pairs], dtype=np.float32)
    found = score(task_of("regress", golds, ("score",)), "test", predicted)
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean((np.array(golds) - predicted[:, 0]) ** 2))))
    if len(set(golds)) == 1 or len(set(predicted[:, 0].tolist())) == 1:
        assert found["pearson"] == found["spearman"] == 0
    else:
        assert found["pearson"] == pytest.approx(stats.pearsonr(golds, predicted[:, 0])[0], abs=1e-12)
        assert found["spearman"] == pytest.approx(stats.spearmanr(golds, predicted[:, 0])[0], abs=1e-12)


def test_correlations_far_from_zero_and_of_constants() -> None:
    golds = [1e6 + value for value in (0.0, 1.0, 2.0, 3.0)]
    task = task_of("regress", golds, ("score",))
    assert score(task, "test", np.array([5.0, 6, 7, 8]))["pearson"] == pytest.approx(1)
    assert score(task, "test", np.full(4, 0.1))["pearson"] == 0
    assert score(task, "test", np.array([3.0, 1, 2, 0]))["spearman"] == pytest.approx(-0.8)


tag_lists = st.lists(
    st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(tag_lists, st.data())
def test_entities_are_those_of_strict_seqeval(golds: list[list[str]], data: st.DataObject) -> None:
    tags = st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])
    predicted = [data.draw(st.lists(tags, min_size=len(gold), max_size=len(gold))) for gold in golds]
    labels = ("O", "B-x", "I-x", "B-y", "I-y")
    found = score(task_of("tag", [tuple(gold) for gold in golds], labels), "test", predicted)
    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["entity_f1"] == pytest.approx(seqeval_f1(golds, predicted, **options))
        assert found["entity_precision"] == pytest.approx(precision_score(golds, predicted, **options))
        assert found["entity_recall"] == pytest.approx(recall_score(golds, predicted, **options))


def test_entities() -> None:
    tags = ["I-x", "B-x", "I-x", "I-y", "B-y", "B-y", "O", "B-x"]
    assert entities(tags) == {(1, 3, "x"), (4, 5, "y"), (5, 6, "y"), (7, 8, "x")}


def outputs_of(kind: str, number: int, generator: np.random.Generator) -> tuple[Task, object]:
    if kind == "tag":
        names = ["O", "B-x", "I-x"]
        golds = [tuple(generator.choice(names, 4)) for _ in range(number)]
        return task_of("tag", golds, tuple(names)), [list(generator.choice(names, 4)) for _ in range(number)]
    if kind == "regress":
        return task_of("regress", generator.integers(0, 5, number).tolist(), ("score",)), generator.integers(
            0, 5, (number, 1)
        ).astype(np.float64)
    labels = ("a", "b")
    golds = [labels[i] if kind == "classify" else labels[:i] for i in generator.integers(0, 2, number)]
    return task_of(kind, golds, labels), generator.integers(0, 5, (number, 2)) / 4


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag"])
def test_a_weight_is_as_good_as_a_repetition(kind: str) -> None:
    """Weights equal scoring a list in which each example stands as often as its weight says."""
    generator = np.random.default_rng(0)
    task, output = outputs_of(kind, 12, generator)
    examples = task.splits["test"]
    weights = generator.integers(0, 4, (6, 12)).astype(np.float64)
    for name in sorted({*metric_names(task), *metrics_of(task.kind, len(task.labels))} - {"micro_f1_doc"}):
        whole = METRICS[name](task, examples, output)(weights)
        for row, value in zip(weights, whole, strict=True):
            drawn = np.repeat(np.arange(12), row.astype(int))
            again = output[drawn] if isinstance(output, np.ndarray) else [output[i] for i in drawn]  # type: ignore[index]
            plain = METRICS[name](task, [examples[i] for i in drawn], again)(np.ones((1, len(drawn))))[0]
            assert value == pytest.approx(plain, abs=1e-12), name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_score_zero(bad: float) -> None:
    output = np.full((2, 3), 0.3)
    output[1, 2] = bad
    assert score(task_of("classify", ["a", "b"]), "test", output) == {"macro_f1": 0.0, "accuracy": 0.0}
    found = score(task_of("regress", [1.0, 2.0], ("score",)), "test", output[:, 2])
    assert found == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("classify", np.zeros((3, 3))),
        ("classify", np.zeros((2, 2))),
        ("multilabel", np.zeros(2)),
        ("tag", [["O"], ["O", "O"]]),
        ("tag", [["O"]]),
    ],
)
def test_outputs_of_the_wrong_shape(kind: str, output: object) -> None:
    golds: list = {"classify": ["a", "b"], "multilabel": [(), ("a",)], "tag": [("O",), ("O",)]}[kind]
    with pytest.raises(ValueError, match="fit|expected"):
        score(task_of(kind, golds), "test", output)


def test_main_metrics_are_known_and_rmse_is_none() -> None:
    for kind in ("classify", "multilabel", "regress", "tag"):
        names = metrics_of(kind, 2)  # type: ignore[arg-type]
        assert default_metric(kind) in names and set(names) <= set(METRICS) and "rmse" not in names  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two labels"):
        METRICS["auroc"](
            task_of("classify", ["a"]), task_of("classify", ["a"]).splits["test"], np.zeros((1, 3))
        )
