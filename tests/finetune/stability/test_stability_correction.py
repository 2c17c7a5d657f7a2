"""Without bias correction every step is the closed form of the original BERT optimiser."""

import math

import pytest
import torch
import toy

from wellread.finetune.optimizer import optimizer, set_rates
from wellread.finetune.stability.correction import uncorrected


def test_the_first_update_is_the_closed_form(model):
    made = model()
    settings = toy.settings(learning_rate=1e-3, weight_decay=0.0, bias_correction=False)
    before = made.classifier.weight.detach().clone()
    gradient = 0.3 * torch.randn_like(before)
    made.classifier.weight.grad = gradient
    optimiser = optimizer(made, settings)
    set_rates(optimiser, settings, 0, 1.0)
    optimiser.step()
    expected = before - 1e-3 * 0.1 * gradient / (math.sqrt(0.001) * gradient.abs() + settings.eps)
    assert torch.allclose(made.classifier.weight, expected, atol=1e-8)
    size = (made.classifier.weight - before).abs().median().item()
    assert size == pytest.approx(3.162e-3, rel=1e-2)  # 3.16 times the rate


def test_every_step_is_that_of_the_plain_reference():
    weight = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    optimiser = torch.optim.AdamW([weight], betas=(0.9, 0.999), fused=True)
    reference, m, v = weight.detach().clone(), torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    for step in range(1, 9):
        rate, eps, decay = 1e-2 / step, 1e-3, 0.1
        weight.grad = torch.randn_like(weight)
        optimiser.param_groups[0].update(uncorrected(step, rate, eps, decay, (0.9, 0.999)))
        optimiser.step()
        m = 0.9 * m + 0.1 * weight.grad
        v = 0.999 * v + 0.001 * weight.grad**2
        reference = reference * (1 - rate * decay) - rate * m / (v.sqrt() + eps)
        assert torch.allclose(weight, reference, rtol=1e-12, atol=1e-14)


def test_a_run_without_it_differs(finetune, same):
    assert not same(finetune(bias_correction=False), finetune())
