"""Re-initialising changes the top, only the top, and gives it what the layout begins with."""

import pytest
import torch
import toy
from shape import LAYERS

from wellread.finetune.stability.layers import depths
from wellread.finetune.stability.reinitialise import reinitialise
from wellread.models import build


@pytest.mark.parametrize("kind", ["classify", "tag"])
@pytest.mark.parametrize("layout", toy.LAYOUTS)
@pytest.mark.parametrize("layers", [1, LAYERS])
def test_only_the_top_changes(layout, kind, layers, model):
    made, before = model(layout, kind), dict(model(layout, kind).named_parameters())
    with torch.no_grad():  # pre-training would have moved the norms and biases
        for weight in (*made.parameters(), *before.values()):
            weight.add_(0.01)
    reinitialise(made, layers, 0)
    std = made.config.initializer_range
    for name, depth in depths(made).items():
        weight = made.get_parameter(name)
        if depth > layers or name.startswith(("classifier.", "score.")):
            assert torch.equal(weight, before[name]), name
        elif weight.ndim == 1:
            assert (weight == (0 if name.endswith("bias") else 1)).all(), name
        else:
            assert not torch.equal(weight, before[name]), name
            assert abs(weight.mean().item()) < 0.2 * std, name
            if layout == "bert":
                assert weight.std().item() == pytest.approx(std, rel=0.1), name


def test_no_layers_is_the_plain_run(model, finetune, same):
    made, before = model(), dict(model().named_parameters())
    reinitialise(made, 0, 0)
    assert all(torch.equal(weight, before[name]) for name, weight in made.named_parameters())
    assert same(finetune(reinit_layers=0), finetune())
    assert not same(finetune(reinit_layers=1), finetune())


def test_seeds_draw_different_weights_and_leave_the_generator_alone(model):
    one, other, again = model(), model(), model()
    state = torch.random.get_rng_state()
    for made, seed in ((one, 0), (other, 1), (again, 0)):
        reinitialise(made, 1, seed)
    assert torch.equal(state, torch.random.get_rng_state())
    name = f"model.layers.{LAYERS - 1}.mlp.Wi.weight"
    assert torch.equal(one.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_a_language_model_keeps_its_head(layout, checkpoints):
    folder, _ = checkpoints(layout)
    head = "clm" if layout in ("llama", "gpt2") else "mlm"
    made, before = build.load(folder, head), dict(build.load(folder, head).named_parameters())
    with torch.no_grad():
        for weight in (*made.parameters(), *before.values()):
            weight.add_(0.01)
    reinitialise(made, 1, 0)
    body = f"{made.base_model_prefix}."
    changed = {name for name, weight in made.named_parameters() if not torch.equal(weight, before[name])}
    depth = depths(made)
    assert changed == {name for name in depth if depth[name] <= 1 and name.startswith(body)}
