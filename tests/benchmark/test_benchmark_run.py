"""A benchmark from end to end on small files: resumable, exact, and plain about what is not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from wellread import files
from wellread.benchmark import job as planning
from wellread.benchmark import run as running
from wellread.benchmark.job import Options
from wellread.errors import RecipeError, UserError
from wellread.evaluate.rivals import NAMES
from wellread.stages import stage_folder
from wellread.tasks import pubmedqa

QUICK = ("max_steps=4", "min_steps=1", "batch=8", "evaluations=1")


def job(data: Path, checkpoint: Path, out: Path, **changes):
    settings = () if str(checkpoint) in NAMES else QUICK
    return planning.prepare(
        "blurb", Options(checkpoint, data, seeds=2, out=out, changes=settings, threads=1, **changes)
    )


@pytest.fixture(scope="module")
def finished(data, checkpoint, tmp_path_factory):
    made = job(data, checkpoint, tmp_path_factory.mktemp("runs") / "run")
    return made, running.run(made, quiet=True)


def test_tasks_that_are_there_are_run_and_the_others_named(finished) -> None:
    made, states = finished
    by_task = {state.task: state for state in states}
    assert set(by_task) == set(made.suite.tasks)
    assert sorted(by_task["biosses"].values) == sorted(by_task["gad"].values) == [0, 1]
    assert by_task["biosses"].partial == "" and "the benchmark 4,261" in by_task["gad"].partial
    assert "no folder ddi or blurb_ddi" in by_task["ddi"].missing and not by_task["ddi"].values
    assert by_task["ddi"].metric == "micro_f1_positive" and by_task["jnlpba"].metric == "entity_f1"
    assert made.name == "tiny_bert"


def test_records_are_those_of_the_units(finished) -> None:
    made, states = finished
    records = files.read_json(made.out / "metrics.json")
    for record in records:
        assert set(record) >= {"task", "split", "model", "start", "labels", "seed", "metric", "value"}
    main = {
        (record["task"], record["seed"]): record["value"]
        for record in records
        if record["split"] == "test" and record["metric"] in ("pearson", "micro_f1_positive")
    }
    assert main == {(state.task, seed): value for state in states for seed, value in state.values.items()}
    assert {record["start"] for record in records} == {"pretrained"}
    told = files.read_json(made.out / "benchmark.json")
    assert told["score"] == {"value": told["groups"]["similarity"], "complete": False, "tasks": 1, "of": 13}


def test_a_second_call_runs_nothing(finished, monkeypatch) -> None:
    made, states = finished
    from wellread.finetune import grid

    def refused(*_, **__):
        raise AssertionError("run again")

    monkeypatch.setattr(grid, "run", refused)
    assert running.run(made, quiet=True) == states


def test_more_seeds_keep_the_runs_that_are_done(data, checkpoint, tmp_path, monkeypatch) -> None:
    out = tmp_path / "run"
    running.run(job(data, checkpoint, out, tasks="gad"), quiet=True)
    from wellread.finetune import grid

    done: list[int] = []
    really = grid._run_unit
    monkeypatch.setattr(grid, "_run_unit", lambda *call: (done.append(call[2]), really(*call))[1])
    options = Options(checkpoint, data, "gad", 3, out, changes=QUICK, threads=1)
    (gad,) = running.run(planning.prepare("blurb", options), quiet=True)
    assert done == [2] and sorted(gad.values) == [0, 1, 2]
    other = replace(options, changes=(*QUICK, "learning_rate=1e-4"))
    done.clear()
    running.run(planning.prepare("blurb", other), quiet=True)
    assert sorted(done) == [0, 1, 2], "other settings are other runs"


def test_interrupted_between_units_it_goes_on(data, checkpoint, finished, tmp_path, monkeypatch) -> None:
    from wellread.finetune import grid

    made = job(data, checkpoint, tmp_path / "run", tasks="gad")
    really, calls = grid._run_unit, []

    def killed(*call):
        if calls:
            raise KeyboardInterrupt
        calls.append(call)
        really(*call)

    monkeypatch.setattr(grid, "_run_unit", killed)
    with pytest.raises(KeyboardInterrupt):
        running.run(made, quiet=True)
    stages_of = running._finetune(made, made.parts[0], quiet=True)
    prints = {stages_of.name: running.stages.fingerprints([stages_of], made.out)[stages_of.name]}
    assert len(running.states(made, prints)[0].values) == 1, "what is done shows before the stage is"
    monkeypatch.setattr(grid, "_run_unit", lambda *call: (calls.append(call), really(*call))[1])
    (gad,) = running.run(made, quiet=True)
    assert len(calls) == 2, "one run before, one after"
    assert gad.values == next(state for state in finished[1] if state.task == "gad").values


def test_each_seed_takes_a_fold(tmp_path, checkpoint) -> None:
    names = ["yes"] * 230 + ["no"] * 114 + ["maybe"] * 36
    labels = {f"{number}": names[number * 77 % 380] for number in range(380)}
    folder = tmp_path / "data" / "PubMedQA"
    folder.mkdir(parents=True)
    questions = {
        pmid: {"QUESTION": "no risk?", "CONTEXTS": ["the gene causes " + label], "final_decision": label}
        for pmid, label in labels.items()
    }
    (folder / "ori_pqal.json").write_text(json.dumps(questions))
    test = {pmid: labels[pmid] for pmid in pubmedqa.split(labels)[1]}
    (folder / "test_ground_truth.json").write_text(json.dumps(test))
    made = job(tmp_path / "data", checkpoint, tmp_path / "run", tasks="pubmedqa")
    assert [(part.name, part.seeds) for part in made.parts] == [
        ("pubmedqa-fold0", (0,)),
        ("pubmedqa-fold1", (1,)),
    ]
    (state,) = running.run(made, quiet=True)
    assert sorted(state.values) == [0, 1] and state.seeds == (0, 1)
    records = files.read_json(made.out / "metrics.json")
    assert {(record["task"], record["seed"]) for record in records} == {("pubmedqa", 0), ("pubmedqa", 1)}
    dev = [
        {
            json.loads(line)["id"]
            for line in (stage_folder(made.out, f"tasks/{part.name}") / "dev.jsonl").open()
        }
        for part in made.parts
    ]
    assert not dev[0] & dev[1]
    other = Options(checkpoint, tmp_path / "data", seeds=2, first_seed=9, out=tmp_path / "x")
    assert [(part.fold, part.seeds) for part in planning.prepare("blurb", other).parts] == [
        (0, (10,)),
        (9, (9,)),
    ]
    many = planning.prepare("blurb", Options(checkpoint, tmp_path / "data", seeds=12, out=tmp_path / "x"))
    assert [part.seeds for part in many.parts][:3] == [(0, 10), (1, 11), (2,)] and len(many.parts) == 10


def test_failed_runs_are_counted_as_evaluation_counts_them(finished) -> None:
    made, states = finished
    summary = files.read_json(stage_folder(made.out, "evaluate") / "summary.json")["tasks"]
    for state in states:
        if state.values:
            assert state.failed == summary[state.task]["groups"][0]["failed"]


def test_errors(data, checkpoint, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match="no task 'godd'"):
        job(data, checkpoint, tmp_path, tasks="godd")
    with pytest.raises(UserError, match="none of the tasks of blurb is here"):
        job(tmp_path, checkpoint, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        job(tmp_path / "nowhere", checkpoint, tmp_path)
    monkeypatch.delenv("WELLREAD_DATA", raising=False)
    with pytest.raises(UserError, match="no data folder"):
        planning.prepare("blurb", Options(checkpoint))
    with pytest.raises(UserError, match="no such model folder"):
        planning.prepare("blurb", Options(tmp_path / "no", data))
    for change in ("learning_rat=1", "epochs", "epochs=many"):
        with pytest.raises(RecipeError, match="--set"):
            planning.settings_for(checkpoint, (change,), (0,))


def test_a_cheap_rival_in_the_place_of_a_model(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "cache"))
    made = job(data, Path("tfidf"), tmp_path / "run")
    assert (made.rival, made.name, made.model) == ("tfidf", "tfidf", None)
    by_task = {state.task: state for state in running.run(made, quiet=True)}
    assert set(by_task["biosses"].values) == set(by_task["gad"].values) == {0, 1}
    records = files.read_json(made.out / "metrics.json")
    assert {(record["model"], record["start"]) for record in records} == {("tfidf", "rival")}
    with pytest.raises(UserError, match="your own text"):
        job(data, Path("static"), tmp_path / "other")
    with pytest.raises(UserError, match="minilm"):
        job(data, Path("minilm-frozen"), tmp_path / "other")
    with pytest.raises(UserError, match="no settings of fine-tuning"):
        planning.prepare("blurb", Options(Path("tfidf"), data, changes=("epochs=3",)))


def test_large_models_get_the_rates_of_large_models(checkpoint, tmp_path) -> None:
    small = planning.settings_for(checkpoint, ("batch=16",), (0, 1, 2))
    assert small.learning_rate == 3e-4 and small.batch == 16 and small.seeds == (0, 1, 2)
    config = files.read_json(checkpoint / "config.json")
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 768}))
    assert planning.settings_for(tmp_path, (), (0,)).learning_rate == 3e-5
    assert planning.settings_for(tmp_path, ("learning_rate=1e-5",), (0,)).learning_rate == 1e-5
    named = planning.settings_for(tmp_path, ("recipe=standard",), (0,))
    assert not named.model_fields_set & set(planning.LARGE_SETTINGS)  # the recipe picks them


def test_plain_lines_say_what_is_new(finished, capsys) -> None:
    from wellread.benchmark.live import watching

    made, states = finished
    begun = [replace(state, values={0: state.values[0]}) if state.values else state for state in states]
    shown = iter([begun])
    with watching(made.suite, made.name, lambda: next(shown, states)):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert "ddi: missing: no folder ddi or blurb_ddi with its files" in lines
    assert any(line.startswith("gad: partial: train has 24 examples") for line in lines)
    assert "2 runs are done already" in lines
    assert sorted(line.split()[:3] for line in lines[-2:]) == [["biosses", "seed", "1"], ["gad", "seed", "1"]]
    assert lines[-1].endswith("(2/2)")


def test_the_command_prints_data_on_stdout_and_talk_on_stderr(finished, data, checkpoint) -> None:
    from typer.testing import CliRunner

    from wellread.cli import app

    made, states = finished
    ask = ["benchmark", "blurb", "--model", str(checkpoint), "--data", str(data), "--seeds", "2"]
    ask += ["--out", str(made.out), "--threads", "1", *(part for one in QUICK for part in ("--set", one))]
    shown = CliRunner().invoke(app, [*ask, "--json"], catch_exceptions=False)
    told = json.loads(shown.stdout)
    assert told == running.results(made, states) and "missing" in shown.stderr
    table = CliRunner().invoke(app, ask, catch_exceptions=False)
    assert table.stdout.splitlines()[0].split()[:5] == ["group", "task", "metric", "tiny_bert", "seeds"]
    assert "partial (1 of 13 tasks)" in table.stdout and "metrics.json" in table.stderr


def test_another_model_does_not_run_over_the_first(finished, data, tmp_path) -> None:
    made, _ = finished
    folder = tmp_path / "other"
    shutil.copytree(made.model, folder)
    (folder / "notes.txt").write_text("another")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "changed": True}))
    with pytest.raises(UserError, match="another model"):
        running.run(job(data, folder, made.out), quiet=True)


def test_scores_are_those_of_the_seeds_that_are_asked_for(data, checkpoint, tmp_path) -> None:
    out = tmp_path / "run"
    running.run(job(data, checkpoint, out, tasks="gad"), quiet=True)
    few = planning.prepare(
        "blurb", Options(checkpoint, data, seeds=1, out=out, changes=QUICK, threads=1, tasks="gad")
    )
    running.run(few, quiet=True)
    assert {record["seed"] for record in files.read_json(out / "metrics.json")} == {0}
