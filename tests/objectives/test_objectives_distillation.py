"""A teacher's distributions under the mask."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from test_objectives_prediction import VOCAB, asked, gradients, tiny

from wellread.errors import ArtefactError
from wellread.models import build, packed
from wellread.models.heads import lm_logits
from wellread.objectives import distillation, prediction
from wellread.precision import wants_bfloat16
from wellread.pretrain.parts import make_objective
from wellread.settings import ModelSettings, PretrainSettings, TeacherSettings, TokenizerSettings
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.batch import pack


def settings(**changes):
    return TeacherSettings(path="unused", **changes)


def logits(model, question):
    return lm_logits(model, packed.hidden_states(model, question.inputs)[question.positions])


def other(layout):
    """A teacher that is not the student."""
    model = tiny(layout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    return model


@pytest.mark.parametrize("rows", [3, 1000])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_with_all_tokens_the_gradient_is_that_of_the_divergence(monkeypatch, rows, temperature):
    monkeypatch.setattr(prediction, "_chunk_rows", lambda *_: rows)
    student, teacher, question = tiny("modernbert"), other("modernbert"), asked("modernbert")
    given = settings(weight=1.0, top=VOCAB + 9, temperature=temperature)
    taught = replace(question, soft=distillation.soft_targets(teacher, question, given))
    with torch.no_grad():
        p = F.log_softmax(logits(teacher, question) / temperature, dim=-1)
    q = F.log_softmax(logits(student, question) / temperature, dim=-1)
    expected = gradients(student, temperature**2 * F.kl_div(q, p, reduction="sum", log_target=True))
    found = gradients(student, prediction.loss(student, taught))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_weights_mix_words_and_teacher():
    student, question = tiny("bert"), asked("bert")
    soft = distillation.soft_targets(other("bert"), question, settings(weight=0.25, top=4))
    assert soft.ids.shape == soft.probabilities.shape == (16, 4)
    torch.testing.assert_close(soft.probabilities.sum(-1), torch.ones(16))
    plain = prediction.loss(student, question)
    alone = prediction.loss(student, replace(question, soft=replace(soft, weight=1.0)))
    both = prediction.loss(student, replace(question, soft=soft))
    torch.testing.assert_close(both, 0.75 * plain + 0.25 * alone)


def test_a_sure_teacher_is_the_word_itself():
    student, question = tiny("bert"), asked("bert")
    one = torch.ones(len(question.targets), 1)
    soft = prediction.Soft(question.targets[:, None], one, 1.0, 1.0)
    found = prediction.loss(student, replace(question, soft=soft))
    torch.testing.assert_close(found, prediction.loss(student, question))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    made = TokenizerSettings(vocab_size=300, min_frequency=1)
    tokenizers.train(["some words of a text"] * 9, made, folder, causal=False, max_length=32, quiet=True)
    tokenizer = tokenizers.load(folder)
    shape = ModelSettings(layers=1, hidden=16, heads=2, max_length=32)
    build.save(build.build(shape, tokenizer, "mlm", 0), tokenizer, folder)
    return folder, tokenizer, shape


def test_only_training_is_taught(saved):
    folder, tokenizer, shape = saved
    taught = PretrainSettings(teacher=TeacherSettings(path=str(folder), top=3))
    objective = make_objective(shape, taught, tokenizer, 0)
    batch = pack([[1, 7, 8, 9, 2]], [[-1, 0, 1, 2, -1]])
    assert objective(batch, None).soft is None
    found = objective(batch, 0)
    assert found.soft is not None
    assert found.soft.ids.shape == (found.count, 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_teacher_multiplies_as_the_student_does(saved, precision, monkeypatch):
    folder, tokenizer, shape = saved
    taught = PretrainSettings(teacher=TeacherSettings(path=str(folder)), precision=precision)
    seen, real = [], distillation.soft_targets
    monkeypatch.setattr(
        distillation, "soft_targets", lambda *given: (seen.append(wants_bfloat16()), real(*given))[1]
    )
    make_objective(shape, taught, tokenizer, 0)(pack([[1, 7, 8, 9, 2]], [[-1, 0, 1, 2, -1]]), 0, 0.0)
    assert seen == [precision == "bf16"]


def test_a_teacher_that_does_not_fit_is_refused(saved, tmp_path):
    folder, tokenizer, shape = saved
    words = TokenizerSettings(vocab_size=300, min_frequency=1)
    tokenizers.train(["quite another text"] * 9, words, tmp_path, causal=False, max_length=32, quiet=True)
    taught = PretrainSettings(teacher=TeacherSettings(path=str(folder)))
    with pytest.raises(ArtefactError, match="another tokenizer"):
        distillation.open_teacher(taught, tokenizers.load(tmp_path), shape)
    longer = shape.model_copy(update={"max_length": 64})
    with pytest.raises(ArtefactError, match="reads 32 tokens at most"):
        distillation.open_teacher(taught, tokenizer, longer)
    decoder = shape.model_copy(update={"layout": "llama"})
    with pytest.raises(ArtefactError, match="different things"):
        make_objective(decoder, taught, tokenizer, 0)
