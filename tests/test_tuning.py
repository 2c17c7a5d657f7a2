"""Fine-tuning on a user's own labelled file."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wellread import api, tuning
from wellread.cli import app
from wellread.errors import DataError, RecipeError
from wellread.models import build
from wellread.settings import ModelSettings, TokenizerSettings
from wellread.tokens import tokenizer

WORDS = ["dose", "cell", "gene", "study", "patient", "binds", "shown", "was", "the", "of"]
QUICK = ("min_steps=4", "epochs=1", "evaluations=1")


def write(path, count=80, sign=("risk", "safe")):
    draw = random.Random(0)
    rows = []
    for number in range(count):
        label = draw.randrange(2)
        rows.append(
            {"text": " ".join([*draw.choices(WORDS, k=6), f"n{number}", sign[label]]), "label": sign[label]}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    texts = [" ".join([*WORDS, "risk", "safe"])] * 20
    settings = TokenizerSettings(vocab_size=300)
    tokenizer.train(texts, settings, folder, causal=False, max_length=32, quiet=True)
    loaded = tokenizer.load(folder)
    shape = ModelSettings(layers=1, hidden=16, heads=1, max_length=32)
    build.save(build.build(shape, loaded, "mlm", 0), loaded, folder)
    return folder


def test_a_file_becomes_a_task_a_learning_curve_and_a_model_that_predicts(model, tmp_path):
    data = write(tmp_path / "My notes.jsonl")
    job = tuning.prepare(model, data, seeds=2, changes=QUICK, out=tmp_path / "run", threads=1)
    found = tuning.run(job, quiet=True)
    assert (found["task"], found["kind"], found["metric"]) == ("my-notes", "classify", "macro_f1")
    train = found["counts"]["train"]
    assert sum(found["counts"].values()) == 80
    assert {row["labels"] for row in found["rows"]} == {train // 4, train // 2, train}
    assert {row["model"] for row in found["rows"]} == {"tiny", "majority", "tfidf"}
    assert all(row["interval"][0] <= row["mean"] <= row["interval"][1] for row in found["rows"])
    assert found["advice"] in tuning.to_text(found)
    from wellread.serve.predict import Predictor

    answer = next(iter(Predictor.load(found["model"]).predict(["the gene binds risk"])))
    assert answer["label"] in ("risk", "safe")
    assert api.open_run(tmp_path / "run").verify() == []


@pytest.mark.parametrize(("asked", "used"), [((), "similarity"), (("head=classifier",), None)])
def test_scored_pairs_are_matched_unless_another_head_is_asked_for(asked, used, model, tmp_path):
    draw = random.Random(0)
    rows = [
        {
            "text": " ".join(draw.choices(WORDS, k=6)),
            "text_pair": " ".join(draw.choices(WORDS, k=6)),
            "score": n,
        }
        for n in range(60)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = tuning.prepare(model, data, seeds=1, changes=(*QUICK, *asked), out=tmp_path / "run", threads=1)
    found = tuning.run(job, quiet=True)
    notes = Path(found["model"]) / "answers.json"
    assert (json.loads(notes.read_text())["head"] if notes.exists() else None) == used


def test_the_same_command_continues_and_other_data_start_anew(model, tmp_path, monkeypatch):
    data = write(tmp_path / "notes.jsonl", 60)
    options = {"seeds": 1, "changes": QUICK, "out": tmp_path / "run", "threads": 1}
    first = tuning.run(tuning.prepare(model, data, **options), quiet=True)
    from wellread.finetune import grid

    monkeypatch.setattr(grid, "finetune", None)
    assert tuning.run(tuning.prepare(model, data, **options), quiet=True) == first
    write(data, 64)
    with pytest.raises(TypeError):  # it would have to fine-tune
        tuning.run(tuning.prepare(model, data, **options), quiet=True)


def test_train_files_of_two_folders_do_not_share_a_run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        places.append(tuning.prepare(model, write(tmp_path / folder / "train.jsonl")).out.as_posix())
    assert places == ["runs/one-tiny", "runs/two-tiny"]
    assert tuning.prepare(model, tmp_path / "one").out.as_posix() == "runs/one-tiny"


def test_errors_in_the_data_are_told_before_anything_runs(model, tmp_path, capsys):
    data = tmp_path / "notes.jsonl"
    data.write_text('{"text": "one", "label": "a"}\n{"text": "two"}\n{"label": "a"}\n')
    with pytest.raises(DataError, match="3 errors"):
        tuning.prepare(model, data, out=tmp_path / "run")
    said = capsys.readouterr().err
    assert "notes.jsonl:2" in said and "notes.jsonl:3" in said
    with pytest.raises(DataError, match="no such file"):
        tuning.prepare(model, tmp_path / "nothing.jsonl")
    (tmp_path / "notes.docx").write_bytes(b"PK")
    with pytest.raises(DataError, match="labelled file ends in"):
        tuning.prepare(model, tmp_path / "notes.docx")
    with pytest.raises(RecipeError, match="learning_rat"):
        tuning.prepare(model, write(tmp_path / "good.jsonl"), changes=("learning_rat=1",))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("half", "whole", "said"),
    [
        (
            [0.60, 0.61],
            [0.70, 0.71],
            "More labels would help: from 50 to 100 labels the score on dev rose by 10.0",
        ),
        ([0.70, 0.701], [0.70, 0.702], "would help little"),
        ([0.75, 0.751], [0.70, 0.702], "fell by 4.9"),
        ([0.50, 0.70], [0.55, 0.75], "cannot be told"),
        ([0.50], [0.55], "Too few"),
    ],
)
def test_advice_holds_the_gain_against_the_noise(half, whole, said):
    assert said in tuning.advice({25: [0.1, 0.2], 50: half, 100: whole})


def test_the_command_line_wants_a_recipe_or_a_model_with_data(tmp_path):
    for given in ([], ["--model", str(tmp_path)], ["recipe.toml", "--data", str(tmp_path)]):
        result = CliRunner().invoke(app, ["finetune", *given])
        assert result.exit_code and "RECIPE, or --model FOLDER" in str(result.exception)
