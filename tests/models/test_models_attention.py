"""Attention over packed sequences: the compiled kernel against torch's, in float64."""

from __future__ import annotations

import ctypes
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from narrow import multiplying, narrow_too
from wellread.models.attention import attend, available, reference
from wellread.sparsity.kernels import build

pytestmark = pytest.mark.skipif(build.load_attention() is None, reason="no C++ compiler")


def compare(lengths, heads=2, key_heads=2, size=16, seed=0, spread=1.0, bound=1e-5, narrow=False, **rule):
    """Check the result and its gradients.

    Of bfloat16 what is given is exact; weights and errors have 8 bits: sums of either are off by that much
    of the largest number that they are multiplied with.
    """
    torch.manual_seed(seed)
    tokens = sum(lengths)
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    leaves = [torch.randn(tokens, n, size) * spread for n in (heads, key_heads, key_heads)]
    rule = {"scale": size**-0.5} | rule
    dy = torch.randn(tokens, heads, size)
    if narrow:
        leaves, dy = [one.bfloat16().float() for one in leaves], dy.bfloat16().float()
        bound = max(bound, 2**-7 * max(float(one.abs().max()) for one in (*leaves, dy)))
    results = []
    for function, kind in ((attend, torch.float32), (reference, torch.float64)):
        wide = [one.to(kind).requires_grad_() for one in leaves]
        torch.manual_seed(seed)  # of dropout
        with multiplying(narrow and function is attend):
            y = function(*wide, starts, **rule)
        results.append([y.detach(), *torch.autograd.grad(y, wide, dy.to(kind))])
    for name, found, expected in zip(("y", "dq", "dk", "dv"), *results, strict=True):
        size = max(1.0, float(expected.abs().max()))  # the inputs are of size one
        assert ((found.double() - expected).abs() <= bound * size).all(), name


@pytest.mark.parametrize("size", [64, 32, 16, 20, 1, 80])
@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"causal": True},
        {"distance": 5},
        {"distance": 64, "causal": True},
        {"dropout": 0.1},
        {"dropout": 0.7, "distance": 40},
    ],
)
@narrow_too
def test_every_width_and_rule(size, rule, threads, narrow):
    compare([130, 7, 48, 1, 290], size=size, narrow=narrow, **rule)


@narrow_too
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=5),
    st.sampled_from([(1, 1), (4, 2), (6, 1)]),
    st.integers(1, 70),
    st.booleans(),
    st.none() | st.integers(0, 200),
    st.sampled_from([0.0, 0.25]),
    st.integers(0, 99),
)
def test_odd_shapes(narrow, lengths, heads, size, causal, distance, dropout, seed):
    rule = {"causal": causal, "distance": distance, "dropout": dropout}
    compare(lengths, *heads, size, seed, narrow=narrow, **rule)


@narrow_too
def test_long_sequences(narrow):
    compare([1500, 3], size=64, distance=64, narrow=narrow)
    compare([1100], size=64, narrow=narrow)


def test_no_tokens():
    empty = torch.empty(0, 2, 8, requires_grad=True)
    y = attend(empty, empty, empty, torch.zeros(1, dtype=torch.int32), scale=1.0)
    assert torch.autograd.grad(y.sum(), empty)[0].shape == (0, 2, 8)


def test_large_scores_do_not_overflow():
    # A score of some 4,000 is rounded by 2e-4, and its exponential is off by as much.
    compare([60, 33], size=16, spread=30.0, bound=2e-3)


@narrow_too
def test_equal_weights_give_the_mean(narrow):
    """Of so many keys as bfloat16 has the inverse of: exactly but for the rounding of float32."""
    torch.manual_seed(0)
    query = torch.zeros(77, 2, 24, requires_grad=True)
    key, value, dy = (torch.randn(77, 2, 24).bfloat16().float() for _ in range(3))
    value.requires_grad_()
    with multiplying(narrow):
        y = attend(query, key, value, torch.tensor([0, 64, 65, 69, 77]).int(), scale=0.5)
    (found,) = torch.autograd.grad(y, value, dy)
    for begin, end in ((0, 64), (64, 65), (65, 69), (69, 77)):
        for result, mean in ((y, value), (found, dy)):
            expected = mean[begin:end].mean(0, keepdim=True).expand(end - begin, -1, -1)
            torch.testing.assert_close(result[begin:end], expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_taken_only_under_autocast():
    torch.manual_seed(0)
    leaves = [torch.randn(50, 1, 16) for _ in range(3)]
    starts = torch.tensor([0, 50]).int()
    plain = attend(*leaves, starts, scale=1.0)
    with patch.object(build, "fast_bfloat16", lambda: True):
        assert torch.equal(attend(*leaves, starts, scale=1.0), plain)
    with multiplying(narrow=True):
        assert not torch.equal(attend(*leaves, starts, scale=1.0), plain)


@narrow_too
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_same_bits_with_any_number_of_threads(dropout, narrow):
    torch.manual_seed(0)
    leaves = [torch.randn(500, 3, 32, requires_grad=True) for _ in range(3)]
    starts = torch.tensor([0, 100, 101, 333, 500]).int()
    results = []
    for count in (1, 2, 1):
        torch.set_num_threads(count)
        torch.manual_seed(1)
        with multiplying(narrow):
            y = attend(*leaves, starts, scale=0.2, dropout=dropout)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_strided_inputs_and_gradients():
    torch.manual_seed(0)
    starts = torch.tensor([0, 9, 20]).int()
    whole = torch.randn(20, 3, 2, 8, requires_grad=True)
    parts = whole.unbind(1)
    strided = attend(*parts, starts, scale=0.3)
    plain = attend(*(one.contiguous() for one in parts), starts, scale=0.3)
    assert torch.equal(strided, plain)
    one = torch.autograd.grad(strided.sum(), whole, retain_graph=True)[0]
    every = torch.autograd.grad(strided, whole, torch.ones(20, 2, 8))[0]
    assert torch.equal(one, every)


@pytest.mark.parametrize("name", build.INSTRUCTIONS)
def test_every_instruction_set_of_this_machine(name, monkeypatch):
    order = ["portable", "AVX2", "AVX512", "AVX512_BF16"]
    path = build.compiled(name, (), build.ATTENTION)
    if order.index(name) > order.index(build.instructions()):
        pytest.skip(f"this machine has no {name}")
    library = ctypes.CDLL(str(path))
    monkeypatch.setattr(build, "load_attention", lambda: library)
    compare([130, 7, 48, 1], size=64, distance=20, dropout=0.3)
    compare([61, 12], size=20, causal=True)
    compare([130, 7, 48, 1], size=64, distance=20, dropout=0.3, narrow=True)


def test_second_derivatives_are_refused_and_the_kernel_can_be_switched_off():
    query = torch.randn(5, 1, 4, requires_grad=True)
    starts = torch.tensor([0, 5]).int()
    (first,) = torch.autograd.grad(
        attend(query, query, query, starts, scale=1.0).sum(), query, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        torch.autograd.grad(first.sum(), query)
    assert available(query, query, query)
    with sdpa_kernel(SDPBackend.MATH):
        assert not available(query, query, query)
