"""The rivals learn what is there to learn, write what the contract says, and resume bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rival_tasks import task_of

from wellread import files
from wellread.evaluate.metrics import score
from wellread.evaluate.rivals import run as rivals
from wellread.evaluate.rivals import setfit
from wellread.evaluate.rivals.majority import majority
from wellread.evaluate.rivals.run import run_rivals
from wellread.tasks.task import Example, Task
from wellread.workers import torch_threads


def result(folder: Path, unit: str) -> dict:
    return json.loads((folder / "units" / unit / "result.json").read_text())


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "pairs", "tag"])
def test_rivals_of_every_kind(tmp_path: Path, kind: str) -> None:
    task = task_of(kind)
    run_rivals(task, ("majority", "tfidf"), (30, "all"), (0, 1), tmp_path, quiet=True)
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == sorted(
        f"{name}-{budget}-{seed}"
        for name in ("majority", "tfidf")
        for budget in (30, "all")
        for seed in (0, 1)
    )
    told = result(tmp_path, "tfidf-30-1")
    assert (told["task"], told["model"], told["start"]) == (kind, "tfidf", "rival")
    assert (told["budget"], told["labels"], told["seed"], told["failed"]) == (30, 30, 1, False)
    assert set(told) >= {"failure", "dev", "test", "steps", "best_step", "history"}
    best, base = (result(tmp_path, f"{name}-all-0")["test"][task.metric] for name in ("tfidf", "majority"))
    assert best > 0.8 and best > base + 0.2
    for path in (tmp_path / "units").iterdir():
        assert files.problems(path) == []
        if kind == "tag":
            lines = [json.loads(line) for line in (path / "test_tags.jsonl").read_text().splitlines()]
            assert [line["id"] for line in lines] == [one.id for one in task.splits["test"]]
            again = score(task, "test", [line["tags"] for line in lines])
        else:
            scores = np.load(path / "test_scores.npy", allow_pickle=False)
            assert scores.dtype == np.float32 and scores.shape == (60, len(task.labels))
            again = score(task, "test", scores)
            if kind == "classify":
                assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
        assert again == json.loads((path / "result.json").read_text())["test"]


@pytest.mark.parametrize("kind", ["classify", "tag", "pairs"])
def test_bit_for_bit_again_and_after_an_interruption(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(kind, (60, 20, 20))
    ask = (task, ("majority", "tfidf"), (20, "all"), (0, 1))
    run_rivals(*ask, tmp_path / "whole", quiet=True)
    write_unit = rivals.write_unit

    def die(task: Task, unit: dict, outputs: dict, folder: Path) -> None:
        write_unit(task, unit, outputs, folder)
        if unit["model"] == "tfidf" and unit["seed"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(rivals, "write_unit", die)
    with pytest.raises(KeyboardInterrupt):
        run_rivals(*ask, tmp_path / "cut", quiet=True)
    monkeypatch.setattr(rivals, "write_unit", write_unit)
    assert len(list((tmp_path / "cut" / "units").iterdir())) == 5
    kept = (tmp_path / "cut" / "units" / "tfidf-20-0" / "result.json").stat().st_mtime_ns
    run_rivals(*ask, tmp_path / "cut", quiet=True)
    assert (tmp_path / "cut" / "units" / "tfidf-20-0" / "result.json").stat().st_mtime_ns == kept
    for path in (tmp_path / "whole" / "units").rglob("*.*"):
        again = tmp_path / "cut" / path.relative_to(tmp_path / "whole")
        assert path.name in files.NOT_IDENTITY or path.read_bytes() == again.read_bytes()


def test_majority_by_hand() -> None:
    train = [Example("1", "t", "b"), Example("2", "t", "b"), Example("3", "t", "a"), Example("4", "t", "b")]
    task = Task(
        "t", "classify", ("a", "b", "c"), "accuracy", {"train": train, "dev": train[:2], "test": train}
    )
    assert majority(task, train, "dev").tolist() == [[0.25, 0.75, 0.0]] * 2
    many = [Example("1", "t", ("a", "b")), Example("2", "t", ("b",))]
    task = Task("t", "multilabel", ("a", "b"), "micro_f1", {"train": many, "dev": many, "test": many[:1]})
    assert majority(task, many, "test").tolist() == [[0.5, 1.0]]
    numbers = [Example("1", "t", 1.0), Example("2", "t", 4.0)]
    task = Task("t", "regress", ("score",), "pearson", {"train": numbers, "dev": numbers, "test": numbers})
    assert majority(task, numbers, "test").tolist() == [[2.5], [2.5]]


def test_a_budget_with_one_class_or_no_entity_works(tmp_path: Path) -> None:
    task = task_of("classify", (60, 20, 20))
    run_rivals(task, ("tfidf",), (1,), (0,), tmp_path / "one", quiet=True)
    scores = np.load(tmp_path / "one" / "units" / "tfidf-1-0" / "test_scores.npy")
    assert np.isfinite(scores).all() and set(scores.argmax(axis=1)) == {scores[0].argmax()}
    plain = [Example(f"o{n}", "a b", ("O", "O"), tokens=("a", "b")) for n in range(5)]
    task = Task(
        "t", "tag", ("O", "B-x", "I-x"), "entity_f1", {"train": plain, "dev": plain[:2], "test": plain[:2]}
    )
    run_rivals(task, ("tfidf",), ("all",), (0,), tmp_path / "tag", quiet=True)
    assert result(tmp_path / "tag", "tfidf-all-0")["test"]["entity_f1"] == 0


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "pairs", "tag"])
def test_rivals_that_stand_on_more(
    tmp_path: Path, kind: str, means: rivals.Means, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setfit, "MOST_PAIRS", 32)
    task = task_of(kind, (40, 20, 20))
    names = ("static", "minilm-frozen", "minilm-setfit")
    for place in ("one", "two"):
        run_rivals(task, names, (20, "all"), (0,), tmp_path / place, means, quiet=True)
    made = sorted(path.name for path in (tmp_path / "one" / "units").iterdir())
    fit = [name for name in names if kind not in ("tag", "regress") or name != "minilm-setfit"]
    assert made == sorted(f"{name}-{budget}-0" for name in fit for budget in (20, "all"))
    for unit in made:
        folder = tmp_path / "one" / "units" / unit
        costs = json.loads((folder / "costs.json").read_text())
        assert costs["seconds"] > 0 and costs["seconds_per_1000"] > 0 and costs["size_bytes"] > 0
        assert costs["peak_memory_bytes"] >= 0
        assert files.problems(folder) == []
        for path in folder.iterdir():
            again = tmp_path / "two" / "units" / unit / path.name
            assert path.name in files.NOT_IDENTITY or path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_remembered_changes_nothing(tmp_path: Path, means: rivals.Means, threads: int) -> None:
    with torch_threads(threads):  # with two, an embedding's last bits depend on its batch
        _remembered(tmp_path, means)


def _remembered(tmp_path: Path, means: rivals.Means) -> None:
    task = task_of("classify", (40, 20, 20))
    run_rivals(task, ("minilm-frozen",), (20, "all"), (0,), tmp_path / "both", means, quiet=True)
    fresh = rivals.Means(means.vectors_folder, means.encoder_folder)
    run_rivals(task, ("minilm-frozen",), ("all",), (0,), tmp_path / "one", fresh, quiet=True)
    for name in ("result.json", "test_scores.npy"):
        both, one = (tmp_path / at / "units" / "minilm-frozen-all-0" / name for at in ("both", "one"))
        assert both.read_bytes() == one.read_bytes()
