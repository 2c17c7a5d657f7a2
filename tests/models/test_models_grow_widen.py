"""Function-preserving growth computes the same; copies diverge; AKI takes from the layer above."""

import pytest
import torch
from grown import LAYOUTS, logits, make, shape

from wellread.models.grow.grow import grow
from wellread.models.grow.shapes import Shape, larger
from wellread.models.grow.widen import shares, widen

RATIOS = {"twice": (64, 96), "three times": (96, 200), "inner only": (32, 56)}


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_equal_before_and_after(layout, ratio, dtype, error):
    hidden, inner = RATIOS[ratio]
    small = make(layout, dtype)
    large = grow(small, shape(layout, hidden=hidden, ffn=inner), seed=1)
    before, after = logits(small), logits(large)
    assert before.std() > 0.1  # the models say something
    assert (after - before).abs().max() < error * before.abs().max()
    assert large.config.hidden_size == hidden


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_output_layer_of_its_own_is_grown_too(layout):
    small = make(layout, torch.float64, tie_word_embeddings=False)
    large = grow(small, shape(layout, hidden=64), seed=1)
    assert large.get_output_embeddings().weight.shape == (97, 64)
    torch.testing.assert_close(logits(large), logits(small), rtol=0, atol=1e-12)


def test_heads_that_share_keys_grow_by_groups():
    small = make("llama", torch.float64, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    large = grow(small, shape("llama", hidden=64, heads=8), seed=1)
    assert large.config.num_key_value_heads == 4
    torch.testing.assert_close(logits(large), logits(small), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_width_that_is_no_multiple_would_change_the_function(layout):
    small = make(layout, torch.float64)
    wide = larger(small.config, shape(layout, hidden=48, heads=3), 3)
    assert (logits(widen(small, wide, 0)) - logits(small)).abs().max() > 1e-3


def test_shares_of_copies_sum_to_one_and_differ():
    inputs = torch.arange(10) % 4
    found = shares(inputs, 5, 0.5, seed=0)
    sums = torch.zeros(4, 5, dtype=torch.float64).index_add_(0, inputs, found)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert (found > 0).all() and (found[0] - found[4]).abs().min() > 1e-3
    even = shares(inputs, 5, 0.0, seed=0)
    assert even[0, 0] == pytest.approx(1 / 3) and even[2, 0] == 0.5


@pytest.mark.parametrize(("uneven", "apart"), [(0.0, False), (0.5, True)])
def test_copies_diverge_in_training_only_if_they_share_unevenly(uneven, apart):
    """Without dropout, even copies have equal gradients and stay copies."""
    small = make("bert", torch.float64)
    large = widen(small, larger(small.config, shape("bert", hidden=64, ffn=96), 3), 0, uneven=uneven)
    optimizer = torch.optim.AdamW(large.parameters(), lr=1e-3)
    ids = torch.arange(24).view(2, 12) % 90 + 5
    for _ in range(5):
        optimizer.zero_grad()
        large(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    weight = large.bert.encoder.layer[1].intermediate.dense.weight
    distance = float((weight[:48] - weight[48:]).detach().abs().max())
    assert distance > 1e-4 if apart else distance < 1e-12


@pytest.mark.parametrize("layout", LAYOUTS)
def test_advanced_growth_takes_new_outputs_from_the_layer_above(layout):
    small = make(layout, torch.float64)
    large = grow(small, shape(layout, hidden=64, ffn=96, grow="advanced"), seed=1)
    name = {
        "modernbert": "model.layers.{}.mlp.Wi.weight",
        "bert": "bert.encoder.layer.{}.intermediate.dense.weight",
        "llama": "model.layers.{}.mlp.up_proj.weight",
        "gpt2": "transformer.h.{}.mlp.c_fc.weight",
    }[layout]

    def matrix(model, layer):
        weight = model.state_dict()[name.format(layer)]
        return weight.T if layout == "gpt2" else weight

    for layer, above in ((0, 1), (1, 2), (2, 2)):
        grown = matrix(large, layer)[:96]
        own, upper = (matrix(small, number)[:48] for number in (layer, above))
        assert torch.equal(grown[:48], torch.cat([own, own], 1) / 2)
        assert torch.equal(grown[48:], torch.cat([upper, upper], 1) / 2)
    assert (logits(large) - logits(small)).abs().max() > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_advanced_growth_works_at_any_ratio(layout):
    large = grow(make(layout), shape(layout, hidden=48, heads=3, ffn=50, grow="advanced"), seed=1)
    assert torch.isfinite(logits(large)).all()
    assert Shape.of(large.config).axes["f"] == 50
