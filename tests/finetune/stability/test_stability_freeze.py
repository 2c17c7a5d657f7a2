"""Frozen weights stay as they were to the bit, and cost the optimiser nothing."""

import pytest
import torch
import toy
from shape import LAYERS

from wellread.finetune.optimizer import optimizer
from wellread.finetune.stability.freeze import freeze
from wellread.finetune.stability.layers import depths
from wellread.models import build


@pytest.mark.parametrize("layers", [0, 2, LAYERS])
@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_frozen_weights_are_those_of_the_start(layout, layers, finetune, checkpoints):
    result = finetune(layout=layout, freeze_layers=layers, weight_decay=0.1)
    before = build.load(checkpoints(layout)[0], "clm" if layout in ("llama", "gpt2") else "mlm").base_model
    before = dict(before.named_parameters())
    body = result.model.base_model
    prefix = result.model.base_model_prefix + "."
    for name, depth in depths(result.model).items():
        if depth > LAYERS - layers:
            name = name.removeprefix(prefix)
            assert torch.equal(body.get_parameter(name), before[name]), name


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_all_other_weights_move(kind, finetune, checkpoints, model):
    result = finetune(kind, freeze_layers=1)
    start = dict(model("modernbert", kind).named_parameters())
    for name, depth in depths(result.model).items():
        if 0 < depth <= LAYERS - 1:
            assert not torch.equal(result.model.get_parameter(name), start[name]), name


def test_frozen_weights_have_no_state_in_the_optimiser(model):
    made = model()
    freeze(made, 2)
    optimiser = optimizer(made, toy.settings())
    for weight in made.parameters():
        weight.grad = torch.ones_like(weight)
    optimiser.step()
    trained = {id(weight) for weight in made.parameters() if weight.requires_grad}
    assert {id(weight) for weight in optimiser.state} == trained
    depth = depths(made)
    assert {name for name, w in made.named_parameters() if not w.requires_grad} == {
        name for name in depth if depth[name] >= 2
    }


def test_nothing_is_frozen_by_default(model):
    made = model()
    freeze(made, None)
    assert all(weight.requires_grad for weight in made.parameters())
