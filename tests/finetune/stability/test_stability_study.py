"""The driver of the study: every arm a grid, resumable; failed runs are told; hand-written lines stay."""

import sys
from pathlib import Path

import pytest
import toy

from wellread.finetune import grid, stable
from wellread.finetune.stable import Size
from wellread.settings import FinetuneSettings, TaskSettings
from wellread.tasks.read import write_task

FOLDER = Path(__file__).parents[3] / "experiments" / "stability"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import study

    yield study
    for name in ("study", "summary"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("layers", [1, 2, 12, 24])
def test_every_arm_is_valid_for_every_depth(layers, study):
    for name, values in study.arms(layers).items():
        settings = FinetuneSettings(**values)
        chosen, _ = stable.resolve(settings, "classify", 450, Size(layers, 768, True))
        stable.check(chosen, Size(layers, 768, True))
        assert chosen.bias_correction == (name == "correction" or name.startswith("stable"))


def test_a_study_is_run_once_and_summed_up(study, checkpoints, tmp_path, monkeypatch):
    write_task(toy.task("classify", 24, 8), tmp_path / "toy")
    tasks = {"toy": TaskSettings(path=str(tmp_path / "toy"), budgets=(12,))}
    chosen = {name: {**study.arms(3)[name], "max_steps": 2} for name in ("standard", "stable")}
    model, results = checkpoints("bert")[0], tmp_path / "docs"
    weights = study.summary.weights_of(model)
    monkeypatch.setattr(study, "cores", lambda: 1)
    study.run(model, tasks, chosen, [0], tmp_path / "out", results)
    study.run(model, tasks, chosen, [0, 1], tmp_path / "elsewhere", results)  # goes on from the results
    rows = study.summary.earlier(results, weights)
    assert [(row.arm, row.seed) for row in rows] == [(a, s) for a in chosen for s in (0, 1)]
    made = [path.name for path in tmp_path.glob("elsewhere/runs/*/*/units/*")]
    assert made == ["pretrained-all-1"] * 2
    assert study.summary.earlier(results, "of another model") == []

    page = results / "stability.md"
    text = page.read_text()
    assert text.count("| standard | 2 |") == text.count("| stable | 2 |") == 1
    picture = (results / "stability/toy.svg").read_bytes()
    page.write_text(text + "By hand.\n")
    with monkeypatch.context() as patch:
        patch.setattr(grid, "finetune", None)  # nothing is done again
        study.run(model, tasks, chosen, [0, 1], tmp_path / "third", results)
    assert study.summary.earlier(results, weights) == rows
    assert page.read_text() == text + "By hand.\n"
    assert (results / "stability/toy.svg").read_bytes() == picture

    # What is run with other settings is run anew.
    changed = {"standard": {**chosen["standard"], "batch": 4}}
    study.run(model, tasks, changed, [0], tmp_path / "fourth", results)
    found = study.summary.earlier(results, weights)
    assert [(row.arm, row.seed) for row in found] == [("standard", 0), ("stable", 0), ("stable", 1)]


def test_a_run_no_better_than_a_constant_has_failed(study, tmp_path):
    from wellread import files

    task = toy.task("tag", 8, 8)
    for seed, (dev, failed) in enumerate(((0.0, False), (0.1, False), (0.0, True))):
        scores = {task.metric: dev}
        result = {"dev": scores, "test": scores, "failed": failed}
        folder = tmp_path / "units" / f"pretrained-all-{seed}"
        folder.mkdir(parents=True)
        files.write_json(folder / "result.json", result)
    found = [row.failed for row in study.summary.gather(task, "standard", {}, tmp_path, [0, 1, 2])]
    assert found == ["no better than a constant answer", "", "not a number"]
    table = study.summary.table({"standard": study.summary.gather(task, "standard", {}, tmp_path, [0, 1, 2])})
    assert table.splitlines()[2] == "| standard | 3 | 2 | 3.33 | 5.77 | 0.00 | 0.00 | 10.00 |"
