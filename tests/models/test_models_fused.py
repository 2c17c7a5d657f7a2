"""The short way through a ModernBERT layer: what the stock one gives, forward and back, and less is kept."""

from __future__ import annotations

import copy

import pytest
import stock
import torch
from torch.nn.functional import gelu

from wellread.models import build, fused, heads, packed
from wellread.models.dropout import dropout
from wellread.sparsity.kernels import build as kernels

needs_kernels = pytest.mark.skipif(
    kernels.load_elementwise() is None, reason="no C++ compiler, so no kernels"
)


@pytest.fixture
def plain(monkeypatch):
    """Torch operations instead of the compiled kernels."""
    monkeypatch.setattr(kernels, "load_elementwise", lambda: None)


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
def test_torch_operations_give_the_bits_of_the_stock_layers(training, plain):
    short = packed.enable(model()).train(training)
    stocked = fused.unfuse(copy.deepcopy(short))
    batch = stock.batch([5, 1, 17, 30])
    (logits, gradients), (expected, wanted) = results(short, batch), results(stocked, batch)
    assert torch.equal(logits, expected)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, wanted[name]), name


@needs_kernels
def test_the_kernels_differ_from_the_stock_layers_by_rounding():
    short = packed.enable(model())
    stocked = fused.unfuse(copy.deepcopy(short))
    batch = stock.batch([5, 1, 17, 30])
    (logits, gradients), (expected, wanted) = results(short, batch), results(stocked, batch)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


@needs_kernels
@pytest.mark.parametrize("width", [1, 5, 16, 37, 1024])
def test_the_kernels_gated_gelu_is_right(width, threads):
    """Against float64, over the whole range.

    1.5e-7 is the error of the approximation of erf; the rest of the bounds is rounding, as in torch's own.
    """
    torch.manual_seed(0)
    halves = torch.randn(700, 2 * width) * 4
    edges = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 9.0, -9.0, 13.5, -13.5, 50.0, -50.0])
    halves[:20, :width] = edges.repeat(2)[:, None]
    gradient = torch.randn(700, width)
    wide = halves.double().requires_grad_()
    first, gate = wide.chunk(2, -1)
    expected = gelu(first) * gate
    (wanted,) = torch.autograd.grad(expected, wide, gradient.double())
    halves.requires_grad_()
    found = fused.gated_gelu(halves)
    (back,) = torch.autograd.grad(found, halves, gradient)
    first, gate = first.detach().abs(), gate.detach().abs()
    assert ((found.double() - expected).abs() <= 4e-7 * first * gate + 1e-37).all()
    bound = 5e-7 * gradient.double().abs().repeat(1, 2) * torch.cat([gate, first], -1)
    assert ((back.double() - wanted).abs() <= bound + 1e-37).all()


@needs_kernels
@pytest.mark.parametrize("half", [4, 16, 19, 32])
def test_the_kernels_rotation_has_the_bits_of_torch(half, threads, monkeypatch):
    torch.manual_seed(0)
    qkv = torch.randn(1, 97, 3, 5, 2 * half, requires_grad=True)
    angle = torch.randn(1, 97, half).repeat(1, 1, 2)
    gradients = [torch.randn(1, 97, 5, 2 * half) for _ in range(3)]

    def turned():
        made = fused._Rotate.apply(qkv, angle.cos(), angle.sin())
        return [*made, *torch.autograd.grad(made, qkv, gradients)]

    compiled = turned()
    monkeypatch.setattr(kernels, "load_elementwise", lambda: None)
    for found, expected in zip(compiled, turned(), strict=True):
        assert torch.equal(found, expected)


