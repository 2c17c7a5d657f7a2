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
    chosen = {name: study.arms(3)[name] for name in ("standard", "stable")}
    given = (checkpoints("bert")[0], tasks, chosen, 2, tmp_path / "out", {"max_steps": 2})
    monkeypatch.setattr(study, "cores", lambda: 1)
    rows = study.run(*given)
    assert [(row.arm, row.seed) for row in rows] == [(a, s) for a in chosen for s in (0, 1)]
    monkeypatch.setattr(grid, "finetune", None)  # nothing is done again
    assert study.run(*given) == rows

    page = study.summary.write(rows, given[0], Size(3, 32, True), tmp_path / "docs")
    text = page.read_text()
    assert text.count("| standard | 2 |") == text.count("| stable | 2 |") == 1
    picture = (tmp_path / "docs/stability/toy.svg").read_bytes()
    page.write_text(text + "By hand.\n")
    study.summary.write(rows, given[0], Size(3, 32, True), tmp_path / "docs")
    assert page.read_text() == text + "By hand.\n"
    assert (tmp_path / "docs/stability/toy.svg").read_bytes() == picture


def test_a_run_no_better_than_a_constant_has_failed(study, tmp_path):
    from wellread import files

    task = toy.task("tag", 8, 8)
    for seed, (dev, failed) in enumerate(((0.0, False), (0.1, False), (0.0, True))):
        scores = {task.metric: dev}
        result = {"dev": scores, "test": scores, "failed": failed}
        folder = tmp_path / "units" / f"pretrained-all-{seed}"
        folder.mkdir(parents=True)
        files.write_json(folder / "result.json", result)
    found = [row.failed for row in study.summary.gather(task, "standard", tmp_path, range(3))]
    assert found == ["no better than a constant answer", "", "not a number"]
    table = study.summary.table({"standard": study.summary.gather(task, "standard", tmp_path, range(3))})
    assert table.splitlines()[2] == "| standard | 3 | 2 | 3.33 | 5.77 | 0.00 | 0.00 | 10.00 |"
