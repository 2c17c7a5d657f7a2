"""Matched tokens equal a plain loop over stock models, values and gradients; scores; learning; refusals."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from wellread import files
from wellread.errors import DataError, RecipeError
from wellread.evaluate.metrics import default_metric
from wellread.finetune import data, grid, loop, similarity
from wellread.finetune.head import NOTES
from wellread.models import packed
from wellread.serve.predict import Predictor
from wellread.settings import FinetuneSettings
from wellread.tasks.read import write_task
from wellread.tasks.task import Example, Task

LAYOUTS = ("modernbert", "bert")


def pairs(train=40, other=30):
    """The score of a pair is how many names both texts have, 0 to 4; other common words do not count."""
    names, fillers = [*toy.DRUGS, *toy.GENES], toy.FILLER

    def other_text(draw, first, pool, kept):
        return first[:kept] + draw.sample([word for word in pool if word not in first], 4 - kept)

    def example(name):
        draw = random.Random(name)
        one, two, kept = draw.sample(names, 4), draw.sample(fillers, 4), draw.randrange(5)
        second = other_text(draw, one, names, kept) + other_text(draw, two, fillers, draw.randrange(5))
        draw.shuffle(second)
        return Example(name, " ".join([*one, *two]), float(kept), text_pair=" ".join(second))

    splits = {
        split: [example(f"{split}-{number}") for number in range(size)]
        for split, size in (("train", train), ("dev", other), ("test", other))
    }
    return Task("toy-pairs", "regress", ("score",), default_metric("regress"), splits)


def prepared(tokenizer, **changes):
    task = pairs()
    return data.prepare(task, task.splits["train"], tokenizer, 64, toy.settings(head="similarity", **changes))


def by_hand(model, tokenizer, first, second):
    """One pair, token by token."""
    found = []
    for text in (first, second):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model.base_model(input_ids=ids).last_hidden_state[0]
        words = model.get_input_embeddings()(ids)[0]
        found.append([(ids[0, at], states[at], words[at]) for at in range(1, ids.shape[1] - 1)])

    def cosine(one, two):
        return sum(torch.nn.functional.cosine_similarity(one[at], two[at], dim=0) for at in (1, 2)) / 2

    ways = []
    for own, other in (found, found[::-1]):
        weights = [torch.log1p(token[0].float()) for token in own]
        best = [max(cosine(token, each) for each in other) for token in own]
        ways.append(sum(w * b for w, b in zip(weights, best, strict=True)) / sum(weights))
    return (ways[0] + ways[1]) / 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_and_gradients_equal_a_loop_over_the_tokens(layout, tokenizer):
    found = prepared(tokenizer)
    head, split = found.head, found.splits["train"]
    model = head.open(toy.model(layout), tokenizer, 0.0, 0).train()
    index = np.array([7, 3, 0, 12])
    packed.enable(model)
    goal = head.fit(model, split, np.arange(40), False)
    loss = head.loss(model, split, index, goal, 7)
    loss.backward()
    gradients = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    packed.disable(model).zero_grad()
    mean, deviation = model.config.similarity
    chosen = [split.examples[number] for number in index]
    stock = torch.stack([by_hand(model, tokenizer, each.text, each.text_pair) for each in chosen])
    target = torch.tensor([(each.label - goal.centre) / goal.scale for each in chosen])
    expected = ((stock - mean) / deviation - target).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    expected.backward()
    for name, weight in model.named_parameters():
        if weight.grad is None:
            assert name not in gradients, name
        else:
            torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_equal_texts_are_alike_either_way_round_and_nothing_is_like_nothing(tokenizer):
    model = packed.enable(
        similarity.head("regress", ("score",), tokenizer).open(toy.model(), tokenizer, 0.0, 0)
    )
    special = torch.tensor(tokenizer.all_special_ids)
    texts = [
        ("aspirin in patients", "aspirin in patients"),
        ("the dose", "brca1 was"),
        ("brca1 was", "the dose"),
    ]
    examples = [Example(str(n), a, 0.0, text_pair=b) for n, (a, b) in enumerate([*texts, ("", "dose")])]
    encoded = similarity.encode(tokenizer, examples, 64)
    same, one, other, none = similarity._similarities(special, model, encoded, np.arange(4))
    assert same == pytest.approx(1, abs=1e-6) and one == pytest.approx(other, abs=1e-6)
    assert abs(one) < 0.9 and none == 0


def test_a_text_does_not_depend_on_its_partner_or_on_the_batch(tokenizer):
    model = packed.enable(
        similarity.head("regress", ("score",), tokenizer).open(toy.model(), tokenizer, 0.0, 0)
    )
    special, examples = torch.tensor(tokenizer.all_special_ids), pairs().splits["dev"]
    encoded = similarity.encode(tokenizer, examples, 64)
    whole = similarity._similarities(special, model, encoded, np.arange(30))
    alone = [similarity._similarities(special, model, encoded, np.array([number]))[0] for number in range(30)]
    assert np.allclose(whole, alone, atol=1e-6)


def test_long_texts_are_cut_and_counted(tokenizer):
    example = Example("long", "dose " * 100, 1.0, text_pair="dose")
    encoded = similarity.encode(tokenizer, [example], 16)
    assert encoded.truncated.tolist() == [True] and encoded.word_positions.tolist() == [16]
    assert encoded.lengths.tolist() == [16 + 3]


def test_it_scores_without_labels_and_learns(tokenizer):
    found = prepared(tokenizer)
    settings = toy.settings(head="similarity", learning_rate=3e-3, min_steps=150)
    zero = loop.finetune(found, [], toy.model(), tokenizer, settings, 0)
    assert 0.4 < zero.dev["pearson"] < 0.9 and zero.model.config.similarity == [0.0, 1.0]
    result = loop.finetune(found, found.task.splits["train"], toy.model(), tokenizer, settings, 0)
    assert result.dev["pearson"] > zero.dev["pearson"] + 0.05 and result.dev["rmse"] < 0.8


def test_a_saved_model_gives_the_scores_of_the_run(tokenizer, tmp_path):
    task = pairs()
    write_task(task, tmp_path / "task")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = toy.settings(head="similarity", seeds=(0,), learning_rate=3e-4)
    grid.run(
        grid.Job(
            tmp_path / "task",
            toy.model(),
            tmp_path / "tokenizer",
            settings,
            ("all",),
            tmp_path / "runs",
            task_name="toy-pairs",
            model_name="toy",
            start_name="random",
        ),
        threads=1,
    )
    model: Path = next((tmp_path / "runs").rglob(NOTES)).parent
    predictor = Predictor.load(model)
    test = task.splits["test"]
    found = [row["score"] for row in predictor.predict([(each.text, each.text_pair) for each in test])]
    pearson = np.corrcoef(found, [each.label for each in test])[0, 1]
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert pearson == pytest.approx(files.read_json(result)["test"]["pearson"], abs=1e-5)
    assert abs(np.mean(found) - 2) < 1
    with pytest.raises(DataError, match="no second text"):
        list(predictor.predict(["aspirin alone"]))


@pytest.mark.parametrize(
    ("kind", "layout", "changes", "what"),
    [
        ("classify", "bert", {}, "scores pairs"),
        ("regress", "llama", {}, "cannot answer"),
        ("regress", "bert", {"rdrop": 1.0}, "R-Drop"),
    ],
)
def test_what_it_cannot_do_is_refused(kind, layout, changes, what):
    settings = toy.settings(head="similarity", **changes)
    with pytest.raises(RecipeError, match=what):
        data.check_head(settings, toy.task(kind, 4, 2), layout, ("all",))


@pytest.mark.parametrize(
    ("stated", "layout", "picked"),
    [
        ({"recipe": "stable"}, "bert", "similarity"),
        ({"recipe": "stable"}, "llama", "classifier"),
        ({"recipe": "standard"}, "bert", "classifier"),
        ({}, "bert", "classifier"),
        ({"recipe": "stable", "head": "classifier"}, "bert", "classifier"),
        ({"recipe": "stable", "rdrop": 1.0}, "bert", "classifier"),
        ({"recipe": "stable", "light": {"method": "lora"}}, "bert", "classifier"),
    ],
)
def test_the_stable_recipe_picks_it_for_pairs_where_nothing_else_is_asked_for(stated, layout, picked):
    assert data.choose_head(FinetuneSettings(**stated), pairs(4, 2), layout).head == picked
    assert data.choose_head(FinetuneSettings(recipe="stable"), toy.task("classify", 4, 2), "bert").head == (
        "classifier"
    )
