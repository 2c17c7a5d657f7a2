"""The short way through a ModernBERT layer gives the stock layer's bits, forward and back, and keeps less."""

from __future__ import annotations

import copy

import pytest
import stock
import torch
from torch.nn.functional import gelu

from wellread.models import build, fused, heads, packed


def model():
    made = build.build(stock.settings("modernbert"), stock.tokenizer(), "mlm", 0)
    stock.randomise(made)
    return made


def results(made, batch):
    made.zero_grad()
    logits = heads.lm_logits(made, packed.hidden_states(made, batch))
    logits.square().mean().backward()
    return logits.detach(), {name: parameter.grad.clone() for name, parameter in made.named_parameters()}


@pytest.mark.parametrize("training", [True, False])
def test_bits_of_the_stock_layers(training):
    short = packed.enable(model()).train(training)
    stocked = fused.unfuse(copy.deepcopy(short))
    batch = stock.batch([5, 1, 17, 30])
    (logits, gradients), (expected, wanted) = results(short, batch), results(stocked, batch)
    assert torch.equal(logits, expected)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, wanted[name]), name


def test_enabling_and_disabling_are_inverse():
    made = packed.enable(model())
    layer = made.base_model.layers[0]
    assert "forward" in vars(layer.mlp) and "forward" in vars(layer.attn)
    packed.disable(made)
    assert "forward" not in vars(layer.mlp) and "forward" not in vars(layer.attn)


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 6)])
def test_gated_gelu(shape):
    halves = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    first, second = halves.chunk(2, -1)
    assert torch.equal(fused.gated_gelu(halves), gelu(first) * second)
    assert torch.autograd.gradcheck(fused.gated_gelu, halves)


def test_rotation_turns_back():
    qkv = torch.randn(1, 6, 3, 2, 8, dtype=torch.float64, requires_grad=True)
    angle = torch.randn(1, 6, 4, dtype=torch.float64).repeat(1, 1, 2)
    assert torch.autograd.gradcheck(lambda x: fused._Rotate.apply(x, angle.cos(), angle.sin()), qkv)
    query, key, value = fused._Rotate.apply(qkv, angle.cos(), angle.sin())
    torch.testing.assert_close(query.norm(dim=-1), qkv[:, :, 0].norm(dim=-1))
    torch.testing.assert_close(key.norm(dim=-1), qkv[:, :, 1].norm(dim=-1))
    assert torch.equal(value, qkv[:, :, 2])


def test_bfloat16_takes_the_stock_rotation():
    made = packed.enable(model())
    stocked = fused.unfuse(copy.deepcopy(made))
    batch = stock.batch([9, 4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (logits, _), (expected, _) = results(made, batch), results(stocked, batch)
    assert torch.equal(logits, expected)


def test_the_gate_keeps_its_input_and_nothing_else():
    def kept(function):
        saved = []  # holds the tensors, so that no memory is used twice
        halves = torch.randn(64, 32, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            function(halves)
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
        return sum(sizes.values())

    assert kept(fused.gated_gelu) == 64 * 32 * 4
    assert kept(lambda x: gelu(x[:, :16]) * x[:, 16:]) == 64 * 48 * 4
