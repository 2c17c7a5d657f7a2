"""The loop: learns, repeats bit for bit, first step of size lr, failures recorded."""

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from wellread import precision
from wellread.errors import DataError
from wellread.finetune import classifier, data, loop, objective
from wellread.models import build, heads, packed
from wellread.tasks.task import Example


def run(kind, tokenizer, layout="modernbert", seed=0, **changes):
    task = toy.task(kind)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 64)
    settings = toy.settings(**changes)
    return task, loop.finetune(prepared, task.splits["train"], toy.model(layout), tokenizer, settings, seed)


def majority(task):
    """Score of the best constant answer."""
    from wellread.evaluate.metrics import score

    dev = task.splits["dev"]
    if task.kind == "tag":
        return score(task, "dev", [["O"] * len(e.tokens) for e in dev])[task.metric]
    constants = np.eye(len(task.labels)) if task.kind == "classify" else np.ones((1, len(task.labels)))
    return max(score(task, "dev", np.tile(row, (len(dev), 1)))[task.metric] for row in constants)


@pytest.mark.parametrize("kind", toy.KINDS)
def test_every_kind_of_task_is_learnt(kind, tokenizer):
    task, result = run(kind, tokenizer)
    assert not result.failed
    assert result.labels == 120
    assert result.dev[task.metric] > majority(task) + 0.1
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    assert result.best_step in [entry["step"] for entry in result.history]


@pytest.mark.parametrize(("layout", "steps"), [("bert", 300), ("llama", 60), ("gpt2", 60)])
def test_every_layout_is_learnt(layout, steps, bpe, tokenizer):
    # A BERT from random weights needs the steps: after 60, one seed in two has not begun to learn.
    task, result = run("classify", bpe if layout in ("llama", "gpt2") else tokenizer, layout, min_steps=steps)
    assert result.dev["macro_f1"] > majority(task) + 0.1


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_scores_are_learnt_without_a_bias(layout, bpe):
    _, result = run("regress", bpe, layout, min_steps=120)
    assert result.history[0]["dev_loss"] < 2  # in variances: the head begins at the mean, 40 / 5
    assert result.dev["pearson"] > 0.5


