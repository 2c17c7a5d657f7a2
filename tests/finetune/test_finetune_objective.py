"""Losses against plain formulas; outputs against the definitions."""

import math

import numpy as np
import pytest
import torch
import toy

from wellread.finetune import data, objective
from wellread.finetune.encode import Encoded


def split_of(kind, tokenizer, max_length=64):
    task = toy.task(kind, 30, 10)
    return task, data.encode_split(task, task.splits["train"], tokenizer, max_length)


@pytest.mark.parametrize("kind", toy.KINDS)
def test_targets_are_the_labels(kind, tokenizer):
    task, split = split_of(kind, tokenizer)
    if kind == "classify":
        assert [task.labels[number] for number in split.targets] == [e.label for e in split.examples]
    elif kind == "multilabel":
        names = [tuple(n for n, on in zip(task.labels, row, strict=True) if on) for row in split.targets]
        assert names == [e.label for e in split.examples]
    elif kind == "regress":
        assert split.targets.tolist() == [e.label for e in split.examples]
    else:
        gold = [tag for e in split.examples for tag in e.label]
        assert [task.labels[number] for number in split.targets] == gold


def test_tags_survive_windows_and_unreadable_words(tokenizer):
    task, split = split_of("tag", tokenizer, max_length=8)
    assert len(split.encoded.lengths) > len(split.examples)
    logits = np.eye(len(task.labels), dtype=np.float32)[split.targets]
    assert objective.output("tag", task.labels, logits, split) == [list(e.label) for e in split.examples]


def test_words_without_a_piece_are_outside(tokenizer):
    from wellread.tasks.task import Example

    task = toy.task("tag", 2, 2)
    example = Example("x", "", ("B-Drug", "I-Drug", "B-Drug"), tokens=("aspirin", "\x00", "warfarin"))
    split = data.encode_split(task, [example], tokenizer, 64)
    assert split.targets.tolist() == [1, 1]
    logits = np.eye(5, dtype=np.float32)[split.targets]
    assert objective.output("tag", task.labels, logits, split) == [["B-Drug", "O", "B-Drug"]]


def test_class_weights_are_scikit_learns_balanced_ones():
    from sklearn.utils.class_weight import compute_class_weight

    train = np.array([0] * 7 + [1] * 2 + [3])
    goal = objective.build("classify", 5, train, class_weights=True, has_bias=True)
    plain = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=train)
    assert np.allclose(goal.weights[[0, 1, 3]], plain * 3 / 5)  # over 5 classes, two of them empty
    assert goal.weights[[2, 4]].tolist() == [0, 0]
    assert objective.build("classify", 5, train, class_weights=False, has_bias=True).weights is None


def test_multilabel_weights_balance_positives_and_negatives():
    train = np.array([[1, 0], [0, 0], [0, 0], [1, 0]], dtype=np.float32)
    goal = objective.build("multilabel", 2, train, class_weights=True, has_bias=True)
    assert goal.weights.tolist() == [1.0, 0.0]
    train[1, 1] = 1
    assert objective.build("multilabel", 2, train, class_weights=True, has_bias=True).weights.tolist() == [
        1,
        3,
    ]


def test_weighted_cross_entropy_is_the_formula():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 2, 0, 1])
    weights = torch.tensor([0.5, 2.0, 1.0])
    goal = objective.Objective("classify", weights)
    negative = torch.log(torch.exp(logits).sum(1)) - logits[torch.arange(6), target]
    expected = (negative * weights[target]).sum() / weights[target].sum()
    assert objective.loss(goal, logits, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_regression_is_standardised_and_folded_into_the_head():
    train = np.array([10.0, 30.0, 20.0], dtype=np.float32)
    goal = objective.build("regress", 1, train, class_weights=False, has_bias=True)
    assert (goal.centre, goal.scale) == pytest.approx((20.0, math.sqrt(200 / 3)))
    logits = torch.tensor([[0.0], [1.0], [0.5]])
    z = (torch.from_numpy(train) - goal.centre) / goal.scale
    assert objective.loss(goal, logits, torch.from_numpy(train)).item() == pytest.approx(
        ((logits[:, 0] - z) ** 2).mean().item()
    )
    model = torch.nn.Module()
    model.classifier = torch.nn.Linear(4, 1)
    x = torch.randn(5, 4)
    before = model.classifier(x)
    objective.fold(goal, model)
    assert torch.allclose(model.classifier(x), before * goal.scale + goal.centre, atol=1e-5)


def test_a_head_without_bias_is_scaled_and_begins_at_the_mean():
    goal = objective.build("regress", 1, np.array([3.0, 5.0]), class_weights=False, has_bias=False)
    assert (goal.centre, goal.scale) == (0.0, 1.0)
    constant = objective.build("regress", 1, np.array([5.0, 5.0]), class_weights=False, has_bias=True)
    assert (constant.centre, constant.scale) == (5.0, 1.0)
    layer, pooled = torch.nn.Linear(8, 1, bias=False), torch.randn(20, 8)
    before = layer.weight.detach().clone()
    objective.level(layer, pooled, 4.0)
    assert layer(pooled).mean().item() == pytest.approx(4.0, abs=1e-4)
    change = (layer.weight - before)[0]
    cosine = torch.nn.functional.cosine_similarity(change, pooled.mean(0), dim=0)
    assert cosine.abs().item() == pytest.approx(1, abs=1e-5)  # nothing else is changed


def encoded_words(*rows):
    """Sequences as (input, numbers of its words), one token a word."""
    ends = np.cumsum([0, *(len(numbers) for _, numbers in rows)])
    nothing = np.zeros(int(ends[-1]), dtype=np.int64)
    return Encoded(
        nothing,
        ends,
        np.array([number for number, _ in rows]),
        np.zeros(len(rows), dtype=bool),
        ends,
        nothing,
        np.array([number for _, numbers in rows for number in numbers]),
    )


def test_a_word_that_the_model_never_sees_ends_an_entity_and_a_window_does_not():
    inner = np.array([[0.0, 2.0, 3.0]] * 4, dtype=np.float32)  # all would rather be inside than begin
    labels = ("O", "B-x", "I-x")
    windows = encoded_words((0, [0, 1]), (0, [2, 3]))
    assert objective.tags(labels, inner, windows, [4]) == [["B-x", "I-x", "I-x", "I-x"]]
    unseen = encoded_words((0, [0, 1]), (1, [0, 2]))
    assert objective.tags(labels, inner, unseen, [3, 3]) == [["B-x", "I-x", "O"], ["B-x", "O", "B-x"]]
    assert objective.tags(labels, inner[:0], encoded_words(), [2]) == [["O", "O"]]


def test_scores_are_softmax_sigmoid_or_the_logits():
    logits = np.array([[0.0, 2.0], [-1.0, 1.0]], dtype=np.float32)
    assert np.allclose(objective.scores("multilabel", logits), 1 / (1 + np.exp(-logits)))
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(objective.scores("classify", logits), soft)
    assert objective.scores("regress", logits) is logits
