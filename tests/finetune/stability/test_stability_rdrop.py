"""R-Drop: the divergence is the textbook's, and a weight of 0 is the plain run."""

import pytest
import torch
import toy
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from wellread.finetune.stability.rdrop import divergence


@pytest.mark.parametrize("kind", toy.KINDS)
def test_the_divergence_is_the_mean_of_both_directions(kind):
    first, second = torch.randn(2, 5, 1 if kind == "regress" else 4, dtype=torch.float64)
    if kind == "regress":
        p, q = Normal(first, 1.0), Normal(second, 1.0)
    elif kind == "multilabel":
        p, q = Bernoulli(logits=first), Bernoulli(logits=second)
    else:
        p, q = Categorical(logits=first), Categorical(logits=second)
    expected = 0.5 * (kl_divergence(p, q) + kl_divergence(q, p)).mean()
    assert divergence(kind, first, second).item() == pytest.approx(expected.item(), rel=1e-9)
    assert divergence(kind, first, first).item() == 0


@pytest.mark.parametrize("kind", toy.KINDS)
def test_no_weight_is_the_plain_run_and_a_weight_is_not(kind, finetune, same):
    plain = finetune(kind)
    assert same(finetune(kind, rdrop=0.0), plain)
    result = finetune(kind, rdrop=1.0)
    assert not result.failed
    assert not same(result, plain)


def test_without_dropout_both_passes_agree(finetune):
    plain, doubled = finetune(dropout=0.0, max_steps=1), finetune(dropout=0.0, max_steps=1, rdrop=5.0)
    assert doubled.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-6)
