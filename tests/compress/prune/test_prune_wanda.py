"""Wanda: the norms, the choice, the order of the layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wellread.compress.prune import masks, wanda
from wellread.compress.prune.settings import WandaSettings
from wellread.compress.subject import load_model, open_subject, scores
from wellread.models import packed


@pytest.fixture(params=["modernbert", "gpt2"])
def subject(request, fine_tuned):
    folder, task, settings, _ = fine_tuned("classify", request.param)
    return open_subject(folder, task, settings)


@pytest.mark.parametrize("pattern", ["unstructured", "block8"])
def test_equal_norms_are_magnitude_by_row(pattern):
    layer = nn.Linear(32, 16)
    expected = masks.choose(layer.weight.detach().square(), 0.5, pattern, by_row=True)
    before = layer.weight.detach().clone()
    live = wanda.prune_matrix(layer, torch.full((32,), 3.0), WandaSettings(level=0.5, pattern=pattern))
    assert torch.equal(live, expected)
    torch.testing.assert_close(layer.weight.detach(), before * expected)


def test_a_feature_that_never_comes_goes_first():
    layer, norms = nn.Linear(8, 4), torch.ones(8)
    norms[2] = 0
    live = wanda.prune_matrix(layer, norms, WandaSettings(level=0.125))
    assert not live[:, 2].any()
    assert int(live.sum()) == 28


def test_norms_are_those_of_all_tokens(subject):
    """Against the inputs themselves, collected by hand."""
    model, batches = load_model(subject), wanda.calibration(subject, 20, 0)
    assert sum(batch.sequences for batch in batches) == 20
    found = masks.matrices(model)
    name = list(found)[-1]
    seen = []
    handle = found[name].register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    with torch.inference_mode():
        for batch in batches:
            packed.hidden_states(model, batch)
    handle.remove()
    norms = wanda.input_norms(model, {name: found[name]}, batches)[name]
    torch.testing.assert_close(norms, torch.cat(seen).norm(dim=0))


def test_later_layers_see_what_pruned_ones_give(subject):
    """The last layer's mask follows from the norms under already pruned layers, not under dense ones."""
    settings = WandaSettings(level=0.5, calibration=40)
    model = wanda.prune(subject, settings, 1)
    dense, batches = load_model(subject), wanda.calibration(subject, 40, 1)
    first = {name for name in masks.matrices(model) if ".1." not in name}
    partly = load_model(subject)
    for name in first:
        matrix = masks.matrices(partly)[name]
        matrix.weight.data.copy_(masks.matrices(model)[name].weight)
    for name, matrix in masks.matrices(partly).items():
        if name not in first:
            norms = wanda.input_norms(partly, {name: matrix}, batches)[name]
            weight = masks.oriented(matrix, masks.matrices(dense)[name].weight.detach())
            live = masks.choose((weight.abs() * norms).square(), 0.5, "unstructured", by_row=True)
            pruned = masks.oriented(matrix, masks.matrices(model)[name].weight.detach())
            assert torch.equal(pruned, weight * live)


def test_training_afterwards_keeps_the_zeros(subject):
    settings = WandaSettings(level=0.5, calibration=40)
    bare = wanda.prune(subject, settings, 0)
    trained = wanda.prune(subject, settings.model_copy(update={"train": True, "epochs": 3}), 0)
    for name, matrix in masks.matrices(bare).items():
        assert torch.equal(matrix.weight != 0, masks.matrices(trained)[name].weight != 0)
    assert scores(trained, subject)["macro_f1"] >= scores(bare, subject)["macro_f1"] - 0.05
