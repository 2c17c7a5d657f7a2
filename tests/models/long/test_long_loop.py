"""Extended checkpoints are fine-tuned and used like any other, and bad settings are refused."""

import json
import random
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
from wellread.tasks.task import Example, Task

SHORT, LONG = 8, 32
# Texts have 19 to 22 tokens: several windows, and more than the 14 up to which blocks see everything.
WAYS = {
    "window": Extension(LONG, "window", window=8),
    "bigbird": Extension(LONG, "bigbird", block=2, random=1),
}


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    base = tmp_path_factory.mktemp("starts")
    tokenizer = toy.make_tokenizer(base / "tokenizer")
    short = build.build(toy.model("bert", max_length=SHORT), tokenizer, "mlm", 1)
    build.save(short, tokenizer, base / "short")
    for name, wanted in WAYS.items():
        extend(base / "short", base / name, wanted)
    return base


def beyond(train, other):
    """Drug or gene, told by the names in a text, which stand behind more words than the short model sees."""

    def example(name, label):
        draw = random.Random(name)
        names = toy.DRUGS if label == "drug" else toy.GENES
        words = ["study"] * SHORT
        for _ in range(3):
            words += [*draw.choices(toy.FILLER, k=draw.randint(2, 3)), draw.choice(names)]
        return Example(name, " ".join(words), label)

    splits = {
        split: [example(f"{split}-{number}", ("drug", "gene")[number % 2]) for number in range(size)]
        for split, size in (("train", train), ("dev", other), ("test", other))
    }
    return Task("beyond", "classify", ("drug", "gene"), "accuracy", splits)


def tune(folder, start, task, **changes):
    write_task(task, folder / "task")
    names = {"task_name": "toy", "model_name": "long", "start_name": "pretrained"}
    settings = toy.settings(seeds=(0,), dropout=0.0, **changes)
    grid.run(grid.Job(folder / "task", start, start, settings, ("all",), folder / "run", **names), quiet=True)
    return json.loads((folder / "run" / "units" / "pretrained-all-0" / "result.json").read_text())


STEPS = {"epochs": 1, "max_steps": 40, "min_steps": 40, "batch": 12, "evaluations": 1}


@pytest.fixture(scope="module")
def cut(starts, tmp_path_factory):
    """What the short model makes of the task, of which it sees nothing."""
    return tune(tmp_path_factory.mktemp("cut"), starts / "short", beyond(60, 30), **STEPS)


@pytest.mark.parametrize("name", WAYS)
def test_evidence_beyond_the_short_models_reach_is_learnt(starts, cut, name, tmp_path):
    task = beyond(60, 30)
    found = tune(tmp_path, starts / name, task, **STEPS)
    assert not found["failed"]
    assert (cut["truncated"], found["truncated"]) == (120, 0)
    assert found["test"]["accuracy"] > cut["test"]["accuracy"] + 0.3
    predictor = Predictor.load(tmp_path / "run" / "model")
    assert predictor.max_length == LONG
    examples = task.splits["test"]
    said = [row["label"] for row in predictor.predict([example.text for example in examples])]
    right = sum(label == example.label for label, example in zip(said, examples, strict=True))
    assert right / len(examples) == pytest.approx(found["test"]["accuracy"])


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("kind", ["tag", "regress"])
def test_tags_and_pairs(starts, name, kind, tmp_path):
    few = {"epochs": 1, "max_steps": 2, "min_steps": 2, "evaluations": 1}
    found = tune(tmp_path, starts / name, toy.task(kind, 12, 6), **few)
    assert not found["failed"]
    given = [["aspirin", "extract"] * 60] if kind == "tag" else [("patients with effect " * 50, "dose")]
    assert len(list(Predictor.load(tmp_path / "run" / "model").predict(given))) == 1


def test_longer_inputs_and_other_attentions_are_refused(starts):
    with pytest.raises(RecipeError, match=f"at most {LONG} tokens") as error:
        grid.longest(starts / "window", FinetuneSettings(max_length=LONG + 1))
    assert error.value.where == "finetune.max_length"
    assert grid.longest(starts / "window", FinetuneSettings()) == LONG
    settings = FinetuneSettings(light={"method": "prefix"})
    with pytest.raises(RecipeError) as error:
        data.check_head(settings, toy.task("classify", 4, 4), "longformer", ("all",))
    assert error.value.where == "finetune.light.method"


def test_the_command(starts, tmp_path: Path):
    options = ["--length", "32", "--attention", "window", "--window", "16", "--json"]
    done = CliRunner().invoke(app, ["extend", str(starts / "short"), "--to", str(tmp_path / "to"), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["class"] == "LongformerForMaskedLM"
    for more, where in ((["--window", "200"], "--window"), (["--attention", "round"], "--attention")):
        command = ["extend", str(starts / "short"), "--to", str(tmp_path / "no"), "--length", "32", *more]
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, UserError)
        assert done.exception.where == where
