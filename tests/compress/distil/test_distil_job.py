"""The whole of ``wellread distil``, interrupted and not, and the commands."""

import json
from dataclasses import replace

import pytest
import toy
from typer.testing import CliRunner

from wellread import files
from wellread.cli import app
from wellread.compress.distil import job as running
from wellread.compress.distil import student
from wellread.compress.distil.settings import DistilSettings
from wellread.errors import UserError
from wellread.models import build
from wellread.serve.predict import Predictor
from wellread.tasks.read import write_task
from wellread.tokens import tokenizer as tokenizers

TRAINING = toy.settings(seeds=(0, 1), min_steps=4, max_steps=4, evaluations=1)


@pytest.fixture(scope="module")
def given(fine_tuned, tmp_path_factory):
    """Teacher, student, task folder and a file of text."""
    teacher, task, _, _ = fine_tuned("classify", "bert")
    folder = tmp_path_factory.mktemp("given")
    tokenizer = tokenizers.load(teacher)
    build.save(build.build(toy.model("bert", layers=1), tokenizer, "mlm", 0), tokenizer, folder / "student")
    write_task(task, folder / "task")
    more = [f"{one.text} also" for one in toy.task("classify", train=60, other=1).splits["train"]]
    (folder / "text.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(more))
    )
    return teacher, folder / "student", folder / "task", folder / "text.jsonl"


def job(given, out, **changes):
    teacher, begin, task, text = given
    settings = DistilSettings(transfer=40, **changes)
    return running.prepare(
        teacher, begin, str(task), [str(text)], out, settings=settings, training=TRAINING, threads=1
    )


def test_a_killed_job_goes_on_where_it_was(given, tmp_path, monkeypatch):
    whole = running.run(job(given, tmp_path / "a"), quiet=True)
    plain, calls = student.distil, []

    def killed(*arguments):
        calls.append(arguments[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(student, "distil", killed)
    with pytest.raises(KeyboardInterrupt):
        running.run(job(given, tmp_path / "b"), quiet=True)
    found = running.run(job(given, tmp_path / "b"), quiet=True)
    assert calls == [0, 1, 1]
    assert {**found, "model": ""} == {**whole, "model": ""}
    assert files.identity(tmp_path / "a" / "model") == files.identity(tmp_path / "b" / "model")
    running.run(job(given, tmp_path / "b"), quiet=True)
    assert calls == [0, 1, 1]
    running.run(job(given, tmp_path / "b", temperature=2.0), quiet=True)
    assert calls == [0, 1, 1, 0, 1]


def test_the_result_is_a_stock_model_and_what_it_took(given, tmp_path):
    from transformers import AutoModelForSequenceClassification

    found = running.run(job(given, tmp_path / "a"), quiet=True)
    assert found == files.read_json(tmp_path / "a" / "result.json")
    assert found["transfer"]["unlabelled"] == 40
    assert found["transfer"]["own"] == 120
    best = max(found["runs"], key=lambda one: one["dev"][found["metric"]])
    assert found["best"]["seed"] == best["seed"]
    assert found["student"]["parameters"] < found["teacher"]["parameters"]
    AutoModelForSequenceClassification.from_pretrained(found["model"])
    assert next(Predictor.load(found["model"]).predict(["treated with aspirin extract"]))["label"]


def test_a_student_that_failed_counts(given, tmp_path, monkeypatch):
    plain = student.distil

    def broken(lesson, start, tokenizer, settings, training, seed, **more):
        found = plain(lesson, start, tokenizer, settings, training, seed, **more)
        if seed == 1:
            nothing = dict.fromkeys(found.dev, 0.0), dict.fromkeys(found.test, 0.0)
            found = replace(
                found, failed=True, failure="made so", dev=nothing[0], test=nothing[1], model=None
            )
        return found

    monkeypatch.setattr(student, "distil", broken)
    found = running.run(job(given, tmp_path / "a"), quiet=True)
    kept = found["best"]["test"]
    assert found["mean"]["test"] == pytest.approx(kept / 2)
    assert found["std"]["test"] == pytest.approx(kept / 2**0.5)
    assert "mean of 2 (1 failed)" in running.to_text(found)


def test_the_command(given, tmp_path):
    teacher, begin, task, text = map(str, given)
    asked = ["distil", teacher, "--student", begin, "--task", task, "--text", text, "--size", "40"]
    asked += [
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "1",
        "--set",
        "max_steps=2",
        "--threads",
        "1",
        "--quiet",
    ]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "teacher" in done.stdout
    assert "wellread predict" in done.stderr
    model = str(tmp_path / "out" / "model")
    done = CliRunner().invoke(app, ["committee", model, teacher, "--out", str(tmp_path / "two")])
    assert done.exit_code == 0, done.output
    lines = tmp_path / "lines.txt"
    lines.write_text("treated with aspirin extract\n")
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "two"), "--input", str(lines)])
    assert set(json.loads(done.stdout)["probabilities"]) == {"drug", "gene", "none"}


def test_what_cannot_be_done_is_said_before_anything_runs(given, tmp_path):
    teacher, begin, task, text = given
    with pytest.raises(UserError, match="something else"):
        job(given, text.parent)
    with pytest.raises(UserError, match="no such task"):
        job((teacher, begin, tmp_path / "none", text), tmp_path / "out")
    with pytest.raises(UserError, match="no such model"):
        job((teacher, tmp_path / "none", task, text), tmp_path / "out")
    assert not (tmp_path / "out").exists()
