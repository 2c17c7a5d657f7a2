from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, GPT2Config, ModernBertConfig

from wellread.models import packed
from wellread.models.heads import lm_logits
from wellread.objectives import clm, mlm, prediction
from wellread.tokens.batch import pack

VOCAB = 50
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tiny(layout):
    torch.manual_seed(0)
    if layout == "gpt2":
        config = GPT2Config(vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=2, n_head=2)
        model = AutoModelForCausalLM.from_config(config)
    else:
        kind = {"bert": BertConfig, "modernbert": ModernBertConfig}[layout]
        config = kind(vocab_size=VOCAB, max_position_embeddings=32, pad_token_id=0, **SHAPE)
        model = AutoModelForMaskedLM.from_config(config)
    return packed.enable(model).eval()


def batch():
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(5, VOCAB, (n,), generator=generator).tolist() for n in (9, 1, 20, 2)]
    return pack(rows, [list(range(len(row))) for row in rows])


def asked(layout):
    if layout == "gpt2":
        return clm.predict(batch())
    return mlm.predict(batch(), torch.arange(0, 32, 2), shown=4)


def plain_loss(model, asked):
    hidden = packed.hidden_states(model, asked.inputs)[asked.positions]
    return F.cross_entropy(lm_logits(model, hidden), asked.targets, reduction="sum")


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("layout", ["modernbert", "bert", "gpt2"])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_chunked_loss_and_gradients_equal_the_plain_ones(monkeypatch, layout, rows):
    monkeypatch.setattr(prediction, "_chunk_rows", lambda *_: rows)
    model, question = tiny(layout), asked(layout)
    plain = plain_loss(model, question)
    chunked = prediction.loss(model, question)
    assert float(chunked.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    expected = gradients(model, plain / 7)
    found = gradients(model, chunked / 7)
    for name, gradient in expected.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("layout", ["modernbert", "gpt2"])
def test_score_agrees_with_the_loss(layout):
    model, question = tiny(layout), asked(layout)
    total, right = prediction.score(model, question)
    assert total == pytest.approx(float(plain_loss(model, question).detach()), rel=1e-6)
    hidden = packed.hidden_states(model, question.inputs)[question.positions]
    assert right == int((lm_logits(model, hidden).argmax(-1) == question.targets).sum())


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_chunked_loss_with_a_teacher_equals_the_plain_one(monkeypatch, rows):
    monkeypatch.setattr(prediction, "_chunk_rows", lambda *_: rows)
    model, question = tiny("modernbert"), asked("modernbert")
    ids = torch.stack([question.targets, (question.targets + 1) % VOCAB], 1)
    soft = prediction.Soft(ids, torch.full(ids.shape, 0.5), weight=0.3, temperature=2.0)
    question = replace(question, soft=soft)
    hidden = packed.hidden_states(model, question.inputs)[question.positions]
    plain = prediction.token_loss(lm_logits(model, hidden), question.targets, soft)
    chunked = prediction.loss(model, question)
    assert float(chunked.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    expected, found = gradients(model, plain / 7), gradients(model, chunked / 7)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_no_prediction_is_no_loss():
    model = tiny("modernbert")
    question = mlm.predict(batch(), torch.empty(0, dtype=torch.int64), shown=4)
    loss = prediction.loss(model, question)
    loss.backward()
    assert float(loss.detach()) == 0
    assert prediction.score(model, question) == (0.0, 0)


def test_frozen_parameters_get_no_gradient():
    model = tiny("bert")
    model.cls.predictions.transform.dense.weight.requires_grad_(False)
    prediction.loss(model, asked("bert")).backward()
    assert model.cls.predictions.transform.dense.weight.grad is None
    assert model.cls.predictions.transform.dense.bias.grad is not None


def test_mlm_hides_exactly_the_chosen_tokens():
    original = batch()
    positions = torch.tensor([0, 5, 9, 31])
    question = mlm.predict(original, positions, shown=4)
    changed = (question.inputs.input_ids != original.input_ids).nonzero().squeeze(1)
    assert changed.tolist() == positions.tolist()
    assert question.targets.tolist() == original.input_ids[positions].tolist()


def test_clm_stays_within_each_sequence():
    question = clm.predict(pack([[10, 11, 12], [20], [30, 31]]))
    assert question.positions.tolist() == [0, 1, 4]
    assert question.targets.tolist() == [11, 12, 31]
    assert question.count == 3
