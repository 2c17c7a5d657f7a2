"""Averages are the closed forms, and what they give is what is evaluated and kept."""

import pytest
import torch

from wellread.finetune.stability import averaging


def points(kind, steps=6, **changes):
    """Weights after each step of a toy run, and the average over them."""
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    options = {"ema_decay": 0.9, "swa_last": 0.5, **changes}
    average = averaging.begin(layer, kind, steps, **options)
    seen = []
    for step in range(steps):
        with torch.no_grad():
            layer.weight.add_(torch.randn(2, 3))
        averaging.update(average, step)
        seen.append(layer.weight.detach().clone())
    return layer, average, torch.stack(seen)


def test_ema_is_the_weighted_mean_of_all_points():
    _, average, seen = points("ema")
    weights = torch.tensor([0.9 ** (5 - number) for number in range(6)])
    expected = (weights[:, None, None] * seen).sum(0) / weights.sum()
    assert torch.allclose(average.means[0], expected, atol=1e-6)
    assert len(average.means) == 1  # the frozen bias has none


def test_swa_is_the_mean_of_the_last_points():
    _, average, seen = points("swa")
    assert average.points == 3
    assert torch.allclose(average.means[0], seen[3:].mean(0), atol=1e-6)


@pytest.mark.parametrize(("kind", "changes"), [("ema", {"ema_decay": 0.0}), ("swa", {"swa_last": 0.01})])
def test_a_mean_of_one_point_is_that_point(kind, changes):
    _, average, seen = points(kind, **changes)
    assert torch.equal(average.means[0], seen[-1])


def test_the_mean_is_in_the_model_within_the_block_only():
    layer, average, seen = points("swa")
    with pytest.raises(RuntimeError), averaging.applied(average):
        assert torch.allclose(layer.weight, seen[3:].mean(0), atol=1e-6)
        raise RuntimeError
    assert torch.equal(layer.weight, seen[-1])
    with averaging.applied(None):
        pass


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_an_ema_without_memory_is_the_plain_run(kind, finetune, same):
    plain = finetune(kind, average="none")
    assert same(finetune(kind, average="ema", ema_decay=0.0), plain)
    assert not same(finetune(kind, average="ema", ema_decay=0.9), plain)


def test_swa_of_one_point_is_the_last_one(finetune, same):
    once = finetune(evaluations=1)
    assert same(finetune(evaluations=1, average="swa", swa_last=0.01), once)
    assert not same(finetune(evaluations=1, average="swa", swa_last=0.5), once)


def test_the_mean_is_what_is_kept(finetune, monkeypatch):
    states, real = [], torch.optim.AdamW.step

    def step(self, *args, **options):
        real(self, *args, **options)
        found = [weight for group in self.param_groups for weight in group["params"]]
        states.append({tuple(w.shape): w.detach().clone() for w in found})

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    result = finetune(evaluations=1, average="swa", swa_last=0.5, freeze_layers=1)
    kept = result.model.classifier.weight
    mean = torch.stack([state[tuple(kept.shape)] for state in states[3:]]).mean(0)
    assert torch.allclose(kept, mean, atol=1e-6)
    assert not torch.equal(kept, states[-1][tuple(kept.shape)])


def test_moments_before_the_mean_begins_are_not_looked_at(finetune):
    result = finetune(evaluations=6, average="swa", swa_last=0.5, patience=1)
    assert result.history[0]["step"] == 4
