"""Heads that answer in words through grid, summary, export and predict."""

import json

import numpy as np
import pytest
import torch
import toy
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from wellread import files
from wellread.errors import ArtefactError, RecipeError
from wellread.evaluate.summary import summarise
from wellread.finetune import data, grid
from wellread.serve.export import export
from wellread.serve.lines import predict_file
from wellread.serve.predict import Predictor
from wellread.tasks.read import read_task, write_task
from wellread.tasks.task import Example, Task

WORDS = {"drug": "dose", "gene": "cell", "none": "the"}
STARTS = {"mlm": "modernbert", "lm": "llama"}


def quick(head, **changes):
    plain = {"seeds": (0,), "max_steps": 6, "min_steps": 6, "evaluations": 2}
    return toy.settings(head=head, answer={"words": WORDS}, **{**plain, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    write_task(toy.task("classify", 30, 20), folder / "task")
    for head, layout in STARTS.items():
        toy.make_tokenizer(
            folder / f"{head}-pieces", causal=head == "lm", kind="bpe" if head == "lm" else "wordpiece"
        )
        grid.run(
            grid.Job(
                folder / "task",
                toy.model(layout),
                folder / f"{head}-pieces",
                quick(head),
                (0, 10, "all"),
                folder / head,
                task_name="toy",
                model_name="main",
                start_name="random",
            ),
            quiet=True,
        )
    return folder


@pytest.mark.parametrize("head", STARTS)
def test_a_grid_goes_from_no_labels_to_all(head, runs):
    units = {path.name: files.read_json(path / "result.json") for path in (runs / head / "units").iterdir()}
    assert {name: unit["labels"] for name, unit in units.items()} == {
        "random-0-0": 0,
        "random-10-0": 10,
        "random-all-0": 30,
    }
    assert [units[f"random-{budget}-0"]["steps"] for budget in (0, 10, "all")] == [0, 6, 6]


@pytest.mark.parametrize("head", STARTS)
def test_the_saved_model_is_a_stock_one_whose_user_needs_the_notes_only(head, runs):
    """The scores on test, from transformers and answers.json alone."""
    folder = runs / head / "model"
    notes = json.loads((folder / "answers.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = (AutoModelForMaskedLM if head == "mlm" else AutoModelForCausalLM).from_pretrained(folder).eval()
    task = read_task(runs / "task", "toy")
    saved = np.load(runs / head / "units" / "random-all-0" / "test_scores.npy")
    for example, row in zip(task.splits["test"], saved, strict=True):
        place = tokenizer.mask_token if head == "mlm" else ""
        text = notes["template"].replace("{text_pair}\n{options}\n", "")
        text = text.replace("{text}", example.text).replace("{answer}", place).rstrip()
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if head == "lm":
            ids = ids[:, :-1]
        with torch.inference_mode():
            logp = model(input_ids=ids).logits[0].log_softmax(-1)
        at = int((ids[0] == tokenizer.mask_token_id).nonzero()[-1]) if head == "mlm" else -1
        scores = torch.stack([logp[at, notes["token_ids"][label]].logsumexp(0) for label in task.labels])
        assert np.allclose(scores.softmax(0).numpy(), row, atol=1e-5)


@pytest.mark.parametrize("head", STARTS)
def test_predictions_are_the_saved_scores_also_after_export(head, runs, tmp_path, capsys):
    export(runs / head / "model", tmp_path / "out")
    task = read_task(runs / "task", "toy")
    saved = np.load(runs / head / "units" / "random-all-0" / "test_scores.npy")
    for folder in (runs / head / "model", tmp_path / "out"):
        predictor = Predictor.load(folder)
        found = list(predictor.predict([example.text for example in task.splits["test"]]))
        rows = [[result["probabilities"][label] for label in task.labels] for result in found]
        assert np.allclose(rows, saved, atol=1e-5)
        assert all(result["label"] in task.labels for result in found)
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "aspirin"}\n' + json.dumps({"text": "cell " * 90}) + "\n", "utf-8")
    assert predict_file(tmp_path / "out", str(source), tmp_path / "out.jsonl") == 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [("truncated" in line) for line in lines] == [False, True]
    assert 0 < lines[0]["probability"] <= 1


def test_notes_that_cannot_be_read_are_an_error(runs, tmp_path):
    export(runs / "mlm" / "model", tmp_path / "out")
    for path in ("manifest.json",):
        (tmp_path / "out" / path).unlink()
    (tmp_path / "out" / "answers.json").write_text('{"head": "mlm"}')
    with pytest.raises(ArtefactError, match="template and words"):
        Predictor.load(tmp_path / "out")


def test_no_labels_are_no_failure(runs, tmp_path):
    folders = sorted((runs / "mlm" / "units").iterdir())
    summarise({"toy": runs / "task"}, folders, {}, 0, tmp_path, 0)
    groups = files.read_json(tmp_path / "summary.json")["tasks"]["toy"]["groups"]
    (none,) = [group for group in groups if group["labels"] == 0]
    assert none["failed"] == 0


@pytest.mark.parametrize(
    ("head", "kind", "layout", "budgets", "what"),
    [
        ("classifier", "classify", "bert", (0, "all"), "knows nothing without labels"),
        ("mlm", "tag", "bert", ("all",), "answers with one label"),
        ("mlm", "classify", "llama", ("all",), "llama model cannot answer"),
        ("lm", "classify", "modernbert", ("all",), "modernbert model cannot answer"),
    ],
)
def test_what_a_head_cannot_do_is_refused_before_any_work(head, kind, layout, budgets, what):
    with pytest.raises(RecipeError, match=what):
        data.check_head(toy.settings(head=head), toy.task(kind, 4, 4), layout, budgets)


def choice_task():
    """Which option is a drug?  The letters stand in the text only through the options."""
    import random

    def example(name):
        draw = random.Random(name)
        options = [draw.choice(toy.GENES), draw.choice(toy.FILLER), draw.choice(toy.DRUGS)]
        draw.shuffle(options)
        right = next(number for number, option in enumerate(options) if option in toy.DRUGS)
        return Example(name, "the study dose", "ABC"[right], options=tuple(options))

    splits = {
        split: [example(f"{split}-{n}") for n in range(size)]
        for split, size in (("train", 30), ("dev", 10), ("test", 10))
    }
    return Task("choice", "classify", ("A", "B", "C"), "accuracy", splits)


@pytest.mark.parametrize("head", ["classifier", *STARTS])
def test_multiple_choice_goes_through_every_head(head, runs, tmp_path):
    write_task(choice_task(), tmp_path / "task")
    assert read_task(tmp_path / "task").splits["test"] == choice_task().splits["test"]
    pieces = runs / f"{head if head != 'classifier' else 'mlm'}-pieces"
    settings = quick(head).model_copy(update={"answer": type(quick(head).answer)()})
    layout = STARTS.get(head, "modernbert")
    grid.run(
        grid.Job(
            tmp_path / "task",
            toy.model(layout),
            pieces,
            settings,
            ("all",),
            tmp_path / "out",
            task_name="choice",
            model_name="main",
            start_name="random",
        ),
        quiet=True,
    )
    predictor = Predictor.load(tmp_path / "out" / "model")
    example = choice_task().splits["test"][0]
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": example.text, "options": list(example.options)}) + "\n", "utf-8")
    predict_file(tmp_path / "out" / "model", str(source), tmp_path / "out.jsonl")
    line = json.loads((tmp_path / "out.jsonl").read_text())
    saved = np.load(tmp_path / "out" / "units" / "random-all-0" / "test_scores.npy")
    assert [line["probabilities"][label] for label in "ABC"] == pytest.approx(saved[0].tolist(), abs=1e-5)
    other = {"text": example.text, "options": list(reversed(example.options))}
    (turned,) = predictor.predict([other])
    assert turned["probabilities"] != line["probabilities"]
