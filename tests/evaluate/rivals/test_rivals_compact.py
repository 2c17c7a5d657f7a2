"""The rival without pre-training: learns what is there to learn, and its saved model predicts the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rival_tasks import task_of

from wellread.evaluate.rivals import compact, run
from wellread.serve.predict import Predictor


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"epochs": 6, "min_steps": 60, "evaluations": 6}
    monkeypatch.setattr(compact, "SETTINGS", compact.SETTINGS.model_copy(update=changes))


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress"])
def test_it_learns_and_what_is_saved_predicts_the_same(tmp_path: Path, kind: str) -> None:
    task = task_of(kind)
    run.run_rivals(task, ("majority", "cct"), ("all",), (0,), tmp_path, quiet=True)
    unit = tmp_path / "units" / "cct-all-0"
    told = {
        name: json.loads((tmp_path / "units" / f"{name}-all-0" / "result.json").read_text())
        for name in ("cct", "majority")
    }
    assert told["cct"]["test"][task.metric] > told["majority"]["test"][task.metric] + 0.1
    assert told["cct"]["setting"].startswith("cct-2/2x1, step ")
    predictor = Predictor.load(unit / "model")
    assert predictor.kind == task.kind and predictor.labels == task.labels
    found = list(predictor.predict(example.text for example in task.splits["test"]))
    scores = np.load(unit / "test_scores.npy")
    if kind == "regress":
        expected = [[one["score"]] for one in found]
    else:
        expected = [[one["probabilities"][label] for label in task.labels] for one in found]
    assert np.allclose(scores, expected, atol=1e-5)


def test_the_same_bytes_again_and_others_with_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "SETTINGS", compact.SETTINGS.model_copy(update={"max_steps": 4}))
    task = task_of("classify", (60, 20, 20))
    first, again, other = (compact.fit(task, task.splits["train"], seed) for seed in (0, 0, 1))
    scores = [one.predict(task.splits["test"]) for one in (first, again, other)]
    assert np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[0], scores[2])


def test_it_knows_no_word_that_is_not_in_the_training_texts() -> None:
    task = task_of("classify", (60, 20, 20))
    pieces = compact.word_pieces(task.splits["train"])
    letters = {letter for one in task.splits["train"] for letter in one.text.lower()}
    made = {letter for piece in pieces.get_vocab() if not piece.startswith("[") for letter in piece}
    assert made <= letters | {"#"}


def test_it_is_left_out_for_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.run_rivals(task_of("tag", (20, 10, 10)), ("cct",), ("all",), (0,), tmp_path, quiet=True)
    assert not list((tmp_path / "units").iterdir())
    assert "cct is not defined" in capsys.readouterr().err
