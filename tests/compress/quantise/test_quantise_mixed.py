"""Bits from sensitivities."""

import pytest
import torch
import toy

from wellread.compress.quantise import mixed, weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.errors import UserError
from wellread.models import heads


def test_the_more_sensitive_half_gets_more():
    assert mixed.halves([1.0, 5.0, 3.0, 0.5], 2, 3) == (2, 3, 3, 2)
    assert mixed.halves([1.0, 5.0, 3.0], 2, 4) == (2, 4, 2)


def test_budget_is_kept_and_used_and_prefers_the_sensitive():
    errors = [{2: 4.0, 4: 1.0, 8: 0.01}] * 4
    sizes = [100] * 4
    omega = [1.0, 8.0, 2.0, 0.1]
    assert mixed.budget(omega, sizes, errors, 2) == (2, 2, 2, 2)
    assert mixed.budget(omega, sizes, errors, 8) == (8, 8, 8, 8)
    assert mixed.budget(omega, sizes, errors, 3) == (2, 4, 4, 2)
    previous = (2, 2, 2, 2)
    for bits in (2.5, 3, 3.5, 4, 5, 6):
        found = mixed.budget(omega, sizes, errors, bits)
        assert sum(found) <= 4 * bits and sum(found) >= sum(previous)
        assert found[1] == max(found)
        previous = found
    with pytest.raises(UserError, match="below the 2 bits"):
        mixed.budget(omega, sizes, errors, 1.5)


def test_small_layers_are_raised_first_where_the_gain_is_equal():
    errors = [{2: 4.0, 4: 1.0}] * 2
    assert mixed.budget([1.0, 1.0], [100, 400], errors, 2.5) == (4, 2)


def test_errors_are_those_of_the_weights(tmp_path):
    tokenizer = toy.make_tokenizer(tmp_path)
    model = heads.task_model(toy.model("gpt2"), tokenizer, "classify", ("a", "b"), 0.0, 0)
    settings = QuantiseSettings(groups=4)
    sizes, errors = mixed.squared_errors(model, settings, (2, 3, 8))
    assert sizes == [12 * 32 * 32] * 2
    assert all(layer[2] > layer[3] > layer[8] > 0 for layer in errors)
    layer = model.transformer.h[1]
    schemes = weights.plan(model, settings.model_copy(update={"bits": 3}))
    expected = 0.0
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        weight = layer.get_submodule(name).weight
        values = weights.decode(weights.encode(weight, schemes[f"transformer.h.1.{name}.weight"]))
        expected += float(torch.dist(values.double(), weight.double()) ** 2)
    assert errors[1][3] == pytest.approx(expected)
