"""The grid: contract of the unit folders, resume after kills, damage, the best model."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import toy

from wellread import files
from wellread.errors import ArtefactError, RecipeError
from wellread.finetune import grid
from wellread.models import build
from wellread.serve.predict import Predictor
from wellread.settings import FinetuneSettings
from wellread.tasks.read import read_task, write_task

QUICK = {"epochs": 1, "min_steps": 6, "max_steps": 6, "evaluations": 2}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for kind in toy.KINDS:
        write_task(toy.task(kind, 40, 12), folder / kind)
    return folder


def run(
    tasks, tokenizer_folder, folder, kind="classify", budgets=(16, "all"), start=None, threads=1, **changes
):
    grid.run(
        grid.Job(
            tasks / kind,
            start or toy.model(),
            tokenizer_folder,
            toy.settings(**{**QUICK, **changes}),
            budgets,
            folder,
            task_name=kind,
            model_name="main",
            start_name="pretrained" if start else "random",
        ),
        threads=threads,
        quiet=True,
    )


def content(folder):
    """Bytes of every file but clocks and what hashes them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in files.NOT_IDENTITY
    }


@pytest.fixture(scope="module")
def finished(tasks, tokenizer_folder, tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("finished")
    run(tasks, tokenizer_folder, folder)
    return folder


@pytest.mark.parametrize("kind", toy.KINDS)
def test_units_keep_the_contract(kind, tasks, tokenizer_folder, tmp_path):
    run(tasks, tokenizer_folder, tmp_path, kind)
    task = read_task(tasks / kind, kind)
    names = [f"random-{budget}-{seed}" for budget in (16, "all") for seed in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == sorted(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "units"]
    for name in names:
        unit = tmp_path / "units" / name
        assert files.problems(unit) == []
        result = json.loads((unit / "result.json").read_bytes())
        assert (result["task"], result["model"], result["start"]) == (kind, "main", "random")
        assert f"random-{result['budget']}-{result['seed']}" == name
        assert result["labels"] == (16 if result["budget"] == 16 else 40)
        assert (result["failed"], result["failure"], result["steps"]) == (False, "", 6)
        assert [set(entry) for entry in result["history"]] == [{"step", "loss", "dev", "dev_loss"}] * 2
        assert task.metric in result["dev"]
        assert task.metric in result["test"]
        assert json.loads((unit / "costs.json").read_bytes())["seconds"] > 0
        for split in ("dev", "test"):
            if kind == "tag":
                lines = [json.loads(line) for line in (unit / f"{split}_tags.jsonl").open()]
                assert [line["id"] for line in lines] == [e.id for e in task.splits[split]]
                assert [len(line["tags"]) for line in lines] == [len(e.tokens) for e in task.splits[split]]
            else:
                scores = np.load(unit / f"{split}_scores.npy", allow_pickle=False)
                assert scores.dtype == np.float32
                assert scores.shape == (12, len(task.labels))
                if kind == "classify":
                    assert np.allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_the_best_model_of_the_largest_budget_is_kept(finished, tasks, tokenizer):
    results = {
        seed: json.loads((finished / "units" / f"random-all-{seed}" / "result.json").read_bytes())
        for seed in (0, 1)
    }
    best = max(results, key=lambda seed: results[seed]["dev"]["macro_f1"])
    assert files.read_manifest(finished / "model")["unit"] == f"random-all-{best}"
    model = build.load(finished / "model", "classify").eval()
    dev = read_task(tasks / "classify").splits["dev"]
    inputs = tokenizer([example.text for example in dev], padding=True, return_tensors="pt")
    probabilities = model(**inputs).logits.softmax(-1).detach().numpy()
    saved = np.load(finished / "units" / f"random-all-{best}" / "dev_scores.npy")
    assert np.allclose(probabilities, saved, atol=1e-5)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.mark.parametrize("commit", range(1, 7))
def test_resumed_after_a_kill_at_any_commit_the_bytes_are_the_same(
    commit, finished, tasks, tokenizer_folder, tmp_path, monkeypatch
):
    """4 units and 2 candidate models are committed; stop as if killed after or in the middle of each one."""
    real, seen = files.commit, []

    def stop(final, **facts):
        seen.append(final)
        if len(seen) == commit:
            if commit % 2:
                (files.partial_path(final) / "half").write_bytes(b"written")
            else:
                real(final, **facts)
            raise Killed
        return real(final, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(files, "commit", stop)
        with pytest.raises(Killed):
            run(tasks, tokenizer_folder, tmp_path)
    assert files.partial_path(seen[-1]).exists() == bool(commit % 2)
    done = {path: path.stat().st_ino for path in (tmp_path / "units").glob("*-[01]")}
    run(tasks, tokenizer_folder, tmp_path)
    assert content(tmp_path) == content(finished)
    assert {path: path.stat().st_ino for path in done} == done  # what was committed is not done again


def test_runs_side_by_side_give_the_same_bytes(finished, tasks, tokenizer_folder, tmp_path):
    run(tasks, tokenizer_folder, tmp_path, threads=2)
    assert content(tmp_path) == content(finished)


def test_a_finished_grid_is_left_alone(finished, tasks, tokenizer_folder, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(grid, "finetune", None)
    run(tasks, tokenizer_folder, tmp_path / "run")
    assert content(tmp_path / "run") == content(finished)


@pytest.mark.parametrize(
    "name", ["units/random-16-1/result.json", "units/random-all-0/dev_scores.npy", "model/model.safetensors"]
)
def test_one_changed_byte_is_made_good(name, finished, tasks, tokenizer_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    run(tasks, tokenizer_folder, tmp_path / "run")
    assert content(tmp_path / "run") == content(finished)


def test_other_settings_are_not_mistaken_for_done(finished, tasks, tokenizer_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    run(tasks, tokenizer_folder, tmp_path / "run", learning_rate=1e-4)
    assert content(tmp_path / "run") != content(finished)


def test_more_seeds_are_added_to_those_that_are_done(
    finished, tasks, tokenizer_folder, tmp_path, monkeypatch
):
    shutil.copytree(finished, tmp_path / "run")
    seeds, real = [], grid.finetune
    monkeypatch.setattr(grid, "finetune", lambda *given: (seeds.append(given[-1]), real(*given))[1])
    run(tasks, tokenizer_folder, tmp_path / "run", seeds=(0, 1, 7), budgets=(16,))
    assert seeds[0] == 7


def test_budgets_above_the_training_set_are_one(capsys):
    assert grid.distinct_budgets((500, 16, "all", 40, 16), 40, quiet=False) == [16, "all"]
    assert "budget 40, 500" in capsys.readouterr().err
    assert grid.distinct_budgets((16, 8), 40, quiet=False) == [8, 16]
    assert grid.distinct_budgets(("all",), 40, quiet=False) == ["all"]


def test_a_random_start_has_its_own_learning_rate(tasks, tokenizer_folder, tmp_path, monkeypatch):
    rates, real = [], grid.finetune
    monkeypatch.setattr(
        grid, "finetune", lambda *given: (rates.append(given[4].learning_rate), real(*given))[1]
    )
    run(tasks, tokenizer_folder, tmp_path / "a", budgets=(8,), seeds=(0,), random_learning_rate=7e-3)
    assert rates == [7e-3]


def test_a_random_start_has_the_head_of_the_pretrained_one(tokenizer, tokenizer_folder, tmp_path):
    task = toy.task("regress", 12, 6)
    paired = {name: [replace(one, text_pair=one.text) for one in task.splits[name]] for name in task.splits}
    write_task(replace(task, splits=paired), tmp_path / "task")
    start = tmp_path / "start"
    build.save(build.build(toy.model(), tokenizer, "mlm", 0), tokenizer, start)
    heads = set()
    for light in ("full", "lora"):
        given = FinetuneSettings(recipe="stable", light={"method": light})
        for name, begin in (("pretrained", start), ("random", toy.model())):
            made = grid.Job(
                *(tmp_path / "task", begin, tokenizer_folder, given, ("all",), tmp_path / "out"),
                *("task", "m", name),
            )
            heads.add((light, grid._laid_out(made, quiet=True)[0].settings.head))
    assert heads == {("full", "similarity"), ("lora", "classifier")}


def test_a_pretrained_start_and_its_failed_runs(tasks, tokenizer, tokenizer_folder, tmp_path, capsys):
    import torch

    model = build.build(toy.model(), tokenizer, "mlm", 0)
    build.save(model, tokenizer, tmp_path / "good")
    run(tasks, tokenizer_folder, tmp_path / "a", budgets=(8,), seeds=(0,), start=tmp_path / "good")
    result = json.loads((tmp_path / "a/units/pretrained-8-0/result.json").read_bytes())
    assert (result["start"], result["failed"]) == ("pretrained", False)
    with torch.no_grad():
        model.base_model.embeddings.tok_embeddings.weight.fill_(float("nan"))
    build.save(model, tokenizer, tmp_path / "bad")
    run(tasks, tokenizer_folder, tmp_path / "b", budgets=(8,), seeds=(0,), start=tmp_path / "bad")
    unit = tmp_path / "b/units/pretrained-8-0"
    result = json.loads((unit / "result.json").read_bytes())
    assert result["failed"]
    assert "not a number" in result["failure"]
    assert np.isnan(np.load(unit / "test_scores.npy", allow_pickle=False)).all()
    assert result["test"]["macro_f1"] == 0
    assert not (tmp_path / "b/model").exists()


def test_inputs_that_are_cut_are_said_once_and_counted(tasks, tokenizer_folder, tmp_path, capsys):
    grid.run(
        grid.Job(
            tasks / "classify",
            toy.model(),
            tokenizer_folder,
            toy.settings(**QUICK, max_length=8),
            (8, "all"),
            tmp_path,
            task_name="classify",
            model_name="main",
            start_name="random",
        )
    )
    assert capsys.readouterr().err.count("longer than 8 tokens are cut") == 1
    result = json.loads((tmp_path / "units/random-8-0/result.json").read_bytes())
    assert 0 < result["truncated"] <= 8 + 24
    dev = read_task(tasks / "classify").splits["dev"]
    served = list(Predictor.load(tmp_path / "model").predict([example.text for example in dev]))
    assert any("truncated" in found for found in served), "as it was tested, so it is served"
    scores = np.load(tmp_path / "units" / files.read_manifest(tmp_path / "model")["unit"] / "dev_scores.npy")
    assert np.allclose([list(found["probabilities"].values()) for found in served], scores, atol=1e-5)


def test_a_longer_input_than_the_model_takes_is_refused(tasks, tokenizer_folder, tmp_path):
    with pytest.raises(RecipeError, match=r"finetune\.max_length"):
        run(tasks, tokenizer_folder, tmp_path, max_length=65)
    with pytest.raises(ArtefactError):
        run(tasks, tokenizer_folder, tmp_path, start=tmp_path / "nothing")
    assert not list(tmp_path.rglob("*.json"))
