"""Layer-wise rates are exact, and a decay of 1 is plain AdamW."""

import pytest
import torch
import toy
from shape import LAYERS

from wellread.finetune.optimizer import optimizer, set_rates
from wellread.finetune.stability.decay import peak_rates
from wellread.finetune.stability.layers import depths


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_rates_are_the_closed_form(layout, model):
    made = model(layout)
    found = peak_rates(made, 3e-5, 0.95)
    assert found == {name: 3e-5 * 0.95**depth for name, depth in depths(made).items()}
    assert found["score.weight" if layout in ("llama", "gpt2") else "classifier.weight"] == 3e-5
    assert min(found.values()) == 3e-5 * 0.95 ** (LAYERS + 1)


def test_the_first_step_of_each_layer_has_the_size_of_its_rate(model):
    made = model()
    settings = toy.settings(learning_rate=1e-2, layer_decay=0.5, weight_decay=0.0, eps=1e-12)
    before = {name: weight.detach().clone() for name, weight in made.named_parameters()}
    optimiser = optimizer(made, settings)
    for weight in made.parameters():
        weight.grad = torch.randn_like(weight).sign()
    set_rates(optimiser, settings, 0, 0.5)
    optimiser.step()
    for name, depth in depths(made).items():
        size = (made.get_parameter(name) - before[name]).abs()
        assert torch.allclose(size, torch.tensor(0.5 * 1e-2 * 0.5**depth), rtol=2e-2, atol=1e-7), name


def test_a_decay_of_one_is_plain_adamw_bit_for_bit(model):
    """Against torch's own optimiser on the two plain groups, with the same gradients."""
    ours, plain = model("bert"), model("bert")
    settings = toy.settings(learning_rate=1e-3, weight_decay=0.1)
    optimiser = optimizer(ours, settings)
    assert len(optimiser.param_groups) == 2
    matrices = [w for w in plain.parameters() if w.ndim >= 2]
    vectors = [w for w in plain.parameters() if w.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=settings.eps, fused=True)
    for step, factor in enumerate((0.5, 1.0, 0.3)):
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        set_rates(optimiser, settings, step, factor)
        for group in reference.param_groups:
            group["lr"] = 1e-3 * factor
        optimiser.step()
        reference.step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_groups_of_equal_rate_change_nothing(finetune, same, monkeypatch):
    """Split by layer, with all rates equal, the run is the plain one to the bit."""
    from wellread.finetune import optimizer as module

    plain = finetune("tag")
    split = {"groups": 0}

    def by_name(model, peak, decay):
        # The next double after the peak: another group, the same float32.
        peaks = {name: peak * (1 + (number % 2) * 2.3e-16) for number, name in enumerate(depths(model))}
        split["groups"] = len(set(peaks.values()))
        return peaks

    monkeypatch.setattr(module, "peak_rates", by_name)
    assert same(finetune("tag"), plain)
    assert split["groups"] == 2
    monkeypatch.undo()
    assert not same(finetune("tag", layer_decay=0.9), plain)
