"""``wellread compress`` from end to end on toy models; the methods are fakes that spoil a known share."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
import toy

from wellread import cli, files
from wellread.bench.infer_options import InferOptions
from wellread.compress import gate, job, methods, units
from wellread.compress.job import Job
from wellread.compress.subject import load_model
from wellread.compress.targets import TARGETS, Candidate, Plan
from wellread.errors import UserError
from wellread.models import build
from wellread.serve.predict import Predictor
from wellread.tasks.read import write_task

SPEED = InferOptions(threads=(1,), rounds=1, batches=(1, 2), lengths=(8, 512), quiet=True)


LATENCY = units.latency


def quick(shop, name, advance=None):
    """Timings that nobody has measured; a name that ends in 3 is fast."""
    common = {"name": name, "batch": 1, "length": 8, "seconds": 1e-3, "p95_seconds": 2e-3}
    return [common | {"ratio": 2.0 if name.endswith("3") else 1.0}]


@pytest.fixture
def work(fine_tuned, tmp_path, monkeypatch):
    """A job whose target is lines of fakes: (say, good, bad...) by name; and what has been made."""
    folder, task, _, _ = fine_tuned("classify", "modernbert")
    write_task(task, tmp_path / "task")
    made = []

    def fake(subject, settings, seed, to, omega):
        made.append((settings["name"], seed))
        model = load_model(subject)
        if not settings["good"]:
            with torch.no_grad():
                model.classifier.weight.neg_()
        build.save(model, subject.tokenizer, to)

    monkeypatch.setitem(methods.METHODS, "fake", fake)
    monkeypatch.setattr(units, "latency", quick)
    plans = {}
    monkeypatch.setitem(TARGETS, "fakes", lambda layers, drop: plans["now"])

    def start(lines, nearest=(), **changes):
        plans["now"] = Plan(
            tuple(tuple(map(candidate, line)) for line in lines), tuple(map(candidate, nearest))
        )
        given = Job(
            model=folder,
            run=None,
            task=None,
            data=tmp_path / "task",
            variant=None,
            target="fakes",
            max_drop=0.5,
            seeds=1,
            out=tmp_path / "out",
            speed=SPEED,
        )
        return job.run(replace(given, **changes), quiet=True)

    def candidate(name):
        settings = {"name": name, "good": name.startswith("good")}
        return Candidate(name, "fake", settings, f"a fake, {name}", learns="learns" in name)

    return start, made, tmp_path / "out"


def names(found):
    return [row["name"] for row in found["rows"]]


def test_a_line_goes_on_until_one_passes(work):
    start, made, out = work
    found = start([["bad-1", "bad-2", "good-1", "good-2"], ["good-3"]])
    assert [name for name, _ in made] == ["bad-1", "bad-2", "good-1", "good-3"]
    assert names(found) == ["fp32", "bad-1", "bad-2", "good-1", "good-3"]
    assert found["chosen"] == "good-3"  # the fastest of those that pass
    assert found["test"].keys() == {"fp32", found["chosen"]}
    assert json.loads((out / "compress.json").read_text()) == found
    assert not files.problems(out / "model")
    assert len(list(Predictor.load(out / "model").predict(["aspirin extract"]))) == 1


def test_shapes_are_those_that_the_model_reads_and_timed_once(work, monkeypatch):
    start, _, _ = work
    monkeypatch.setattr(units, "latency", LATENCY)
    found = start([["good"]])
    shapes = [(one["batch"], one["length"]) for one in found["rows"][1]["latency"]]
    assert shapes == [(1, 8), (2, 8)]
    assert start([["good"]])["rows"] == found["rows"]


def test_a_refusal_says_what_was_nearest(work):
    start, _, out = work
    start([["good"]])
    with pytest.raises(UserError, match="no form passes the gate; the nearest of 2 tried, bad-1") as error:
        start([["bad-1"], ["bad-2"]], ["bad-3", "good-4", "good-5"])
    assert "the nearest that passes is good-4" in error.value.fix
    assert "--max-drop" in error.value.fix
    assert not (out / "model").exists()
    found = files.read_json(out / "compress.json")
    assert (found["chosen"], found["nearest"], found["test"]) == (None, "good-4", {})
    assert "good-5" not in names(found)


def test_a_wider_gate_uses_what_is_there(work):
    start, made, _ = work
    with pytest.raises(UserError):
        start([["bad"]])
    assert start([["bad"]], max_drop=100.0)["chosen"] == "bad"
    assert len(made) == 1


def test_an_interrupted_run_goes_on(work, monkeypatch):
    start, made, out = work
    real = methods.METHODS["fake"]

    def dies(subject, settings, seed, to, omega):
        if settings["name"] == "good-2":
            to.mkdir(parents=True)
            raise KeyboardInterrupt
        real(subject, settings, seed, to, omega)

    monkeypatch.setitem(methods.METHODS, "fake", dies)
    with pytest.raises(KeyboardInterrupt):
        start([["good-1"], ["good-2"]])
    assert sorted(path.name for path in (out / "units").iterdir()) == ["good-1"]
    monkeypatch.setitem(methods.METHODS, "fake", real)
    start([["good-1"], ["good-2"]])
    assert [name for name, _ in made] == ["good-1", "good-2"]


def test_a_damaged_unit_is_made_anew(work):
    start, made, out = work
    start([["good"]])
    with open(out / "units/good/model/model.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"!")
    start([["good"]])
    assert len(made) == 2


def test_all_seeds_of_what_learns(work):
    start, made, _ = work
    found = start([["good-learns"], ["good"]], seeds=3)
    assert made == [("good-learns", 0), ("good-learns", 1), ("good-learns", 2), ("good", 0)]
    assert [run["seed"] for run in found["rows"][1]["runs"]] == [0, 1, 2]
    assert found["rows"][1]["seed"] == 0  # between equals the first


def test_a_seed_that_fails_leaves_the_others(work, monkeypatch):
    start, _, out = work
    real = methods.METHODS["fake"]

    def diverges(subject, settings, seed, to, omega):
        real(subject, settings, seed, to, omega)
        if seed == 0:
            raise UserError("the loss is not finite")

    monkeypatch.setitem(methods.METHODS, "fake", diverges)
    row = start([["good-learns"]], seeds=2)["rows"][1]
    assert row["runs"][0] == {"seed": 0, "score": None, "failure": "the loss is not finite"}
    assert row["seed"] == 1 and row["runs"][1]["score"] == row["score"]
    assert sorted(one.name for one in (out / "units/good-learns").iterdir() if one.is_dir()) == ["model"]
    assert f"failed, {row['score']:.2f}" in (out / "compress.html").read_text()


def test_test_is_read_once_at_the_end(work, monkeypatch):
    start, _, _ = work
    asked, real = [], gate.answers
    monkeypatch.setattr(
        gate, "answers", lambda model, task, split: asked.append(split) or real(model, task, split)
    )
    start([["bad", "good"]])
    assert asked == ["dev", "dev", "dev", "test", "test"]


def test_what_cannot_be_made_is_left_out(work, monkeypatch):
    start, _, _ = work
    real = methods.METHODS["fake"]

    def refuses(subject, settings, seed, to, omega):
        if settings["name"] == "good-1":
            raise UserError("the moon is full")
        real(subject, settings, seed, to, omega)

    monkeypatch.setitem(methods.METHODS, "fake", refuses)
    found = start([["good-1", "good-2"]])
    assert found["left_out"] == [{"name": "good-1", "why": "the moon is full"}]
    assert found["chosen"] == "good-2"
    with pytest.raises(UserError, match="the moon is full"):
        start([["good-1"]])


def test_the_page_shows_every_row(work):
    start, _, out = work
    found = start([["bad", "good"]])
    page = (out / "compress.html").read_text()
    for row in found["rows"]:
        assert f'<th scope="row">{row["name"]}</th>' in page
        assert f"{row['bytes'] / 1e6:.2f}" in page
    assert page.count("<svg") >= 2
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "good" in (out / "README.md").read_text()


def test_another_folder_is_not_touched(work):
    start, _, out = work
    out.mkdir()
    (out / "thesis.doc").write_text("")
    with pytest.raises(UserError, match="something else"):
        start([["good"]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "3bit"), "there is no target '3bit'"),
        ((), "no data"),
        (("--data", "TASK", "--threads", "4096"), "cores"),
        (("--data", "OTHER"), "labels are not those"),
    ],
)
def test_errors_of_the_command_line(fine_tuned, tmp_path, capsys, arguments, message):
    folder, task, _, _ = fine_tuned("classify", "modernbert")
    write_task(task, tmp_path / "TASK")
    write_task(toy.task("tag"), tmp_path / "OTHER")
    places = {name: str(tmp_path / name) for name in ("TASK", "OTHER")}
    given = [places.get(argument, argument) for argument in arguments]
    before, sys.argv = sys.argv, ["wellread", "compress", str(folder), *given]
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        sys.argv = before
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_size_is_that_of_weights_and_graphs(tmp_path):
    for name, size in (("model.safetensors", 5), ("onnx/model.onnx", 7), ("openvino/model.bin", 11)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-" * size)
    (tmp_path / "tokenizer.json").write_bytes(b"-" * 100)
    assert units.weight_bytes(tmp_path) == 23
