"""Dropout by a seed and a place: the mask it says, on the way there and back."""

from __future__ import annotations

import copy
import ctypes

import pytest
import stock
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from wellread.models import build, packed
from wellread.models.dropout import draw_seed, dropout, factors, layer
from wellread.sparsity.kernels import build as kernels

needs_kernels = pytest.mark.skipif(
    kernels.load_elementwise() is None, reason="no C++ compiler, so no kernels"
)


@needs_kernels
@pytest.mark.parametrize("shape", [(1,), (7, 5), (3, 100, 16), (300, 1), (2000, 512), (0, 4)])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
def test_the_kernel_applies_the_mask_of_the_plain_function(shape, rate, threads):
    torch.manual_seed(0)
    x, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
    torch.manual_seed(7)
    y = dropout(x, rate)
    (back,) = torch.autograd.grad(y, x, gradient)
    torch.manual_seed(7)
    expected = factors(draw_seed(), x.numel() // shape[-1], shape[-1], rate).float().view(shape)
    assert torch.equal(y, x * expected)
    assert torch.equal(back, gradient * expected)


@needs_kernels
@pytest.mark.parametrize("shape", [(7, 5), (2000, 512)])
def test_bfloat16_is_dropped_before_it_is_rounded(shape, threads):
    torch.manual_seed(0)
    x, gradient = torch.randn(shape).bfloat16(), torch.randn(shape)

    def dropped(given):
        given = given.clone().requires_grad_()
        torch.manual_seed(7)
        made = dropout(given, 0.3)
        return made, torch.autograd.grad(made, given, gradient)[0]

    (found, back), (expected, wanted) = dropped(x), dropped(x.float())
    assert torch.equal(found, expected)
    assert torch.equal(back, wanted.bfloat16())


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_elements_are_dropped_independently_at_the_rate(rate):
    """Within five standard deviations: the share, and pairs of neighbours in rows, columns and two calls."""
    first, second = (factors(seed, 1000, 999, rate) > 0 for seed in (5, 6))
    kept = 1 - rate
    pairs = [(first[:, 1:], first[:, :-1]), (first[1:], first[:-1]), (first, second)]
    for a, chance in [(first, kept), *((x & y, kept * kept) for x, y in pairs)]:
        share = a.double().mean().item()
        assert abs(share - chance) < 5 * (chance * (1 - chance) / a.numel()) ** 0.5
    for sums in (first.double().sum(0), first.double().sum(1)):  # of a binomial distribution
        assert abs(sums.var().item() / (1000 * kept * rate) - 1) < 5 * (2 / 1000) ** 0.5


@needs_kernels
def test_a_layer_drops_in_training_only_and_strided_inputs_are_taken():
    module = nn.Dropout(0.3)
    x = torch.randn(40, 30)[:, ::3]
    torch.manual_seed(1)
    found = layer(module, x)
    torch.manual_seed(1)
    assert torch.equal(found, dropout(x.contiguous(), 0.3))
    assert layer(module.eval(), x) is x


@needs_kernels
def test_nothing_is_kept_and_a_recomputed_layer_drops_the_same():
    saved: list[torch.Tensor] = []
    x = torch.randn(64, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        dropout(x, 0.5)
    assert not saved
    torch.manual_seed(2)
    again = checkpoint(lambda t: dropout(t, 0.5).square(), x, use_reentrant=False)
    (found,) = torch.autograd.grad(again.sum(), x)
    torch.manual_seed(2)
    (expected,) = torch.autograd.grad(dropout(x, 0.5).square().sum(), x)
    assert torch.equal(found, expected)


def test_without_kernels_it_is_torchs(monkeypatch):
    monkeypatch.setattr(kernels, "load_elementwise", lambda: None)
    x = torch.randn(50, 50)
    torch.manual_seed(3)
    found = dropout(x, 0.4)
    torch.manual_seed(3)
    assert torch.equal(found, nn.functional.dropout(x, 0.4))


@needs_kernels
@pytest.mark.parametrize("name", kernels.INSTRUCTIONS)
def test_every_instruction_set_drops_the_same(name, monkeypatch):
    order = ["portable", "AVX2", "AVX512", "AVX512_BF16"]
    flags = ("-ffp-contract=off",)
    if order.index(name) > order.index(kernels.instructions()):
        pytest.skip(f"this machine has no {name}")
    library = ctypes.CDLL(str(kernels.compiled(name, flags, kernels.ELEMENTWISE)))
    monkeypatch.setattr(kernels, "load_elementwise", lambda: library)
    torch.manual_seed(7)
    found = dropout(torch.ones(33, 77), 0.3)
    torch.manual_seed(7)
    assert torch.equal(found, factors(draw_seed(), 33, 77, 0.3).float())


@pytest.mark.parametrize(
    ("layout", "head"), [("modernbert", "mlm"), ("bert", "mlm"), ("llama", "clm"), ("gpt2", "clm")]
)
def test_a_packed_model_in_training_follows_the_generator(layout, head):
    made = packed.enable(build.build(stock.settings(layout, dropout=0.2), stock.tokenizer(), head, 0)).train()
    batch = stock.batch([5, 1, 17, 30])
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(packed.hidden_states(copy.deepcopy(made), batch))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
