"""The optimiser: sizes of steps, what decays, what is trained."""

import torch
import toy

from wellread.finetune.optimizer import optimizer, set_rates
from wellread.models import heads


def test_the_first_step_has_the_size_of_the_learning_rate(tokenizer):
    """Bias-corrected Adam (arXiv 2006.05987): uncorrected, the first step would be 3.16 times as large."""
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    settings = toy.settings(learning_rate=1e-3, weight_decay=0.0, eps=1e-12)
    optimiser = optimizer(model, settings)
    before = model.classifier.weight.detach().clone()
    model.classifier.weight.grad = torch.full_like(before, 0.3) * torch.randn_like(before).sign()
    optimiser.step()
    assert torch.allclose((model.classifier.weight - before).abs(), torch.tensor(1e-3), rtol=1e-3)


def test_only_matrices_decay(tokenizer):
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    decayed, plain = optimizer(model, toy.settings(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in plain["params"]} == {1}
    both = [id(p) for group in (decayed, plain) for p in group["params"]]
    assert sorted(both) == sorted({id(p) for p in model.parameters()})


def test_rates_follow_the_schedule_and_corrected_steps_leave_the_rest_alone(tokenizer):
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    settings = toy.settings(learning_rate=1e-3, weight_decay=0.1)
    optimiser = optimizer(model, settings)
    set_rates(optimiser, settings, 3, 0.25)
    found = [(g["lr"], g["eps"], g["weight_decay"]) for g in optimiser.param_groups]
    assert found == [(1e-3 * 0.25, settings.eps, 0.1), (1e-3 * 0.25, settings.eps, 0.0)]


def test_only_what_needs_a_gradient_is_trained(tokenizer):
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    for weight in model.base_model.parameters():
        weight.requires_grad_(False)
    names = {id(weight): name for name, weight in model.named_parameters()}
    trained = {names[id(w)] for g in optimizer(model, toy.settings()).param_groups for w in g["params"]}
    assert trained == {"head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"}
