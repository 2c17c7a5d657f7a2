"""Task models: labels, problem types, fresh heads and weights taken over."""

from __future__ import annotations

import pytest
import stock
import torch

from wellread.models import build, fused, heads, packed


@pytest.mark.parametrize("layout", stock.LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "labels", "problem"),
    [
        ("classify", ("neg", "pos"), "single_label_classification"),
        ("multilabel", ("a", "b", "c"), "multi_label_classification"),
        ("regress", ("score",), "regression"),
        ("tag", ("O", "B-X", "I-X"), None),
    ],
)
def test_labels_and_problem_type(layout, kind, labels, problem):
    model = heads.task_model(stock.settings(layout), stock.tokenizer(), kind, labels, 0.1, 0)
    assert model.config.id2label == dict(enumerate(labels))
    assert model.config.label2id == {label: number for number, label in enumerate(labels)}
    assert model.config.problem_type == problem
    assert model.num_labels == len(labels)
    packed.enable(model.eval())
    batch = stock.batch([4, 1, 7])
    if kind == "tag":
        assert heads.token_logits(model, batch).shape == (12, len(labels))
    else:
        assert heads.sequence_logits(model, batch).shape == (3, len(labels))


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_checkpoint_gives_the_body_and_the_seed_the_head(layout, tmp_path):
    settings, tokenizer = stock.settings(layout), stock.tokenizer()
    pretrained = build.build(settings, tokenizer, "clm" if settings.causal else "mlm", seed=0)
    stock.randomise(pretrained)
    build.save(pretrained, tokenizer, tmp_path)
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    models = [heads.task_model(tmp_path, tokenizer, "classify", ("a", "b"), 0.1, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(2), expected), "the global generator was disturbed"
    states = [model.state_dict() for model in models]
    known = pretrained.state_dict()
    fresh = [name for name in states[0] if name not in known]
    assert fresh
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
        if name in known:
            assert torch.equal(value, known[name])
            assert torch.equal(value, states[2][name])
    drawn = [name for name in fresh if name.endswith("weight")]
    assert all(not torch.equal(states[0][name], states[2][name]) for name in drawn)


def test_modernbert_takes_over_the_prediction_head(tmp_path):
    """The dense layer before the vocabulary is trained already; the classifier starts from it."""
    settings, tokenizer = stock.settings("modernbert"), stock.tokenizer()
    pretrained = build.build(settings, tokenizer, "mlm", seed=0)
    build.save(pretrained, tokenizer, tmp_path)
    model = heads.task_model(tmp_path, tokenizer, "tag", ("O", "B-X"), 0.0, 0)
    assert torch.equal(model.head.dense.weight, pretrained.head.dense.weight)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_random_start_depends_on_the_seed_only(layout):
    settings, tokenizer = stock.settings(layout), stock.tokenizer()
    first, second, third = (
        heads.task_model(settings, tokenizer, "classify", ("a", "b"), 0.1, seed).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_lm_logits_of_chosen_rows_equal_those_of_all_rows(layout):
    settings = stock.settings(layout)
    model = build.build(settings, stock.tokenizer(), "clm" if settings.causal else "mlm", 0)
    packed.enable(model.eval())
    hidden = packed.hidden_states(model, stock.batch([5, 9]))
    rows = torch.tensor([0, 3, 13])
    assert torch.allclose(
        heads.lm_logits(model, hidden)[rows], heads.lm_logits(model, hidden[rows]), atol=1e-6
    )
    assert heads.lm_logits(model, hidden[:0]).shape == (0, stock.VOCAB)


@pytest.mark.parametrize("layout", ["modernbert", "bert", "llama", "gpt2"])
@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_dropout_before_the_classifier_equals_stock(layout, kind):
    """The same draw hits the same features; the decoders' sequence heads have no dropout."""
    model = heads.task_model(stock.settings(layout), stock.tokenizer(), kind, ("a", "b"), 0.0, 0).train()
    name = "drop" if layout == "modernbert" else "dropout"
    if not hasattr(model, name):
        assert (layout in ("llama", "gpt2"), kind) == (True, "classify")
        return
    getattr(model, name).p = 0.5
    batch = stock.batch([6, 6, 6])
    fused.fuse(model)  # the stock forward, with the dropout of packed models
    torch.manual_seed(0)
    expected = model(**stock.padded(batch)).logits
    packed.enable(model)
    torch.manual_seed(0)
    got = heads.token_logits(model, batch) if kind == "tag" else heads.sequence_logits(model, batch)
    assert torch.allclose(got, expected.reshape(got.shape), atol=1e-5)
    again = heads.token_logits(model, batch) if kind == "tag" else heads.sequence_logits(model, batch)
    assert not torch.allclose(got, again, atol=1e-5)
