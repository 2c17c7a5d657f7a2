"""The gate: what is lost is counted exactly, and the limits are kept."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from wellread.compress import gate
from wellread.compress.gate import Answers
from wellread.finetune import objective
from wellread.serve.predict import Predictor


def of(logits):
    """Answers of a classifier."""
    logits = np.asarray(logits, dtype=np.float32)
    return Answers(logits, objective.scores("classify", logits))


def right(task, wrong=0):
    """Logits that are right but for the first few examples."""
    rows = np.full((len(task.splits["dev"]), len(task.labels)), -3.0)
    for number, example in enumerate(task.splits["dev"]):
        best = task.labels.index(example.label)
        rows[number, (best + (number < wrong)) % len(task.labels)] = 3.0
    return rows


def test_a_model_loses_nothing_against_itself(fine_tuned):
    for kind in ("classify", "regress", "tag"):
        folder, task, _, result = fine_tuned(kind, "bert")
        found = gate.answers(Predictor.load(folder), task, "dev")
        judged = gate.judge(task, "dev", found, found)
        assert judged["score"] == pytest.approx(100 * result.dev[task.metric], abs=1e-3)
        assert (judged["drop"], judged["drop_interval"]) == (0.0, [0.0, 0.0])
        assert judged["agreement"] == pytest.approx(1.0)


def test_what_is_lost_is_counted():
    task = toy.task("classify")
    task = task.__class__(task.name, task.kind, task.labels, "accuracy", task.splits)
    judged = gate.judge(task, "dev", of(right(task)), of(right(task, wrong=4)))
    assert judged["drop"] == pytest.approx(100 * 4 / 40)
    assert judged["agreement"] == pytest.approx(36 / 40)
    low, high = judged["drop_interval"]
    assert 0 <= low < judged["drop"] < high


def test_the_interval_is_paired():
    """Two models that are wrong on the same texts differ by nothing in every draw."""
    task = toy.task("classify")
    first, second = right(task, wrong=6), right(task, wrong=6) * 2
    assert gate.judge(task, "dev", of(first), of(second))["drop_interval"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("drop", "agreement", "least", "passes"),
    [
        (0.5, 0.9, 0.0, True),
        (0.5001, 1.0, 0.0, False),
        (-3.0, 0.985, 0.99, False),
        (0.0, 0.99, 0.99, True),
        (float("nan"), 1.0, 0.0, False),
    ],
)
def test_the_limits(drop, agreement, least, passes):
    why = gate.why_not({"drop": drop, "agreement": agreement}, 0.5, least)
    assert (why is None) == passes
