"""Pairs share a label or do not; tuning draws a label's texts together and leaves the encoder as it was."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from rival_tasks import task_of

from wellread.evaluate.rivals import setfit
from wellread.evaluate.rivals.encoder import Encoder, embed
from wellread.evaluate.rivals.run import Means
from wellread.tasks.task import Example


@pytest.mark.parametrize("kind", ["classify", "multilabel"])
def test_pairs_share_a_label_or_do_not(kind: str) -> None:
    task = task_of(kind, (30, 5, 5))
    train = task.splits["train"]
    texts, left, right, wanted = setfit.pairs(task, train, 0)
    assert len(texts) == 30 and len(left) == len(right) == len(wanted) == 1000
    assert (left != right).all() and set(left) == set(range(30))
    for one, other, cosine in zip(left, right, wanted, strict=True):
        names = [set(setfit._labels(train[place])) for place in (one, other)]
        assert cosine == float(bool(names[0] & names[1]))
    again = setfit.pairs(task, train, 0)
    assert all(np.array_equal(a, b) for a, b in zip((texts, left, right, wanted), again, strict=True))
    assert not np.array_equal(setfit.pairs(task, train, 1)[2], right)


def test_few_examples_have_few_pairs_and_lonely_labels_no_partner() -> None:
    task = task_of("classify", (30, 5, 5))
    train = [Example("1", "x", "a"), Example("2", "y", "a"), Example("3", "z", "b")]
    _, left, right, wanted = setfit.pairs(task, train, 0)
    assert len(left) == 20 * (2 + 2 + 1)  # the one of label b has no partner of its own
    assert set(zip(left[wanted == 1].tolist(), right[wanted == 1].tolist(), strict=True)) == {(0, 1), (1, 0)}


def test_scored_pairs_are_their_own() -> None:
    task = task_of("pairs", (10, 5, 5))
    texts, left, right, wanted = setfit.pairs(task, task.splits["train"], 0)
    scores = np.array([example.label for example in task.splits["train"]])
    assert (right == left + 1).all() and wanted.min() == 0 and wanted.max() == 1
    assert np.allclose(wanted, ((scores - scores.min()) / np.ptp(scores))[left // 2], atol=1e-6)
    assert [texts[place] for place in left[:3]] == [
        task.splits["train"][place // 2].text for place in left[:3]
    ]


def test_tuning_draws_labels_together(means: Means, monkeypatch: pytest.MonkeyPatch) -> None:
    assert means.encoder_folder is not None
    encoder = Encoder(means.encoder_folder)
    task = task_of("classify", (30, 5, 5))
    train = task.splits["train"]
    monkeypatch.setattr(setfit, "RATE", 2e-3)
    monkeypatch.setattr(setfit, "MOST_PAIRS", 400)
    before = copy.deepcopy(encoder.model.state_dict())
    model = copy.deepcopy(encoder.model)
    texts, *chosen = setfit.pairs(task, train, 0)
    torch.manual_seed(0)
    setfit.tune(model, encoder.tokenizer, texts, tuple(chosen), 0)

    def gap(one: object) -> float:
        found = embed(one, encoder.tokenizer, texts)
        cosine = found @ found.T
        same = np.array([[a.label == b.label for b in train] for a in train])
        return float(cosine[same].mean() - cosine[~same].mean())

    assert gap(model) > gap(encoder.model) + 0.2
    setfit.fit(replace(task, splits=task.splits), train, encoder, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())
