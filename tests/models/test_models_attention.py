"""Attention over packed sequences: the compiled kernel against torch's, in float64."""

from __future__ import annotations

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from wellread.models.attention import attend, available, reference
from wellread.sparsity.kernels import build

pytestmark = pytest.mark.skipif(build.load_attention() is None, reason="no C++ compiler")


def compare(lengths, heads=2, key_heads=2, size=16, seed=0, spread=1.0, bound=1e-5, **rule):
    torch.manual_seed(seed)
    tokens = sum(lengths)
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    leaves = [torch.randn(tokens, n, size) * spread for n in (heads, key_heads, key_heads)]
    rule = {"scale": size**-0.5} | rule
    dy = torch.randn(tokens, heads, size)
    results = []
    for function, kind in ((attend, torch.float32), (reference, torch.float64)):
        wide = [one.to(kind).requires_grad_() for one in leaves]
        torch.manual_seed(seed)  # of dropout
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
def test_every_width_and_rule(size, rule, threads):
    compare([130, 7, 48, 1, 290], size=size, **rule)


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
def test_odd_shapes(lengths, heads, size, causal, distance, dropout, seed):
    compare(lengths, *heads, size, seed, causal=causal, distance=distance, dropout=dropout)


def test_long_sequences_and_no_tokens():
    compare([1500, 3], size=64, distance=64)
    compare([1100], size=64)
    empty = torch.empty(0, 2, 8, requires_grad=True)
    y = attend(empty, empty, empty, torch.zeros(1, dtype=torch.int32), scale=1.0)
    assert torch.autograd.grad(y.sum(), empty)[0].shape == (0, 2, 8)


def test_large_scores_do_not_overflow():
    # A score of some 4,000 is rounded by 2e-4, and its exponential is off by as much.
    compare([60, 33], size=16, spread=30.0, bound=2e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_same_bits_with_any_number_of_threads(dropout):
    torch.manual_seed(0)
    leaves = [torch.randn(500, 3, 32, requires_grad=True) for _ in range(3)]
    starts = torch.tensor([0, 100, 101, 333, 500]).int()
    results = []
    for count in (1, 2, 1):
        torch.set_num_threads(count)
        torch.manual_seed(1)
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
    order = ["portable", "AVX2", "AVX512"]
    path = build.compiled(name, (), build.ATTENTION)
    if order.index(name) > order.index(build.instructions()):
        pytest.skip(f"this machine has no {name}")
    library = ctypes.CDLL(str(path))
    monkeypatch.setattr(build, "load_attention", lambda: library)
    compare([130, 7, 48, 1], size=64, distance=20, dropout=0.3)
    compare([61, 12], size=20, causal=True)


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
