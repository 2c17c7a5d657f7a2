"""Which layers are copied where, and which depth growth keeps the function."""

import pytest
import torch
from grown import LAYOUTS, logits, make, shape

from wellread.models.grow.deepen import layer_sources
from wellread.models.grow.grow import grow
from wellread.models.grow.shapes import STACKS


def test_orders_of_copies():
    assert layer_sources(3, 7, "stack") == [0, 1, 2, 0, 1, 2, 0]
    assert layer_sources(3, 7, "interleave") == [0, 0, 0, 1, 1, 2, 2]
    assert layer_sources(3, 3, "stack") == layer_sources(3, 3, "interleave") == [0, 1, 2]


@pytest.mark.parametrize("how", ["stack", "interleave"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_new_layers_hold_their_sources_weights(layout, how):
    small = make(layout)
    large = grow(small, shape(layout, layers=6, grow="stack", grow_depth=how), seed=1)
    old, new = (model.get_submodule(STACKS[layout]) for model in (small, large))
    assert len(new) == large.config.num_hidden_layers == 6
    for layer, source in zip(new, layer_sources(3, 6, how), strict=True):
        state = layer.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in old[source].state_dict().items())
    if layout == "modernbert":
        copy = 3 if how == "stack" else 1
        assert torch.equal(new[copy].attn_norm.weight, small.model.embeddings.norm.weight)
    rest = {name for name in small.state_dict() if not name.startswith(STACKS[layout])}
    assert all(torch.equal(large.state_dict()[name], small.state_dict()[name]) for name in rest)
    assert torch.isfinite(logits(large)).all()


@pytest.mark.parametrize("hidden", [32, 64])
@pytest.mark.parametrize("layout", ["modernbert", "llama", "gpt2"])
def test_identity_layers_keep_the_function(layout, hidden):
    small = make(layout, torch.float64)
    large = grow(small, shape(layout, layers=5, hidden=hidden, grow_depth="identity"), seed=1)
    torch.testing.assert_close(logits(large), logits(small), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["function-preserving", "advanced"])
def test_wide_then_deep(method):
    small = make("bert", torch.float64)
    large = grow(small, shape("bert", layers=6, hidden=64, ffn=96, grow=method), seed=1)
    wide = grow(small, shape("bert", layers=3, hidden=64, ffn=96, grow=method), seed=1)
    stack, old = large.bert.encoder.layer, wide.bert.encoder.layer
    for number in range(6):
        expected = old[number % 3].state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in stack[number].state_dict().items())
