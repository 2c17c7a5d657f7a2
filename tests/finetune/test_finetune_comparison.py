"""Compared pairs: what a loop over single pairs gives, learning, saving, refusals."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from safetensors.torch import load_file

from wellread import files
from wellread.errors import ArtefactError, DataError, RecipeError
from wellread.finetune import comparison, data, grid, loop, similarity
from wellread.finetune.head import NOTES
from wellread.finetune.stability.reinitialise import reinitialise
from wellread.models import build, heads, packed
from wellread.serve.predict import Predictor
from wellread.tasks.read import write_task
from wellread.tasks.task import Example, Task

LAYOUTS = ("modernbert", "bert")


def pairs(train=60, other=30):
    """Whether all names of the second text stand in the first."""

    def example(name):
        draw = random.Random(name)
        words = draw.sample([*toy.DRUGS, *toy.GENES], 6)
        second = draw.sample(words[:4], 2)
        label = draw.choice(("all", "some"))
        if label == "some":
            second[draw.randrange(2)] = words[4]
        fillers = draw.sample(toy.FILLER, 4)
        return Example(
            name, " ".join(words[:4] + fillers), label, text_pair=" ".join([*second, *fillers[:2]])
        )

    splits = {
        split: [example(f"{split}-{number}") for number in range(size)]
        for split, size in (("train", train), ("dev", other), ("test", other))
    }
    return Task("toy-pairs", "classify", ("all", "some"), "accuracy", splits)


def prepared(tokenizer, **changes):
    task = pairs()
    return data.prepare(task, task.splits["train"], tokenizer, 64, toy.settings(head="comparison", **changes))


def by_hand(model, tokenizer, first, second):
    """Logits of one pair, token by token, from the stock encoder."""
    net, found = model.comparison, []
    for text in (first, second):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model.base_model(input_ids=ids).last_hidden_state[0]
        words = model.get_input_embeddings()(ids)[0]
        found.append([(states[at], words[at]) for at in range(1, ids.shape[1] - 1)])
    level = torch.nn.functional.layer_norm

    def cosine(one, two):
        return sum(torch.nn.functional.cosine_similarity(one[at], two[at], dim=0) for at in (0, 1)) / 2

    read = []
    for own, others in (found, found[::-1]):
        each = []
        for token in own:
            near = torch.stack([cosine(token, one) for one in others])
            beside = torch.softmax(near * net.sharpness.exp(), 0) @ torch.stack(
                [level(one[0], one[0].shape) for one in others]
            )
            x = level(token[0], token[0].shape)
            features = torch.cat([x, beside, x - beside, x * beside, near.max()[None]])
            each.append(torch.nn.functional.gelu(net.tokens(features)))
        read += [torch.stack(each).mean(0), torch.stack(each).amax(0)]
    return net.classifier(torch.nn.functional.gelu(net.pair(torch.cat(read))))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_and_gradients_equal_a_loop_over_the_tokens(layout, tokenizer):
    found = prepared(tokenizer)
    head, split = found.head, found.splits["train"]
    model = head.open(toy.model(layout), tokenizer, 0.0, 0).train()
    index = np.array([7, 3, 0, 12])
    packed.enable(model)
    goal = head.fit(model, split, np.arange(60), False)
    loss = head.loss(model, split, index, goal, 7)
    loss.backward()
    gradients = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    packed.disable(model).zero_grad()
    chosen = [split.examples[number] for number in index]
    found = torch.stack([by_hand(model, tokenizer, each.text, each.text_pair) for each in chosen])
    target = torch.tensor([("all", "some").index(each.label) for each in chosen])
    expected = torch.nn.functional.cross_entropy(found, target)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    expected.backward()
    assert "comparison.sharpness" in gradients
    for name, weight in model.named_parameters():
        if weight.grad is None:
            assert name not in gradients, name
        else:
            torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_pair_does_not_depend_on_its_batch_and_empty_texts_have_numbers(tokenizer):
    found = prepared(tokenizer)
    model = packed.enable(found.head.open(toy.model(), tokenizer, 0.0, 0)).eval()
    examples = [
        *pairs().splits["dev"],
        Example("none", "", "all", text_pair="dose"),
        Example("nothing", "", "all", text_pair=""),
        Example("long", "dose " * 40, "all", text_pair="aspirin"),
    ]
    encoded = similarity.encode(tokenizer, examples, 64)
    whole = found.head.logits(model, encoded)
    for number, example in enumerate(examples):
        alone = found.head.logits(model, similarity.encode(tokenizer, [example], 64))
        assert np.allclose(alone[0], whole[number], atol=1e-5), example.id
    assert np.isfinite(whole).all()


def test_it_learns_what_a_joint_reading_does_not(tokenizer):
    settings = toy.settings(learning_rate=3e-3, min_steps=250, epochs=1)
    task, dev = pairs(120), {}
    for name in ("comparison", "classifier"):
        given = settings.model_copy(update={"head": name})
        found = data.prepare(task, task.splits["train"], tokenizer, 64, given)
        result = loop.finetune(found, task.splits["train"], toy.model(), tokenizer, given, 0)
        dev[name] = result.dev["accuracy"]
    assert dev["comparison"] > 0.85 > 0.75 > dev["classifier"]


def test_a_saved_model_gives_the_labels_of_the_run_and_a_stock_user_none(tokenizer, tmp_path):
    task = pairs()
    write_task(task, tmp_path / "task")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = toy.settings(head="comparison", seeds=(0,), learning_rate=3e-3, min_steps=60)
    names = {"task_name": "toy-pairs", "model_name": "toy", "start_name": "random"}
    folders = (tmp_path / "task", toy.model(), tmp_path / "tokenizer", settings, ("all",), tmp_path / "runs")
    grid.run(grid.Job(*folders, **names), threads=1)
    folder: Path = next((tmp_path / "runs").rglob(NOTES)).parent
    predictor = Predictor.load(folder)
    test = task.splits["test"]
    rows = list(predictor.predict([(each.text, each.text_pair) for each in test]))
    right = np.mean([row["label"] == each.label for row, each in zip(rows, test, strict=True)])
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert right == pytest.approx(files.read_json(result)["test"]["accuracy"])
    with pytest.raises(DataError, match="no second text"):
        list(predictor.predict(["aspirin alone"]))
    assert not any("comparison" in name for name in load_file(folder / "model.safetensors"))
    stock = build.load(folder, "classify")
    assert stock(**tokenizer("aspirin", return_tensors="pt")).logits.abs().max() == 0
    (folder / comparison.ADDED).write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match="cannot be read"):
        comparison.load(stock, folder)


@pytest.mark.parametrize(
    ("kind", "layout", "changes", "budgets", "what"),
    [
        ("regress", "bert", {}, ("all",), "answers with one label"),
        ("classify", "llama", {}, ("all",), "cannot answer"),
        ("classify", "bert", {"rdrop": 1.0}, ("all",), "R-Drop"),
        ("classify", "bert", {"light": {"method": "lora"}}, ("all",), "all weights"),
        ("classify", "bert", {}, (0,), "without labels"),
    ],
)
def test_what_it_cannot_do_is_refused(kind, layout, changes, budgets, what):
    settings = toy.settings(head="comparison", **changes)
    with pytest.raises(RecipeError, match=what):
        data.check_head(settings, toy.task(kind, 4, 2), layout, budgets)


def test_what_it_adds_is_fresh_and_begins_at_base_rates(tokenizer):
    model = heads.task_model(toy.model("bert"), tokenizer, "classify", ("a", "b"), 0.0, 0)
    model.comparison = comparison.Comparison(model.config.hidden_size, 2, 0.0)
    before = {name: weight.detach().clone() for name, weight in model.comparison.named_parameters()}
    reinitialise(model, 1, 0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.comparison.named_parameters())
    found = prepared(tokenizer)
    settings = toy.settings(head="comparison", base_rates=True)
    fresh = found.head.open(toy.model("bert"), tokenizer, 0.0, 0)
    members = np.arange(len(found.splits["train"].encoded.lengths))
    loop._goal(fresh, found, members, settings, fine_tuned=False)
    assert fresh.comparison.classifier.bias.abs().max() > 0