@needs_kernels
@pytest.mark.parametrize("width", [5, 16, 37])
def test_the_kernels_bfloat16_is_float32_rounded_once(width, threads):
    """Bits and all: what autocast would give that widens before and narrows after."""
    torch.manual_seed(0)
    halves = (torch.randn(700, 2 * width) * 4).bfloat16()
    gradient = torch.randn(700, width).bfloat16()
    narrow, wide = halves.clone().requires_grad_(), halves.float().requires_grad_()
    found, expected = fused.gated_gelu(narrow), fused.gated_gelu(wide)
    assert torch.equal(found, expected.bfloat16())
    (back,) = torch.autograd.grad(found, narrow, gradient)
    (wanted,) = torch.autograd.grad(expected, wide, gradient.float())
    assert torch.equal(back, wanted.bfloat16())

    qkv = torch.randn(1, 97, 3, 5, 2 * width).bfloat16()
    angle = torch.randn(1, 97, width).repeat(1, 1, 2)
    gradients = [torch.randn(1, 97, 5, 2 * width) for _ in range(3)]
    narrow, wide = qkv.clone().requires_grad_(), qkv.float().requires_grad_()
    turned, expected = (fused.rotated(x, angle.cos(), angle.sin()) for x in (narrow, wide))
    assert all(torch.equal(one, other) for one, other in zip(turned, expected, strict=True))
    (back,) = torch.autograd.grad(turned, narrow, gradients)
    (wanted,) = torch.autograd.grad(expected, wide, gradients)
    assert torch.equal(back, wanted.bfloat16())


@needs_kernels
@pytest.mark.parametrize("width", [5, 16, 37])
def test_the_gates_dropout_is_the_layers_own(width, threads):
    """Bits and all, there and back; bfloat16 is rounded after it, once."""
    halves, gradient = torch.randn(700, 2 * width), torch.randn(700, width).bfloat16()

    def dropped(given, together):
        given = given.clone().requires_grad_()
        torch.manual_seed(4)
        made = fused.gated_gelu(given, 0.3) if together else dropout(fused.gated_gelu(given), 0.3)
        return made, torch.autograd.grad(made, given, gradient.to(made.dtype))[0]

    for one, other in zip(dropped(halves, True), dropped(halves, False), strict=True):
        assert torch.equal(one, other)
    narrow = halves.bfloat16()
    for one, other in zip(dropped(narrow, True), dropped(narrow.float(), False), strict=True):
        assert torch.equal(one, other.bfloat16())


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_gates_dropout_without_kernels(rate, plain):
    halves = torch.randn(20, 16).bfloat16()
    torch.manual_seed(4)
    found = fused.gated_gelu(halves, rate)
    torch.manual_seed(4)
    assert torch.equal(found, torch.dropout(fused.gated_gelu(halves), rate, train=True))


@needs_kernels
def test_bfloat16_rounds_as_torch_does():
    values = torch.tensor(
        [0.0, -0.0, 1.00390625, 1.01171875, 3e38, 3.4e38, -3.4e38, 1e-40, torch.nan, torch.inf]
    )
    # gelu(x) is x for large x: the rest of the range comes by the gate.
    narrow = fused.gated_gelu(torch.stack([torch.full_like(values, 64.0), values / 64], 1).bfloat16())
    wide = torch.full_like(values, 64.0) * (values / 64).bfloat16().float()
    torch.testing.assert_close(narrow[:, 0], wide.bfloat16(), rtol=0, atol=0, equal_nan=True)


@needs_kernels
def test_nothing_and_strided_inputs():
    assert fused.gated_gelu(torch.empty(0, 8)).shape == (0, 4)
    halves = torch.randn(9, 24)[:, ::3]
    torch.testing.assert_close(fused.gated_gelu(halves), fused.gated_gelu(halves.contiguous()))
    whole = torch.randn(6, 16, requires_grad=True)
    (one,) = torch.autograd.grad(fused.gated_gelu(whole).sum(), whole)
    (every,) = torch.autograd.grad(fused.gated_gelu(whole), whole, torch.ones(6, 8))
    assert torch.equal(one, every)


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


def test_bfloat16_products_are_widened_for_the_kernels():
    made = packed.enable(model())
    stocked = fused.unfuse(copy.deepcopy(made))
    batch = stock.batch([9, 4])
    plain, plain_gradients = results(stocked, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (logits, gradients), (expected, stock_gradients) = results(made, batch), results(stocked, batch)
    # No further from float32 than the stock layers under autocast are.
    assert 0 < (logits - plain).norm() <= 1.5 * (expected - plain).norm()
    for name, gradient in plain_gradients.items():
        off = (stock_gradients[name] - gradient).norm()
        assert (gradients[name] - gradient).norm() <= 2 * off + 1e-6, name


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
