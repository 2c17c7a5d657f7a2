"""Bottleneck adapters: formula, places, and the one adapter that all places share."""

import pytest
import torch
import toy
from equipped import logits, made, randomise

from wellread.finetune.light import sites
from wellread.finetune.light.houlsby import Bottleneck


def test_the_formula():
    torch.manual_seed(0)
    adapter = Bottleneck(6, 3)
    for weight in adapter.parameters():
        torch.nn.init.normal_(weight)
    h = torch.randn(5, 6)
    inner = torch.nn.functional.gelu(h @ adapter.down.weight.T + adapter.down.bias)
    assert torch.allclose(adapter(h), h + inner @ adapter.up.weight.T + adapter.up.bias, atol=1e-6)


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_each_place_has_its_own_adapter_after_the_projection(layout, tokenizer):
    model = randomise(made("houlsby", layout, tokenizer))
    places = sites.outputs(model, ffn=True)
    assert len(model.light) == len(places) == 4
    assert len({id(adapter) for adapter in model.light}) == 4
    seen = {}
    for number, module in enumerate(places):
        module.register_forward_hook(lambda m, given, out, n=number: seen.__setitem__(n, (given[0], out)))
    logits(model)
    for number, module in enumerate(places):
        given, out = seen[number]
        assert torch.allclose(out, model.light[number](module.forward(given)), atol=1e-6)


def test_the_lightweight_adapter_is_one_without_biases(tokenizer):
    model = randomise(made("lightweight", "modernbert", tokenizer))
    assert [name for name, _ in model.light.named_parameters()] == ["0.down.weight", "0.up.weight"]
    logits(model).square().sum().backward()
    shared = model.light[0].up.weight.grad
    hooks = [module._forward_hooks for module in sites.outputs(model, ffn=True)]
    assert all(len(hook) == 1 for hook in hooks)
    for hook in hooks[1:]:
        hook.clear()
    model.zero_grad()
    logits(model).square().sum().backward()
    assert not torch.allclose(model.light[0].up.weight.grad, shared)  # the other places had their share
