"""Extended checkpoints are fine-tuned and used like any other, and bad settings are refused."""

import dataclasses
import json
from pathlib import Path

import pytest
import toy
from typer.testing import CliRunner

from wellread.cli import app
from wellread.errors import RecipeError, UserError
from wellread.finetune import data, grid
from wellread.models import build
from wellread.models.long.extend import Extension, extend
from wellread.serve.predict import Predictor
from wellread.settings import FinetuneSettings
from wellread.tasks.read import write_task

WAYS = {
    "window": Extension(160, "window", window=16),
    "bigbird": Extension(160, "bigbird", block=8, random=1),
}


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    base = tmp_path_factory.mktemp("starts")
    tokenizer = toy.make_tokenizer(base / "tokenizer")
    build.save(build.build(toy.model("bert"), tokenizer, "mlm", 1), tokenizer, base / "short")
    for name, wanted in WAYS.items():
        extend(base / "short", base / name, wanted)
    return base


def beyond(task, words=70):
    """The task's texts behind so many words that the short model never sees them."""
    filler = " ".join(["study"] * words)
    splits = {
        split: [dataclasses.replace(example, text=f"{filler} {example.text}") for example in examples]
        for split, examples in task.splits.items()
    }
    return dataclasses.replace(task, splits=splits)


def tune(folder, start, task, **changes):
    write_task(task, folder / "task")
    names = {"task_name": "toy", "model_name": "long", "start_name": "pretrained"}
    settings = toy.settings(seeds=(0,), dropout=0.0, **changes)
    grid.run(folder / "task", start, start, settings, ("all",), folder / "run", **names, quiet=True)
    return json.loads((folder / "run" / "units" / "pretrained-all-0" / "result.json").read_text())


@pytest.mark.parametrize("name", WAYS)
def test_evidence_beyond_the_short_models_reach_is_learnt(starts, name, tmp_path):
    task = beyond(toy.task("classify", 90, 30))
    changes = {"max_steps": 90, "min_steps": 90, "batch": 12}
    found = tune(tmp_path, starts / name, task, **changes)
    assert not found["failed"]
    assert found["truncated"] == 0
    cut = tune(tmp_path / "cut", starts / "short", task, **changes)
    assert cut["truncated"] == 150
    assert found["test"]["accuracy"] > cut["test"]["accuracy"] + 0.15
    predictor = Predictor.load(tmp_path / "run" / "model")
    assert predictor.max_length == 160
    examples = task.splits["test"]
    said = [row["label"] for row in predictor.predict([example.text for example in examples])]
    right = sum(label == example.label for label, example in zip(said, examples, strict=True))
    assert right / len(examples) == pytest.approx(found["test"]["accuracy"])


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("kind", ["tag", "regress"])
def test_tags_and_pairs(starts, name, kind, tmp_path):
    found = tune(tmp_path, starts / name, toy.task(kind, 20, 8), max_steps=3, min_steps=3)
    assert not found["failed"]
    given = [["aspirin", "extract"] * 60] if kind == "tag" else [("patients with effect " * 50, "dose")]
    assert len(list(Predictor.load(tmp_path / "run" / "model").predict(given))) == 1


def test_longer_inputs_and_other_attentions_are_refused(starts):
    with pytest.raises(RecipeError, match="at most 160 tokens") as error:
        grid.longest(starts / "window", FinetuneSettings(max_length=161))
    assert error.value.where == "finetune.max_length"
    assert grid.longest(starts / "window", FinetuneSettings()) == 160
    settings = FinetuneSettings(light={"method": "prefix"})
    with pytest.raises(RecipeError) as error:
        data.check_head(settings, toy.task("classify", 4, 4), "longformer", ("all",))
    assert error.value.where == "finetune.light.method"


def test_the_command(starts, tmp_path: Path):
    options = ["--length", "160", "--attention", "window", "--window", "16", "--json"]
    done = CliRunner().invoke(app, ["extend", str(starts / "short"), "--to", str(tmp_path / "to"), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["class"] == "LongformerForMaskedLM"
    for more, where in ((["--window", "200"], "--window"), (["--attention", "round"], "--attention")):
        command = ["extend", str(starts / "short"), "--to", str(tmp_path / "no"), "--length", "160", *more]
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, UserError)
        assert done.exception.where == where
