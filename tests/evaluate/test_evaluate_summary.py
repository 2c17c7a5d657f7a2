"""metrics.json and summary.json from units."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from wellread.errors import ArtefactError
from wellread.evaluate.metrics import score
from wellread.evaluate.rivals.run import run_rivals, write_unit
from wellread.evaluate.summary import summarise
from wellread.tasks.read import read_task, write_task
from wellread.tasks.task import Example, Task

LABELS = ("a", "b")


def task_of() -> Task:
    def split(name: str, number: int) -> list[Example]:
        return [
            Example(f"{name}{i}", f"t {'x' if i % 3 else 'y'}", LABELS[i % 3 == 0]) for i in range(number)
        ]

    splits = {"train": split("train", 40), "dev": split("dev", 30), "test": split("test", 30)}
    return Task("role", "classify", LABELS, "macro_f1", splits)


def put_unit(
    task: Task, folder: Path, model: str, start: str, seed: int, right: float, **change: object
) -> Path:
    generator = np.random.default_rng(seed)
    outputs = {}
    for split in ("dev", "test"):
        gold = np.array([LABELS.index(str(example.label)) for example in task.splits[split]])
        said = np.where(generator.random(len(gold)) < right, gold, 1 - gold)
        outputs[split] = np.where(np.eye(2)[said] > 0, 0.8, 0.2).astype(np.float32)
    if change.pop("nan", False):
        outputs["test"][3] = np.nan
    unit = {
        "task": "role",
        "model": model,
        "start": start,
        "budget": 20,
        "labels": 20,
        "seed": seed,
        "steps": 5,
    }
    place = folder / f"{start}-{model}-{seed}"
    place.mkdir(parents=True)
    write_unit(task, unit | change, outputs, place)
    return place


@pytest.fixture
def run(tmp_path: Path) -> Path:
    task = task_of()
    write_task(task, tmp_path / "role")
    run_rivals(task, ("majority", "tfidf"), (20, "all"), (0, 1), tmp_path / "rivals", quiet=True)
    for seed in range(3):
        put_unit(task, tmp_path / "units", "sparse", "pretrained", seed, 0.9)
    put_unit(task, tmp_path / "units", "random", "random", 0, 0.0)
    put_unit(task, tmp_path / "units", "random", "random", 1, 1.0, nan=True)
    put_unit(task, tmp_path / "units", "random", "random", 2, 1.0)
    (tmp_path / "units" / "broken.partial").mkdir()
    return tmp_path


def summary_of(run: Path, bootstrap: int = 200) -> tuple[list[dict], dict]:
    out = run / "out"
    out.mkdir(exist_ok=True)
    units = [*sorted((run / "units").iterdir()), *sorted((run / "rivals" / "units").iterdir())]
    models = {"sparse": {"sparsity": 0.75, "pattern": "block16"}}
    summarise({"role": run / "role"}, units, models, bootstrap, out, 0)
    summary = json.loads((out / "summary.json").read_text())
    return json.loads((out / "metrics.json").read_text()), summary["tasks"]["role"]


def group(summary: dict, model: str, budget: object = 20) -> dict:
    [found] = [one for one in summary["groups"] if (one["model"], one["budget"]) == (model, budget)]
    return found


def test_the_fields_of_the_contract(run: Path) -> None:
    records, summary = summary_of(run)
    assert set(summary) == {"kind", "metric", "labels", "counts", "groups"}
    assert summary["counts"] == {"train": 40, "dev": 30, "test": 30} and summary["labels"] == ["a", "b"]
    assert len(records) == (6 + 8) * 2 * 3  # units x splits x (macro_f1, accuracy, auroc)
    keys = [
        "task",
        "split",
        "model",
        "start",
        "sparsity",
        "pattern",
        "labels",
        "budget",
        "seed",
        "metric",
        "value",
    ]
    assert all(sorted(record) == sorted(keys) for record in records)
    wanted = "model start sparsity pattern budget labels seeds failed mean std min max interval metrics"
    wanted += " confusion calibration"
    assert all(set(one) == set(wanted.split()) for one in summary["groups"])


def test_means_spread_and_shape(run: Path) -> None:
    records, summary = summary_of(run)
    found = group(summary, "sparse")
    values = [
        record["value"]
        for record in records
        if (record["model"], record["split"], record["metric"]) == ("sparse", "test", "macro_f1")
    ]
    assert found["seeds"] == [0, 1, 2] and len(values) == 3
    assert found["mean"] == pytest.approx(np.mean(values)) and found["std"] == pytest.approx(
        np.std(values, ddof=1)
    )
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["interval"][0] < found["mean"] < found["interval"][1]
    assert (found["sparsity"], found["pattern"], found["failed"]) == (0.75, "block16", 0)
    assert np.sum(found["confusion"]) == 3 * 30
    assert np.sum(found["confusion"], axis=1).tolist() == [60, 30]
    assert found["metrics"]["macro_f1"] == found["mean"]
    wrong = np.sum(found["confusion"]) - np.trace(found["confusion"])
    assert found["calibration"]["ece"] == pytest.approx(abs((1 - wrong / 90) - 0.8), abs=1e-6)
    assert (
        group(summary, "tfidf", "all")["pattern"] == "none" and group(summary, "random")["pattern"] == "dense"
    )


def test_failed_runs_are_counted_and_stay_in_the_mean(run: Path) -> None:
    _, summary = summary_of(run)
    found = group(summary, "random")
    assert found["failed"] == 2  # all wrong; not finite
    assert found["mean"] == pytest.approx(1 / 3) and found["min"] == 0 and found["max"] == 1
    assert np.sum(found["confusion"]) == 60  # the run that is not finite has no decisions
    assert found["interval"] == pytest.approx([1 / 3, 1 / 3])
    assert group(summary, "majority")["failed"] == 0


def test_the_majority_class_is_the_bar(run: Path) -> None:
    """A run that says the majority class everywhere failed, whatever its accuracy."""
    task = read_task(run / "role")
    gold = {split: len(task.splits[split]) for split in ("dev", "test")}
    outputs = {split: np.tile(np.float32([0.9, 0.1]), (number, 1)) for split, number in gold.items()}
    place = run / "units" / "flat"
    place.mkdir()
    unit = {"task": "role", "model": "flat", "start": "pretrained", "budget": 20, "labels": 20, "seed": 0}
    write_unit(task, unit, outputs, place)
    assert score(task, "test", outputs["test"])["accuracy"] == pytest.approx(2 / 3)
    assert group(summary_of(run)[1], "flat")["failed"] == 1


def test_where_dev_has_one_label_no_run_fails_by_it(run: Path) -> None:
    task = read_task(run / "role")
    task.splits["dev"] = [one for one in task.splits["dev"] if one.label == LABELS[0]]
    write_task(task, run / "role")
    shutil.rmtree(run / "rivals")
    shutil.rmtree(run / "units")
    run_rivals(task, ("majority", "tfidf"), (20,), (0,), run / "rivals", quiet=True)
    put_unit(task, run / "units", "perfect", "pretrained", 0, 1.0)
    assert group(summary_of(run)[1], "perfect")["failed"] == 0


def test_no_bootstrap_and_the_same_bytes_again(run: Path) -> None:
    assert group(summary_of(run, 0)[1], "sparse")["interval"] is None
    summary_of(run)
    before = (run / "out" / "summary.json").read_bytes(), (run / "out" / "metrics.json").read_bytes()
    summary_of(run)
    assert (
        (run / "out" / "summary.json").read_bytes(),
        (run / "out" / "metrics.json").read_bytes(),
    ) == before


@pytest.mark.parametrize("damage", ["missing", "cut", "pickle", "other shape"])
def test_damaged_predictions_are_refused(run: Path, damage: str) -> None:
    path = run / "units" / "pretrained-sparse-0" / "test_scores.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "pickle":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros((5, 2), np.float32))
    with pytest.raises(ArtefactError):
        summary_of(run)
