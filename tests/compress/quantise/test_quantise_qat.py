"""Training with quantised weights: what is trained is what is saved, and 2 bits come back to life."""

import pytest
import torch
import toy
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from wellread.compress.quantise import qat, weights
from wellread.compress.quantise.quantise import quantise
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.compress.subject import load_model, logits, open_subject, score_logits, scores
from wellread.errors import UserError
from wellread.models import build

LOW = QuantiseSettings(bits=2, groups="matrix", embedding_bits=4)


def subject_of(fine_tuned, kind, layout="modernbert", **changes):
    folder, task, _, _ = fine_tuned(kind, layout)
    return open_subject(folder, task, toy.settings(epochs=1, **changes))


def test_eight_bits_lose_nothing_and_fewer_lose_more(fine_tuned):
    subject = subject_of(fine_tuned, "classify")
    exact = logits(load_model(subject), subject)
    changes = []
    for bits in (8, 6, 4, 2):
        settings = QuantiseSettings(bits=bits, embedding_bits=bits)
        found = logits(quantise(subject, settings).model, subject)
        changes.append(float(abs(found - exact).mean() / abs(exact).mean()))
        if bits == 8:
            assert score_logits(found, subject) == score_logits(exact, subject)
    assert changes[0] < 0.02 and changes == sorted(changes)


@pytest.mark.parametrize(("kind", "layout"), [("classify", "modernbert"), ("tag", "bert")])
def test_training_gives_back_what_two_bits_take(fine_tuned, kind, layout):
    subject = subject_of(fine_tuned, kind, layout, min_steps=60)
    metric = subject.task.metric
    plain = quantise(subject, LOW).model
    found = qat.quantise_aware(subject, LOW, 0)
    after = scores(found.model, subject)[metric]
    assert after >= scores(plain, subject)[metric] and found.history
    targets = torch.from_numpy(subject.data.splits["dev"].targets)
    before_loss, loss = (
        float(cross_entropy(torch.from_numpy(logits(model, subject)), targets))
        for model in (plain, found.model)
    )
    assert loss < 0.8 * before_loss
    assert not any(parametrize.is_parametrized(module) for module in found.model.modules())
    for name, codes in found.codes.items():
        assert torch.equal(found.model.get_parameter(name), weights.decode(codes))
    # The moment that training kept is the one that is left, to the bit.
    assert after == pytest.approx(max(point["dev"] for point in found.history))


def test_regressions_keep_their_scale(fine_tuned):
    subject = subject_of(fine_tuned, "regress", min_steps=10, learning_rate=1e-4)
    found = qat.quantise_aware(subject, QuantiseSettings(activation_bits=8), 0)
    exact = logits(load_model(subject), subject)
    assert abs(logits(found.model, subject).mean() - exact.mean()) < 2  # scores are about 40


def test_activations_are_trained_along_and_calibration_follows_the_seed(fine_tuned):
    subject = subject_of(fine_tuned, "classify", min_steps=20)
    settings = QuantiseSettings(activation_bits=8, calibration=8)
    first, same, other = (quantise(subject, settings, seed).model for seed in (0, 0, 1))
    assert (logits(first, subject) == logits(same, subject)).all()
    assert (logits(first, subject) != logits(other, subject)).any()
    plain = quantise(subject, QuantiseSettings()).model
    assert (logits(first, subject) != logits(plain, subject)).any()
    trained = qat.quantise_aware(subject, settings, 0)
    moved = [
        float(now.high) != float(then.high)
        for now, then in zip(
            (m for n, m in trained.model.named_modules() if n.endswith("input_range")),
            (m for n, m in first.named_modules() if n.endswith("input_range")),
            strict=True,
        )
    ]
    assert moved and all(moved)


def test_a_failed_training_says_so(fine_tuned):
    subject = subject_of(fine_tuned, "classify", learning_rate=1.0, clip=1e30, warmup=0.0)

    def broken(*_):
        return torch.tensor(float("nan"), requires_grad=True)

    with pytest.raises(UserError, match="quantisation-aware training failed"):
        qat.quantise_aware(subject, LOW, 0, loss=broken)


def test_tied_models_are_refused(tmp_path):
    tokenizer = toy.make_tokenizer(tmp_path)
    model = build.build(toy.model(), tokenizer, "mlm", 0)
    with pytest.raises(ValueError, match="tied"):
        qat.prepare(model, weights.plan(model, LOW))