def test_the_output_is_that_of_the_stock_model_on_padded_batches(tokenizer):
    task, result = run("regress", tokenizer, dropout=0.1)
    dev = task.splits["dev"]
    inputs = tokenizer([e.text for e in dev], [e.text_pair for e in dev], padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = result.model(**inputs).logits
    assert np.allclose(logits.numpy(), result.dev_output, atol=1e-3)  # scores of about 40
    assert result.dev["rmse"] < 5
    assert result.model.config.problem_type == "regression"


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_finetune_loop import fingerprint
from wellread.tokens import tokenizer as tokenizers
print(fingerprint(tokenizers.load(sys.argv[2])))
"""


def fingerprint(tokenizer):
    """Weights, history and scores of two runs."""
    parts = []
    for kind in ("classify", "tag"):
        _, result = run(kind, tokenizer, seed=1)
        state = b"".join(weight.numpy().tobytes() for weight in result.model.state_dict().values())
        parts += [hashlib.sha256(state).hexdigest(), result.history, result.dev, result.test]
    return repr(parts)


def test_two_processes_give_the_same_bits(tokenizer, tokenizer_folder):
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tokenizer_folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(loop.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    here = fingerprint(tokenizer)
    assert here.count("dev_loss") == 8
    assert other.stdout.strip() == here


def test_seeds_differ(tokenizer):
    _, first = run("classify", tokenizer, epochs=1, min_steps=4)
    _, second = run("classify", tokenizer, seed=1, epochs=1, min_steps=4)
    assert first.history != second.history


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_a_loss_that_is_not_a_number_is_a_failed_run(kind, tokenizer, tmp_path):
    model = build.build(toy.model(), tokenizer, "mlm", 0)
    with torch.no_grad():
        model.base_model.embeddings.tok_embeddings.weight[7:] = math.nan
    build.save(model, tokenizer, tmp_path)
    task = toy.task(kind)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 64)
    result = loop.finetune(prepared, task.splits["train"], tmp_path, tokenizer, toy.settings(), 0)
    assert result.failed
    assert result.failure == "the loss or its gradient is not a number at step 1"
    assert result.model is None
    assert result.dev[task.metric] == 0
    if kind == "tag":
        assert {tag for row in result.dev_output for tag in row} == {"O"}
    else:
        assert np.isnan(result.dev_output).all()
        assert result.dev_output.shape == (40, 3)


def test_early_stopping_keeps_the_best_weights(tokenizer, monkeypatch):
    scores = iter([0.2, 0.9, 0.5, 0.4, 0.3, 0.95, 0.1, 0.1])
    states = []

    def scripted(task, split, output):
        if len(task.splits["dev"]) == 40 and split == "dev":
            return {task.metric: next(scores, 0.0)}
        return {task.metric: 0.0}

    def clone(self, *args, _step=torch.optim.AdamW.step, **kwargs):
        result = _step(self, *args, **kwargs)
        states.append([p.detach().clone() for group in self.param_groups for p in group["params"]])
        return result

    monkeypatch.setattr(loop, "score", scripted)
    monkeypatch.setattr(torch.optim.AdamW, "step", clone)
    _, result = run("classify", tokenizer, epochs=1, min_steps=80, max_steps=80, evaluations=8, patience=3)
    assert (result.best_step, result.steps) == (20, 50)  # two evaluations, then three without a better one
    best = {tuple(weight.shape): weight for weight in states[19]}
    kept = dict(result.model.named_parameters())["classifier.weight"]
    assert torch.equal(best[tuple(kept.shape)], kept)


def test_between_equal_scores_the_lower_loss_is_better(tokenizer, monkeypatch):
    monkeypatch.setattr(loop, "score", lambda task, split, output: {task.metric: 0.5})
    _, result = run("classify", tokenizer, patience=1)
    losses = [entry["dev_loss"] for entry in result.history]
    best = [entry["step"] for entry in result.history if entry["dev_loss"] == min(losses)]
    assert [result.best_step] == best


@pytest.mark.parametrize(
    ("changes", "sequences", "steps"),
    [
        ({"epochs": 3, "min_steps": 0, "batch": 10}, 25, 8),
        ({"epochs": 3, "min_steps": 50, "batch": 10}, 25, 50),
        ({"epochs": 3, "min_steps": 50, "max_steps": 20, "batch": 10}, 25, 20),
        ({"epochs": 3, "min_steps": 0, "max_steps": 5, "batch": 10}, 25, 5),
        ({"epochs": 1, "min_steps": 0, "batch": 32}, 1, 1),
    ],
)
def test_steps(changes, sequences, steps):
    assert loop.steps_of(toy.settings(**changes), sequences) == steps


def test_more_evaluations_than_steps_are_no_problem(tokenizer):
    _, result = run("classify", tokenizer, min_steps=2, max_steps=2, evaluations=10)
    assert [entry["step"] for entry in result.history] == [1, 2]


def test_a_budget_trains_on_its_examples_only(tokenizer):
    task = toy.task("tag")
    prepared = data.prepare(task, task.splits["train"], tokenizer, 8)
    chosen = task.splits["train"][5:9]
    members = prepared.sequences(chosen)
    owners = prepared.splits["train"].encoded.inputs[members]
    assert sorted({task.splits["train"][owner].id for owner in owners}) == sorted(e.id for e in chosen)
    rows = objective.target_rows(prepared.splits["train"], members)
    assert len(rows) == sum(len(e.tokens) for e in chosen)


def test_scores_by_document_are_watched_on_whole_documents(tokenizer):
    task = toy.task("multilabel", 10, 900)
    dev = [replace(example, doc=f"d{number // 7}") for number, example in enumerate(task.splits["dev"])]
    task = replace(task, metric="micro_f1_doc", splits={**task.splits, "dev": dev})
    watched = data.prepare(task, task.splits["train"], tokenizer, 64).watched.examples
    assert data.WATCHED <= len(watched) < data.WATCHED + 7
    seen = {example.doc for example in watched}
    assert watched == [example for example in dev if example.doc in seen]


def test_a_large_dev_is_watched_by_a_fixed_sample(tokenizer):
    task = toy.task("classify", 10, data.WATCHED + 100)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 64)
    again = data.prepare(task, task.splits["train"][:5], tokenizer, 64)
    ids = [example.id for example in prepared.watched.examples]
    assert len(set(ids)) == data.WATCHED
    assert ids == [example.id for example in again.watched.examples]
    assert prepared.watched_task.splits["dev"] == prepared.watched.examples
    assert len(prepared.splits["dev"].examples) == data.WATCHED + 100


def test_truncated_inputs_are_counted(tokenizer):
    task = toy.task("classify", 20, 10)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 10)
    settings = toy.settings(max_steps=1)
    result = loop.finetune(prepared, task.splits["train"][:7], toy.model(), tokenizer, settings, 0)
    used = task.splits["train"][:7] + task.splits["dev"] + task.splits["test"]
    assert result.truncated == sum(len(row) > 10 for row in tokenizer([e.text for e in used])["input_ids"])
    assert result.truncated > 0


def test_a_training_set_that_the_tokenizer_cannot_read_is_refused(tokenizer):
    task = toy.task("tag", 2, 2)
    empty = Example("empty", "", ("O",), tokens=("\x00",))
    prepared = data.prepare(task, [empty], tokenizer, 64)
    with pytest.raises(DataError, match="no training example"):
        loop.finetune(prepared, [empty], toy.model(), tokenizer, toy.settings(), 0)


def test_packed_and_padded_give_the_same_loss_and_gradients(tokenizer):
    task = toy.task("classify")
    split = data.encode_split(task, task.splits["train"][:12], tokenizer, 64)
    model = heads.task_model(toy.model(), tokenizer, "classify", task.labels, 0.0, 0).train()
    index = np.arange(12)
    packed.enable(model)
    loss = classifier.loss(model, split, index, objective.Objective("classify"))
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    packed.disable(model).zero_grad()
    inputs = tokenizer([e.text for e in split.examples], padding=True, return_tensors="pt")
    stock = model(**inputs, labels=torch.from_numpy(split.targets)).loss
    stock.backward()
    assert loss.item() == pytest.approx(stock.item(), abs=1e-5)
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, gradients[name], atol=1e-5), name


@pytest.mark.parametrize(
    ("asked", "fine_tuned", "narrow"),
    [
        ("auto", False, True),
        ("fp32", False, False),
        ("bf16", True, False),
    ],
)
def test_only_plain_training_steps_multiply_in_bfloat16(asked, fine_tuned, narrow, tokenizer, monkeypatch):
    monkeypatch.setattr(precision, "_fast_processor", lambda: True)
    task, seen = toy.task("classify"), {"steps": set(), "scores": set()}
    prepared = data.prepare(task, task.splits["train"], tokenizer, 64)
    logits_of = prepared.head.logits

    def loss(*arguments):
        seen["steps"].add(torch.is_autocast_enabled("cpu"))
        return prepared.head.loss(*arguments)

    def logits(*arguments):
        seen["scores"].add(torch.is_autocast_enabled("cpu"))
        return logits_of(*arguments)

    watched = replace(prepared, head=replace(prepared.head, logits=logits))
    model = packed.enable(heads.task_model(toy.model(), tokenizer, "classify", task.labels, 0.0, 0))
    settings = toy.settings(max_steps=2, precision=asked)
    loop.tune(model, watched, task.splits["train"], settings, 0, loss=loss, fine_tuned=fine_tuned)
    assert seen == {"steps": {narrow}, "scores": {False}}


def test_a_pretrained_start_keeps_its_body(tokenizer, tmp_path):
    model = build.build(toy.model(), tokenizer, "mlm", 3)
    build.save(model, tokenizer, tmp_path)
    task = toy.task("classify")
    prepared = data.prepare(task, task.splits["train"], tokenizer, 64)
    settings = toy.settings(max_steps=1, learning_rate=1e-9, weight_decay=0.0)
    result = loop.finetune(prepared, task.splits["train"], tmp_path, tokenizer, settings, 0)
    name = "embeddings.tok_embeddings.weight"
    before = model.base_model.state_dict()[name]
    assert torch.allclose(result.model.base_model.state_dict()[name], before, atol=1e-7)
